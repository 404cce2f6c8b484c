"""Chooses 4 or 8 bits for each matrix so that all weights together have a given mean of bits per weight.

The loss of each matrix in 4 bits is measured where the weights are available (``quality/sensitivity.py``). Small losses
of matrices add up, so this is a knapsack problem: avoid the most loss within the available bytes. Except for embedding
and lm_head the matrices are many and small; taken in order of loss per byte they fill the budget to within one matrix.
The two large ones are tried with 4 and with 8 bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain, combinations

from ..errors import UsageError
from ..layout import DataLayout, plan_layout
from ..models.spec import ModelSpec
from ..scheme import QuantizationConfig, QuantizationOverrides, QuantizationScheme

LOW, HIGH = 4, 8
EMBEDDING, LM_HEAD = "model.embed_tokens", "lm_head"  # the layout's names

# The loss of a weight in 4 bits by rounding to nearest, relative to one inside the layers: the KL divergence of
# SmolLM2-135M with one of the three parts in 4 bits and the others in 8 (block 64 with zero points: 0.485, 0.057 and
# 0.005), divided by the part's number of weights.
_TYPICAL = {EMBEDDING: 0.04, LM_HEAD: 0.4}
# The share of the loss that remains with GPTQ, in the same experiment: inside the layers 0.060 of 0.485, lm_head 0.008
# of 0.057.
GPTQ_SHARE = 0.125


@dataclass(frozen=True)
class _Item:
    """A matrix that can have 8 bits: the loss that avoids and the bytes it adds."""

    name: str
    loss: float
    more_bytes: int


def narrow(quantization: QuantizationConfig) -> QuantizationConfig:
    """Every part in ``LOW`` bits, with its own block size and zero points."""
    return _uniform(quantization, LOW)


def choose_widths(
    spec: ModelSpec, quantization: QuantizationConfig, activation_type: str, losses: Mapping[str, float] | None = None
) -> QuantizationConfig:
    """Give each matrix 4 or 8 bits so that the mean is at most ``quantization.mean_bits``.

    Args:
        spec: The model.
        quantization: Block size and zero points of each part; a part in float gets edgekit's defaults.
        activation_type: The type of scales.
        losses: The loss of each matrix that alone is rounded to nearest in 4 bits, by its name in ``layout.py``, in any
            unit. None for the losses of a typical model, to plan before any weight is read.

    Returns:
        The formats, with ``mean_bits`` None. Scales, zero points, norms and biases count, and a tied table counts once.

    Raises:
        UsageError: No choice of widths has this mean.
        ValueError: ``mean_bits`` is None.
    """
    mean = quantization.mean_bits
    if mean is None:
        raise ValueError("mean_bits is None: there are no widths to choose")
    layouts = [plan_layout(spec, _uniform(quantization, bits), activation_type, 1) for bits in (LOW, HIGH)]
    least, most = (8 * layout.weight_bytes / spec.parameters for layout in layouts)
    if not least <= mean <= most:
        raise UsageError(
            f"a mean of {mean:g} bits per weight was requested; allowed with {_described(quantization)}: "
            f"{math.ceil(least * 100) / 100:.2f} to {math.floor(most * 100) / 100:.2f}, scales included",
            hint="larger blocks without zero points are smaller: --block-size 128 --symmetric"
            if mean < least
            else f"the widest format is --bits {HIGH} --embedding-bits {HIGH} --lm-head-bits {HIGH}",
        )
    items = list(_items(layouts[0], layouts[1], losses, quantization.method))
    room = int(mean * spec.parameters / 8) - layouts[0].weight_bytes
    wide = _fill(items, room)
    return _widened(_uniform(quantization, LOW), _uniform(quantization, HIGH), layouts[0], wide)


def _uniform(quantization: QuantizationConfig, bits: int) -> QuantizationConfig:
    return QuantizationOverrides.of_width(bits).applied_to(replace(quantization, matrices={}))


def _items(low: DataLayout, high: DataLayout, losses: Mapping[str, float] | None, method: str) -> Iterable[_Item]:
    for matrix, wider in zip(low.matrices(), high.matrices(), strict=True):
        names = [matrix.name, LM_HEAD] if matrix.name == EMBEDDING and low.shares_embedding else [matrix.name]
        loss = sum(_TYPICAL.get(n, 1.0) * matrix.weights if losses is None else losses[n] for n in names)
        if method == "gptq" and matrix.name != EMBEDDING:
            loss *= GPTQ_SHARE
        yield _Item(matrix.name, loss, wider.size_bytes - matrix.size_bytes)


def _fill(items: list[_Item], room: int) -> set[str]:
    """The names of the matrices that get 8 bits."""
    large = [item for item in items if item.name in (EMBEDDING, LM_HEAD)]
    small = sorted((item for item in items if item not in large), key=lambda item: -item.loss / item.more_bytes)
    best: tuple[float, list[_Item]] = (-1.0, [])
    for first in chain.from_iterable(combinations(large, n) for n in range(len(large) + 1)):
        left, taken = room - sum(item.more_bytes for item in first), list(first)
        if left < 0:
            continue
        for item in small:
            if item.more_bytes <= left:
                taken.append(item)
                left -= item.more_bytes
        avoided = sum(item.loss for item in taken)
        if avoided > best[0]:
            best = avoided, taken
    return {item.name for item in best[1]}


def _widened(
    low: QuantizationConfig, high: QuantizationConfig, layout: DataLayout, wide: set[str]
) -> QuantizationConfig:
    """The low formats, and the high ones for wide matrices. The layers' common format is that of most matrices."""
    inner = [matrix.name for matrix in layout.inner_matrices()]
    mostly_wide = 2 * sum(name in wide for name in inner) > len(inner)
    common, other = (high.linear, low.linear) if mostly_wide else (low.linear, high.linear)
    table = EMBEDDING in wide
    return replace(
        low,
        linear=common,
        embedding=high.embedding if table else low.embedding,
        lm_head=high.lm_head if (table if layout.shares_embedding else LM_HEAD in wide) else low.lm_head,
        matrices={name: other for name in inner if (name in wide) != mostly_wide},
    )


def _described(quantization: QuantizationConfig) -> str:
    scheme = quantization.linear or QuantizationScheme()
    return f"blocks of {scheme.block_size} {'without' if scheme.symmetric else 'with'} zero points"
