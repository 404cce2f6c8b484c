"""The float model of a checkpoint, streamed: the exporter's own graph, with weights read as they are needed.

Artifacts are measured against it (``quality/compare.py``) and calibrated with it (``calibration/``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..export.decoder import build_decoder
from ..export.rotary import rotary_rows
from ..layout import DataLayout, Matrix, Vector, plan_layout
from ..models.spec import ModelSpec, TensorRef
from ..scheme import QuantizationConfig
from ..weights.source import WeightSource
from .graph import StreamedModel

EMBEDDED = "/model/embed_tokens/Gather/output_0"
_READ_WEIGHTS = 4 << 20  # weights read at a time: few compared with a piece, but long enough for fast disk reads


class FloatModel:
    """A checkpoint's float graph in float32.

    Args:
        source: The weights.
        spec: The model.
        max_context: Positions it can read.
        threads: Threads of onnxruntime.

    Attributes:
        graph: The streamed graph.
        layout: The layout whose names the graph's initializers have.
    """

    def __init__(self, source: WeightSource, spec: ModelSpec, max_context: int, threads: int) -> None:
        self.layout = plan_layout(spec, QuantizationConfig.none(), "float32", max_context)
        self._provider = _Provider(self.layout, source, spec)
        self.graph = StreamedModel(build_decoder(spec, self.layout, ""), provider=self._provider, threads=threads)
        self._source, self._spec = source, spec
        self._cache = empty_cache(spec, "float32")

    def embed(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Look up the embedding's rows, (1, tokens, hidden), here, since the whole table would be the largest piece."""
        table = self._spec.embedding
        rows = {i: self._source.rows(table, i, i + 1)[0].astype(np.float32) for i in set(ids)}
        return np.stack([rows[i] for i in ids])[None]

    def weight(self, name: str) -> NDArray[np.float32]:
        """The value of an initializer."""
        return np.asarray(self._provider(name, None), np.float32)

    def feed(self, ids: Sequence[int]) -> dict[str, NDArray[Any]]:
        """The graph's inputs for a text, read from its first token."""
        return {EMBEDDED: self.embed(ids), **self.context(len(ids))}

    def context(self, tokens: int) -> dict[str, NDArray[Any]]:
        """The other inputs for a text of ``tokens`` tokens: the mask and an empty KV cache."""
        return {"attention_mask": np.ones((1, tokens), np.int64), **self._cache}


class _Provider:
    """Reads the float graph's external weights from the source, one piece at a time."""

    def __init__(self, layout: DataLayout, source: WeightSource, spec: ModelSpec) -> None:
        self._source, self._layout, self._spec = source, layout, spec
        self._entries: dict[str, Matrix | Vector] = {v.slot.name: v for v in layout.vectors()}
        for matrix in (*layout.matrices(), layout.lm_head):
            self._entries.update({slot.name: matrix for slot in matrix.slots})

    def __call__(self, name: str, rows: tuple[int, int] | None) -> NDArray[Any]:
        if name.startswith("rotary."):
            cos, sin = rotary_rows(self._spec.rope, 0, self._layout.max_context)
            return np.asarray(cos if name == "rotary.cos" else sin, np.float32)
        entry = self._entries[name]
        refs = (
            [entry.source]
            if isinstance(entry, Vector)
            else [p.bias if name.endswith(".bias") else p.weight for p in entry.parts]
        )
        return self._rows([r for r in refs if r is not None], rows)

    def _rows(self, refs: Sequence[TensorRef], rows: tuple[int, int] | None) -> NDArray[np.float32]:
        """Rows of several tensors, stacked. They are read in pieces, so that only the result is held as a whole."""
        first, last = rows or (0, sum(r.shape[0] for r in refs))
        result = np.empty((last - first, *refs[0].shape[1:]), np.float32)
        step = max(1, _READ_WEIGHTS // (refs[0].shape[1] if len(refs[0].shape) > 1 else 1))
        above = 0
        for ref in refs:
            end = min(last - above, ref.shape[0])
            for start in range(max(first - above, 0), end, step):
                stop = min(start + step, end)
                at = above - first
                result[at + start : at + stop] = self._source.rows(ref, start, stop)
            above += ref.shape[0]
        return result


def empty_cache(spec: ModelSpec, dtype: str) -> dict[str, NDArray[Any]]:
    """The graph's past keys and values at the start of a text."""
    empty = np.zeros((1, spec.num_kv_heads, 0, spec.head_dim), dtype)
    return {f"past_key_values.{i}.{kind}": empty for i in range(spec.num_layers) for kind in ("key", "value")}
