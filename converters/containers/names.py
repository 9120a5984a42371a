"""Names of the files beside weights."""

from converters.saved import CONVERSION

MODEL_CONFIG, CONFIG = "model_config.pt", "config.json"
RECORD = CONVERSION.file  # beside what `convert` wrote
ADAPTER_CONFIG = "adapter_config.json"
TOKENIZER_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
