"""What a checkpoint is as files: which of a folder make one up, what lies where, how new ones are written."""
