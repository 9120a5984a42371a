"""From one directory to another: planned, written, read back, published."""
