"""Logical tensors, and boxes of them in bytes of files: arithmetic only."""
