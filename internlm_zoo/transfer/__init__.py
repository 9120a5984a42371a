"""Bytes from one or more locations to one verified file."""
