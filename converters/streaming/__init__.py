"""Logical tensors block by block, from source files and into target tensors, through small buffers."""
