"""Containers of tensors: torch zip files and safetensors, located by offset, never executed."""
