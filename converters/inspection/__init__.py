"""What a directory of weights is, and what is wrong with it, without stopping at the first thing."""
