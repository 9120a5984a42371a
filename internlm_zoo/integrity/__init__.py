"""Whether what is here is what was released."""
