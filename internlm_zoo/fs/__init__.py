"""Files of ours: owned names of unfinished ones, removal within a folder, links, homes."""
