"""Says why a plan has a smaller KV cache than the engine's default, and what that costs; ``draft.py`` chooses it."""

from __future__ import annotations

from ..units import format_bytes
from .engine_choice import EnginePlan

# Mean KL divergence of the predictions from those with a float16 cache, in nats per token: the lowest and the highest
# of three texts. Measured with tools/kv_cost.py on a Zen 4 with AVX-512. For SmolLM2 nearly all is rounding of the
# int8 activations: with a float16 cache, the same sums in another order have 0.0036 to 0.0056. For Qwen2.5 they have
# 0.0006 to 0.0024.
INT8_KL = {"SmolLM2-135M": (0.0039, 0.0065), "Qwen2.5-Coder-1.5B": (0.0017, 0.0091)}


def because_it_fits(default: EnginePlan) -> str:
    """Why the smaller cache was chosen.

    Args:
        default: The model with the engine's default type, which does not fit.

    Returns:
        What the default would need: ``float16 would need 5.63 GB, 430 MB more than is usable``.
    """
    need, over = default.memory.peak, default.memory.peak - default.usable_bytes
    return f"{default.kv_type} would need {format_bytes(need)}, {format_bytes(over)} more than is usable"


def cost(kv_type: str) -> str:
    """What a type of keys and values costs compared with float16, as measured; empty for nothing."""
    if kv_type != "int8":
        return ""
    costs = (f"{low:.4f} to {high:.4f} for {model}" for model, (low, high) in INT8_KL.items())
    return f"it changes the predictions by a mean KL divergence of {' and '.join(costs)}, in nats per token"
