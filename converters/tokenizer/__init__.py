"""Tokenizers: sentencepiece models rewritten as the tokenizer.json that plain AutoTokenizer loads."""
