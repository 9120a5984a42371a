"""A release read by ranges: its weights stay at their hub."""
