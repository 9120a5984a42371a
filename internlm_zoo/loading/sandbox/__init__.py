"""The process in which a checkpoint's tokenizer and chat template run, within limits."""
