"""What operating systems and file systems do not have in common."""
