"""Config keys without effect on the function that a model computes, and words that betray those with one.

Facts: transformers 4.37 to 5.24 configuration_utils.py (PretrainedConfig) and models/llama; released
config.json of InternLM, 2, 2.5 and 3. Those of the original format are in internevo.py. Dropout and
initialisation do nothing once a model is trained, and which kernel computes attention changes no function.
"""

from __future__ import annotations

import re


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


HF_INERT = names(
    """
    model_type architectures auto_map custom_pipelines _name_or_path name_or_path transformers_version
    _commit_hash transformers_weights unsloth_version unsloth_fixed tokenizer_class prefix
    task_specific_params finetuning_task
    problem_type id2label label2id num_labels torchscript use_bfloat16 tf_legacy_loss use_cache return_dict
    output_hidden_states output_attentions output_scores return_dict_in_generate attn_implementation
    _attn_implementation _attn_implementation_internal _attn_implementation_autoset _experts_implementation
    _experts_implementation_internal _flash_attn_2_enabled use_flash_attention use_flash_attn
    chunk_size_feed_forward is_encoder_decoder is_decoder cross_attention_hidden_size add_cross_attention
    tie_encoder_decoder tie_last_hidden_states gradient_checkpointing pretraining_tp max_sequence_length
    seq_length max_length min_length do_sample early_stopping num_beams num_beam_groups temperature top_k
    top_p typical_p bad_words_ids num_return_sequences forced_bos_token_id forced_eos_token_id
    remove_invalid_values suppress_tokens begin_suppress_tokens no_repeat_ngram_size
    encoder_no_repeat_ngram_size sep_token_id decoder_start_token_id unk_token_id reward_token_id
    """
)

TRAINING = re.compile(r"dropout|pdrop|drop_rate|(^|_)(init|initializer|penalty|loss|coef|grad)(_|$)")
"""Parts of names of what has an effect in training, or on the choice of tokens, alone."""

TOUCHING = re.compile(
    r"(^|_)("
    r"attn|attention|heads?|kv|qkv?|window|sliding|causal|mask|layer_types|"
    r"rope|rotary|ntk|yarn|xpos|alibi|positions?|(layer|rms)?norms?|eps|epsilon|"
    r"act|activation|gelu|silu|swiglu|glu|scales?|scaling|multipliers?|softcap|softcapping|logits?|"
    r"residual|skip|experts?|moe|router|vocab|embd|embed|embeddings?|tied?|bias|per_layer"
    r")(_|$)"
)
"""Words in names that say that attention, rotation, norms, activation, scales, residuals, experts or the
vocabulary are touched."""

_NONE = frozenset({"None"})
_OFF = _NONE | {"False", "[]", "{}", "''"}
NEUTRAL: tuple[tuple[re.Pattern[str], frozenset[str]], ...] = (
    # What these models have: to leave it out would change them.
    (re.compile(r"^(use|apply|with|is|has)_.*(rope|rotary|rms|norm|swiglu|silu|glu|causal)"), _NONE),
    (re.compile(r"(^|_)(scales?|scaling|multipliers?|factor)(_|$)"), _NONE | {"1", "1.0"}),
    (re.compile(r"(^|_)(experts?|moe)(_|$)"), _OFF | {"0"}),
    (re.compile(r"(^|_)(eps|epsilon|act|activation|vocab|heads?|embd)(_|$)"), _NONE | {"{}", "[]"}),
    (re.compile(""), _OFF),
)
"""repr of the values with which a key of such a name changes nothing; the first pattern that fits counts."""
