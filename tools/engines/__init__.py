"""The engine matrix: what other programs make of the directories that `convert` writes."""
