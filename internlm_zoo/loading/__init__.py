"""A checkpoint on devices, as a model that runs: placed by sizes, built of stock classes."""
