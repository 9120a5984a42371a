"""What lies beside the weights: tokenizer and generation settings, read together and written for a target."""
