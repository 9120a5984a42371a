"""Other tools' caches and folders: found, adopted, imported, published to."""
