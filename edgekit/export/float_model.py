"""The float model of a checkpoint, streamed: its graph is the exporter's own, its weights are read as they are needed.

The reference that quantized models are measured against (``evaluation.py``) and calibrated with (``calibrate.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..layout import DataLayout, Matrix, Vector, plan_layout
from ..models.spec import ModelSpec
from ..scheme import QuantizationConfig
from .decoder import build_decoder
from .streaming import StreamedModel
from .weights import WeightSource

EMBEDDED = "/model/embed_tokens/Gather/output_0"


class FloatModel:
    """A checkpoint's float graph in float32.

    Args:
        source: The weights.
        spec: The model.
        max_context: Positions it can read.
        threads: For onnxruntime.

    Attributes:
        model: The streamed graph.
        replaced: Values that stand in for weights, by the name of their initializer.
    """

    def __init__(self, source: WeightSource, spec: ModelSpec, max_context: int, threads: int) -> None:
        self.layout = plan_layout(spec, QuantizationConfig.none(), "float32", max_context)
        self._provider = _Provider(self.layout, source, spec)
        self.replaced = self._provider.replaced
        self.model = StreamedModel(build_decoder(spec, self.layout, ""), provider=self._provider, threads=threads)
        self._source, self._spec = source, spec
        self._cache = empty_cache(spec, "float32")

    def embed(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """The embedding's rows, (1, tokens, hidden): looked up here, as the whole table would be the largest piece."""
        table = self._spec.embedding
        rows = {i: self._source.rows(table, i, i + 1)[0].astype(np.float32) for i in set(ids)}
        return np.stack([rows[i] for i in ids])[None]

    def feed(self, ids: Sequence[int]) -> dict[str, NDArray[Any]]:
        """The graph's inputs for a text that starts with its first token."""
        return {EMBEDDED: self.embed(ids), **self.context(len(ids))}

    def context(self, tokens: int) -> dict[str, NDArray[Any]]:
        """The inputs beside the text's own: its length, and that nothing came before it."""
        return {"attention_mask": np.ones((1, tokens), np.int64), **self._cache}


class _Provider:
    """The float graph's external weights, read from the checkpoint one piece at a time."""

    def __init__(self, layout: DataLayout, source: WeightSource, spec: ModelSpec) -> None:
        self.replaced: dict[str, NDArray[np.float32]] = {}
        self._source, self._layout, self._spec = source, layout, spec
        self._entries: dict[str, Matrix | Vector] = {v.slot.name: v for v in layout.vectors()}
        for matrix in (*layout.matrices(), layout.lm_head):
            self._entries.update({slot.name: matrix for slot in matrix.slots})

    def __call__(self, name: str, rows: tuple[int, int] | None) -> NDArray[Any]:
        if name in self.replaced:
            return np.ascontiguousarray(self.replaced[name])  # onnxruntime takes no other
        if name.startswith("rotary."):
            angles = np.arange(self._layout.max_context)[:, None] * np.array(self._spec.rope.inverse_frequencies())
            return np.asarray((np.cos if name == "rotary.cos" else np.sin)(angles), np.float32)
        entry = self._entries[name]
        refs = (
            [entry.source]
            if isinstance(entry, Vector)
            else [p.bias if name.endswith(".bias") else p.weight for p in entry.parts]
        )
        parts = [self._source.rows(r, *(rows or (0, r.shape[0]))).astype(np.float32) for r in refs if r is not None]
        return np.concatenate(parts)


def empty_cache(spec: ModelSpec, dtype: str) -> dict[str, NDArray[Any]]:
    """The graph's past keys and values when nothing came before."""
    empty = np.zeros((1, spec.num_kv_heads, 0, spec.head_dim), dtype)
    return {f"past_key_values.{i}.{kind}": empty for i in range(spec.num_layers) for kind in ("key", "value")}
