"""Input features scaled by what they carry: the same function, of weights that are rounded finely where it matters.

A linear's rounding error counts by the square of its inputs. Scaling feature j of the inputs by 1 / s_j and the
weight's column j by s_j changes nothing, but a block's error, which is as large as its largest weights, then falls on
the scaled inputs: least, for weights of one size, with s_j the root of the feature's root mean square (AWQ, Lin et al.,
https://arxiv.org/abs/2306.00978, section 3.2, where the exponent is searched for). What gives the inputs is scaled by
1 / s_j, so that nothing is left to do at run time:

    q, k, v       the norm before them             o_proj       the rows of v (its heads' groups share them)
    gate, up      the norm before them             down_proj    the rows of up
    lm_head       the final norm, where the table is not the embedding's

SmolLM2-135M with its outliers, int4 in blocks of 64 with zero points, rounded to nearest (mean KL): 0.70 as it is; 0.30
and 0.225 with exponents 1/4 and 1/2 for the norms alone; with down_proj 0.163, with o_proj 0.157.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CalibrationError
from ..export.decoder import ALL_POSITIONS
from ..layout import DataLayout
from ..models.spec import ModelSpec, TensorRef
from ..quantize.packing import PackedLinear
from ..scheme import QuantizationScheme
from ..streaming.float_model import FloatModel
from .checkpoint import WeightSource, check_finite

TOKENS = 512  # to measure on
_EXPONENT = 0.5
_LEAST = 0.05  # of the median root mean square: a feature that is hardly used does not take the others' precision
_STEPS = 8  # to a factor of two: a scale is the same whatever the order of the sums was
_LM_HEAD = "lm_head"

Scale = NDArray[np.float32]


def input_scales(
    source: WeightSource,
    spec: ModelSpec,
    texts: Sequence[Sequence[int]],
    threads: int,
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> dict[str, Scale]:
    """Run the float model over some texts and see what each matrix's input features carry.

    Args:
        source, spec: The weights and the model.
        texts: Token ids.
        threads: For onnxruntime.
        progress: Called with how much is done and how much there is.

    Returns:
        s by the matrix's name in ``layout.py``: (in,), powers of 2 ** (1 / 8) about 1; for o_proj those of the value
        heads, (kv_heads * head_dim,). No lm_head where it is the embedding's table.

    Raises:
        NonFiniteWeightError: A weight is NaN or infinite.
        CalibrationError: The inputs of a matrix are, though no weight is.
    """
    model = FloatModel(source, spec, max(map(len, texts)), threads)
    squares: dict[str, NDArray[np.float64]] = {}

    def observe(weight: str, inputs: Sequence[NDArray[Any]]) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            squares[weight.removesuffix(".weight")] = sum(np.square(x[0], dtype=np.float64).sum(0) for x in inputs)

    model.model.observe = observe
    live = [model.feed(ids) for ids in texts]
    stages = model.model.num_stages
    for stage in range(stages):
        progress(stage, stages)
        model.model.run_stage(stage, live, ALL_POSITIONS)
    if not spec.tied_embeddings:
        observe(_LM_HEAD, [values[model.model.head_input] for values in live])
    progress(stages, stages)
    scales = {}
    for name, found in squares.items():
        if not np.isfinite(found).all():
            check_finite(source, spec)
            raise CalibrationError(
                f"the inputs of {name} are NaN or infinite in the float model",
                hint="the checkpoint is damaged, or its activations are too large for float32",
            )
        if name.endswith("o_proj"):  # the query heads of a group multiply the same values
            groups = found.reshape(spec.num_kv_heads, -1, spec.head_dim)
            found = groups.sum(1).reshape(-1)
        scales[name] = _scale(np.sqrt(found))
    return scales


def _scale(rms: NDArray[np.float64]) -> Scale:
    """The root of the root mean squares, about 1; ones where all are zero."""
    least = _LEAST * max(float(np.median(rms)), float(np.finfo(np.float32).tiny))
    logs = np.log2(np.maximum(rms, least)) * _EXPONENT
    return np.asarray(np.exp2(np.round((logs - logs.mean()) * _STEPS) / _STEPS), np.float32)


class ScaledSource(WeightSource):
    """A source's weights, scaled as they are read.

    Args:
        source: The weights as they are.
        spec: Their model.
        layout: Names of the matrices.
        scales: :func:`input_scales`.
    """

    def __init__(self, source: WeightSource, spec: ModelSpec, layout: DataLayout, scales: Mapping[str, Scale]) -> None:
        self._source = source
        self._columns: dict[TensorRef, Scale] = {}  # multiply
        self._rows: dict[TensorRef, Scale] = {}  # divide
        for layer, at in zip(spec.layers, layout.layers, strict=True):
            read = {
                layer.input_norm: (at.qkv_proj.name, (layer.q_proj, layer.k_proj, layer.v_proj)),
                layer.post_attention_norm: (at.gate_up_proj.name, (layer.gate_proj, layer.up_proj)),
            }
            for norm, (name, readers) in read.items():
                self._rows[norm] = scales[name]
                self._columns |= {linear.weight: scales[name] for linear in readers}
            values = scales[at.o_proj.name]
            each = values.reshape(spec.num_kv_heads, 1, spec.head_dim)
            self._columns[layer.o_proj.weight] = np.repeat(each, spec.num_heads // spec.num_kv_heads, 1).reshape(-1)
            self._columns[layer.down_proj.weight] = scales[at.down_proj.name]
            for linear, scale in ((layer.v_proj, values), (layer.up_proj, scales[at.down_proj.name])):
                self._rows |= {ref: scale for ref in (linear.weight, linear.bias) if ref is not None}
        if _LM_HEAD in scales:
            self._rows[spec.final_norm] = self._columns[spec.lm_head.weight] = scales[_LM_HEAD]

    def rows(self, ref: TensorRef, start: int, stop: int) -> NDArray[np.generic]:
        """As :meth:`WeightSource.rows`; float32 where something is scaled."""
        w = self._source.rows(ref, start, stop)
        if ref in self._columns:
            w = w.astype(np.float32) * self._columns[ref]
        if ref in self._rows:
            scale = self._rows[ref][start:stop]
            w = w.astype(np.float32) / (scale if w.ndim == 1 else scale[:, None])
        return w

    def packed(self, ref: TensorRef, start: int, stop: int, scheme: QuantizationScheme) -> PackedLinear | None:
        """None: codes that a checkpoint holds are no codes of scaled weights."""
        return None

    def release(self) -> None:
        """As :meth:`WeightSource.release`."""
        self._source.release()

    def stored_bytes(self, ref: TensorRef) -> int:
        """As :meth:`WeightSource.stored_bytes`."""
        return self._source.stored_bytes(ref)
