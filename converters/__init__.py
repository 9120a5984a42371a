"""Checkpoints: tensors and file formats. Knows nothing of hubs or of the command line."""
