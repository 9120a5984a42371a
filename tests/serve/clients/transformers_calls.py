"""transformers: a config and a tokenizer by name alone. HF_ENDPOINT names the hub; argument: see the test."""

import json
import sys

from transformers import AutoConfig, AutoTokenizer

asked = json.loads(sys.argv[1])
config = AutoConfig.from_pretrained(asked["repo"])
tokenizer = AutoTokenizer.from_pretrained(asked["repo"])
ids = tokenizer(asked["text"])["input_ids"]
calls = {
    "AutoConfig.from_pretrained": [type(config).__name__, config.hidden_size],
    "AutoTokenizer.from_pretrained": [ids, tokenizer.decode(ids, skip_special_tokens=True)],
}
print(json.dumps(calls))
