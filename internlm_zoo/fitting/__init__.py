"""How much memory a model needs before any of it is there, from facts of the registry or from headers."""
