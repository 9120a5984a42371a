"""Source layout and target layout to a plan: what is written, of which bytes, in which files."""
