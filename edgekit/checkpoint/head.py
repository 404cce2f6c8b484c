"""Decides whether a model's lm_head is its embedding. The stored tensors decide, and config.json only where they allow.

    stored                      config.json: tied          untied               does not say
    embedding, equal lm_head    tied                       tied                 tied
    embedding, other lm_head    untied                     untied               untied
    embedding                   tied                       lm_head is missing   tied
    lm_head                     tied, from the lm_head     the embedding is missing

transformers 5 does the same for a tied model (``PreTrainedModel.tie_weights``). It would draw a missing lm_head at
random: edgekit refuses such a model if config.json says that it is untied, and otherwise takes it as tied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import TensorInfo

KEY = "tie_word_embeddings"
HUGGING_FACE = ("model.embed_tokens.weight", "lm_head.weight")
GGUF = ("token_embd.weight", "output.weight")
_PIECE_WEIGHTS = 1024 * 1024  # read at a time of each table

Rows = Callable[[TensorInfo, int, int], "NDArray[Any] | None"]


@dataclass(frozen=True)
class HeadDecision:
    """What :func:`decide_head` decided.

    Attributes:
        config: Keys to change in the config.
        tensors: Tensors to add: an embedding that is stored as lm_head.
        notes: What the user should know.
    """

    config: Mapping[str, bool] = field(default_factory=dict)
    tensors: Mapping[str, TensorInfo] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def decide_head(
    config: Mapping[str, Any], tensors: Mapping[str, TensorInfo], names: tuple[str, str], rows: Rows
) -> HeadDecision:
    """Decide whether lm_head is the embedding.

    Args:
        config: The checkpoint's, with ``tie_word_embeddings`` as the file says it.
        tensors: The checkpoint's.
        names: The names of the embedding and of lm_head.
        rows: Reads rows of a tensor; None for a type that cannot be read, which then counts as different. The first
            rows that differ end the comparison.
    """
    said = config.get(KEY)
    embedding, head = (tensors.get(name) for name in names)
    quantized = f"{names[1].removesuffix('.weight')}.qweight" in tensors
    if embedding is None:
        if head is None or not said:
            return HeadDecision()  # an error names the missing tensor
        note = f"the embedding is tied and stored as {names[1]} only; it is read from there"
        return HeadDecision(tensors={names[0]: head}, notes=(note,))
    if head is None and not quantized:
        if said is not None:
            return HeadDecision()
        note = f"config.json does not say {KEY} and there is no {names[1]}: the embedding is used as lm_head"
        return HeadDecision({KEY: True}, notes=(note,))
    if head is not None and _equal(embedding, head, rows):
        if said:
            return HeadDecision()
        return HeadDecision({KEY: True}, notes=(f"{names[1]} equals {names[0]}: one table is used for both",))
    if not said:
        return HeadDecision({KEY: False})
    stored = f"{names[1]} is stored and differs from the embedding"
    note = f"config.json says {KEY} = true, but {stored}: the stored lm_head is used"
    return HeadDecision({KEY: False}, notes=(note,))


def _equal(one: TensorInfo, other: TensorInfo, rows: Rows) -> bool:
    """Whether two matrices have the same values, compared a piece at a time."""
    if one.shape != other.shape or len(one.shape) != 2:
        return False
    count, columns = one.shape
    step = max(1, _PIECE_WEIGHTS // max(1, columns))
    for start in range(0, count, step):
        stop = min(start + step, count)
        here, there = rows(one, start, stop), rows(other, start, stop)
        if here is None or there is None or not np.array_equal(here.astype(np.float32), there.astype(np.float32)):
            return False
    return True
