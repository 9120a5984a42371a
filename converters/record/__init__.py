"""conversion.json: written, read, and held against what lies beside it."""
