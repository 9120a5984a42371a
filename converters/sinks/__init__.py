"""Where the bytes of a plan go: files, memory, digests, a comparison."""
