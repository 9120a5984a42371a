"""The mirror image of `sources`: answers the hubs' download protocols for a directory, read-only."""
