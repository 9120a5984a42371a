"""How many faults the smoke tests catch: seeded ones, in copies of small models, each judged as by a user."""
