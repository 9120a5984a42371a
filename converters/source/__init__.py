"""What lies in a folder: its weights, their headers, its family, every logical tensor in its place."""
