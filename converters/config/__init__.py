"""What a config says: each fact with its origin, and how every format spells it."""
