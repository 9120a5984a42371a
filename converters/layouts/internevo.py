"""What the configs of InternEvo's models say, whichever family: what is demanded, what has no effect.

Facts: InternEvo internlm/model/modeling_internlm.py and modeling_internlm2.py (arguments of the models,
at c628a8c and later), initialize/launch.py (what is added to a config), model/builder.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from converters.layouts.inert import names

# Of the families' sentencepiece models, which no config of theirs says.
TOKEN_IDS: Mapping[str, object] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
ORIGINAL_DEMANDS: Mapping[str, tuple[object, ...]] = {
    "num_chunks": (1,),
    "norm_type": ("rmsnorm",),
    "num_experts": (0, 1),
    "apply_post_layer_norm": (False,),
    "use_swiglu": (True,),
    "is_reward": (False,),
}
ORIGINAL_INERT = names(
    """
    model_type checkpoint checkpoint_fraction use_flash_attn use_fp32_norm embed_grad_scale parallel_output
    sequence_parallel device first last start_layer_idx multiple_of mlp_layer_fusion enable_qkv_fusion
    use_scaled_init dropout_selective_checkpoint residual_in_fp32 fused_dropout_add_ln tp_mode
    moe_type moe_use_residual moe_layer_kwargs moe_gate_k moe_capacity_factor moe_eval_capacity_factor
    moe_min_capacity moe_noisy_gate_policy moe_drop_tokens moe_use_rts use_moe top_k num_shared_experts
    """
)
"""Those of experts mean something only with num_experts above 1, which is refused."""
