"""From a model's name to a folder of checked files, by way of whichever hub delivers them."""
