"""What every file must hold, said slowly: random models, and the checkpoints of them in each format.

Shares no code with `converters`. A model is a dict of the stock Llama tensors (q, k and v apart, rotary
halves as Hugging Face has them) as bit patterns, so comparing is comparing bytes; `cells` cuts it into the
state dicts that InternEvo's ranks would save and `hf_tensors` names it as the released repositories do.
Facts: InternEvo's convert2hf_internlm*.py, modeling_internlm*.py, checkpoint/components.py and
core/scheduler's partition_uniform; torch writes and reads the files.
"""

from __future__ import annotations

from tests.converters.oracle.huggingface import expected, hf_tensors, read_hf, write_hf, write_tied
from tests.converters.oracle.models import (
    BOTH,
    EMBEDDING_KEYS,
    INTERNLM,
    INTERNLM2,
    Dims,
    Variant,
    interleaved,
    make_model,
)
from tests.converters.oracle.original import (
    cells,
    read_cells,
    read_config,
    stages_of,
    variant_of,
    write_original,
)

__all__ = [
    "BOTH",
    "EMBEDDING_KEYS",
    "INTERNLM",
    "INTERNLM2",
    "Dims",
    "Variant",
    "cells",
    "expected",
    "hf_tensors",
    "interleaved",
    "make_model",
    "read_cells",
    "read_config",
    "read_hf",
    "stages_of",
    "variant_of",
    "write_hf",
    "write_original",
    "write_tied",
]
