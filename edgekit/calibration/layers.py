"""Quantizes the layers one by one with GPTQ, each for the inputs it gets from the layers already quantized.

    for each layer:    hidden states -> norm -> H of qkv -> quantize -> attention -> H of o -> quantize
                       -> norm -> H of gate and up -> quantize -> SiLU * up -> H of down -> quantize -> hidden states

So every linear compensates for the rounding before it: on the quantized model's inputs it should produce the outputs of
the float model, which runs in parallel. For each text, both streams (``stream.py``) run from known tensors to the
inputs of a matrix, through one product at most, and both inputs are added to the matrix's sums (``quantize/sums.py``).
A quantized weight is replaced in its stream by the value of its codes.

Memory: the weights of two matrices, one of them also dequantized, one H, one drift, a batch of inputs and the
activations of one text. Hidden states and finished layers are stored in files, or in memory if they are small
(``state.py``), so that an interrupted calibration resumes at the layer it had reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import onnx
from numpy.typing import NDArray

from ..errors import CalibrationError, NonFiniteWeightError
from ..layout import DataLayout, Matrix
from ..models.spec import ModelSpec
from ..progress import Share, no_share
from ..quantize.gptq import NotPositiveDefiniteError, quantize_gptq
from ..quantize.packing import PackedLinear
from ..quantize.rtn import NonFiniteError
from ..quantize.sums import InputSums
from ..weights.source import WeightSource, unusable_weight
from .head import quantize_head
from .state import AnyRows, CalibrationState
from .stream import Stream, finished_sums, run_all

_STEPS_PER_LAYER = 5  # four matrices, and the hidden states of the next layer


@dataclass(frozen=True)
class LayerSettings:
    """How the layers are calibrated.

    Args:
        threads: Threads of onnxruntime and of the native kernels.
        compensate: Inputs come from layers already quantized, and outputs should match the float model's. False: both
            are the float model's.
        half_scales: Choose the codes for scales that float16 can hold, whatever type stores them.
    """

    threads: int
    compensate: bool = True
    half_scales: bool = False


def calibrate(
    source: WeightSource,
    spec: ModelSpec,
    layout: DataLayout,
    texts: Sequence[Sequence[int]],
    state: CalibrationState,
    settings: LayerSettings,
    progress: Share = no_share,
) -> Iterator[tuple[Matrix, PackedLinear]]:
    """Quantize the matrices of the layers, and the lm_head if ``DataLayout.calibrated`` includes it.

    Args:
        source: The weights.
        spec: The model.
        layout: The artifact's layout.
        texts: Token ids; at least one text of at least one token.
        state: Keeps hidden states and finished layers.
        settings: Threads, compensation, type of the scales.
        progress: Called with (layers done, layers in all), fractions included; a calibrated lm_head counts as a layer.

    Yields:
        Each of the layout's ``calibrated`` matrices with its codes, in the order of the file, as soon as it is done.

    Raises:
        CalibrationError: Activations are NaN or infinite; the message names the matrix.
        NonFiniteWeightError: A weight is NaN or infinite, or too large for its scale's type.
        DiskFullError: There is no room for the hidden states.
    """
    longest = max(map(len, texts))
    streams = [Stream(source, spec, longest, settings.threads) for _ in range(2 if settings.compensate else 1)]
    tokens = sum(map(len, texts))
    total = len(layout.layers)
    head = layout.lm_head if layout.lm_head in layout.calibrated() else None
    steps = total if head is None else total + 1
    hidden_bytes = 4 * len(streams) * tokens * spec.hidden_size
    first = min(state.finished_layers(steps, hidden_bytes), total)
    for i in range(first):
        matrices = layout.layers[i].matrices
        yield from zip(matrices, state.read_layer(i, matrices), strict=True)
    if first == 0:
        with state.create(0, spec.hidden_size) as rows:
            for ids, (start, _) in zip(texts, _bounds(texts), strict=True):
                for number, stream in enumerate(streams):
                    rows.write(number * tokens + start, stream.embed(ids))
    for i in range(first, total):
        progress(i, steps)
        layer = _Layer(
            i,
            streams,
            source,
            layout,
            state,
            _bounds(texts),
            settings.half_scales,
            partial(_within, progress, i, steps),
        )
        with ExitStack() as stack:
            packed = layer.quantize(stack)
        state.write_layer(i, packed)
        if i + 1 < total or head is not None:
            layer.advance()
        yield from zip(layout.layers[i].matrices, packed, strict=True)
    if head is not None:
        within = partial(_within, progress, total, steps)
        yield head, quantize_head(streams, source, head, state, total, _bounds(texts), layout.activation_type, within)
    progress(steps, steps)


def _within(progress: Share, layer: int, total: int, share: float) -> None:
    progress(layer + share, total)


def _bounds(texts: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """First row and last row + 1 of each text, the texts one after another."""
    ends = np.cumsum([len(t) for t in texts]).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


class _Layer:
    """One layer of :func:`calibrate`.

    Args:
        index: The layer's number.
        streams: The float model's stream alone; or the quantized model's, then the float model's, whose rows follow
            the others in every file.
        bounds: First row and last row + 1 of each text in the first stream.
        half_scales: See :class:`LayerSettings`.
        progress: Called with the fraction of the layer that is done.
    """

    def __init__(
        self,
        index: int,
        streams: Sequence[Stream],
        source: WeightSource,
        layout: DataLayout,
        state: CalibrationState,
        bounds: list[tuple[int, int]],
        half_scales: bool,
        progress: Callable[[float], None],
    ) -> None:
        self._streams, self._source, self._bounds, self._progress = streams, source, bounds, progress
        self._index, self._state = index, state
        self._stored, self._scale_dtype = layout.activation_type, "float16" if half_scales else layout.activation_type
        self._layer, self._names = layout.layers[index], _Names(streams[0].nodes(), index, len(layout.layers))
        self._tokens, self._done = bounds[-1][1], 0
        self._codes: dict[str, PackedLinear] = {}  # matrices quantized so far, which the first stream uses

    def quantize(self, stack: ExitStack) -> list[PackedLinear]:
        """Quantize the four matrices."""
        layer, at, state = self._layer, self._names, self._state
        hidden = stack.enter_context(state.open(self._index, layer.qkv_proj.in_features))
        count = len(self._streams) * self._tokens
        attended = stack.enter_context(state.scratch("attended", count, layer.o_proj.in_features))
        residual = stack.enter_context(state.scratch("residual", count, layer.qkv_proj.in_features))
        activated = stack.enter_context(state.scratch("activated", count, layer.down_proj.in_features))
        entering: dict[str, AnyRows] = {at.hidden: hidden}
        return [
            self._matrix(layer.qkv_proj, entering, at.hidden_delta, at.qkv_input, {}),
            self._matrix(layer.o_proj, entering, at.hidden_delta, at.o_input, {at.o_input: attended}, hidden),
            self._matrix(
                layer.gate_up_proj, {at.residual: hidden, at.o_input: attended}, "", at.gate_up_input,
                {at.attended_residual: residual},
            ),
            self._matrix(
                layer.down_proj, {at.residual: residual}, at.residual_delta, at.down_input, {at.down_input: activated},
                residual,
            ),
        ]  # fmt: skip

    def advance(self) -> None:
        """Compute the hidden states that enter the next layer; call after :meth:`quantize`."""
        layer, at, state = self._layer, self._names, self._state
        width, count = layer.qkv_proj.in_features, len(self._streams) * self._tokens
        with (
            state.scratch("residual", count, width) as residual,
            state.scratch("activated", count, layer.down_proj.in_features) as activated,
            state.create(self._index + 1, width) as following,
        ):
            given: dict[str, AnyRows] = {at.down_input: activated}
            made_of = run_all(self._streams, self._bounds, given, "", [at.mlp_delta], self._codes)
            for rows, ((delta,), *others) in made_of:
                for (start, stop), made in zip(rows, (delta, *(other for (other,) in others)), strict=True):
                    following.write(start, residual.read(start, stop) + made)

    def _matrix(
        self,
        matrix: Matrix,
        given: dict[str, AnyRows],
        zero: str,
        input_name: str,
        keep: dict[str, AnyRows],
        added_to: AnyRows | None = None,
    ) -> PackedLinear:
        """Sum H over a matrix's inputs and quantize it; from now on its codes replace its weight.

        Args:
            matrix: One of the layout's.
            given: Tensors that are known, as rows.
            zero: See :func:`run_all`.
            input_name: The matrix's input.
            keep: Tensors to write on the way.
            added_to: The tensor to which the matrix's outputs are added. They then compensate for its errors as well.
        """
        weight = self._weight(matrix)
        sums = InputSums(weight, len(self._streams) > 1, added_to is not None)
        for rows, made in run_all(self._streams, self._bounds, given, zero, [input_name, *keep], self._codes):
            for (start, _), (_, *kept) in zip(rows, made, strict=True):
                for file, values in zip(keep.values(), kept, strict=True):
                    file.write(start, values)
            lacking = None
            if added_to is not None and len(rows) > 1:
                lacking = added_to.read(*rows[1]) - added_to.read(*rows[0])
            sums.add(made[0][0], made[1][0] if len(made) > 1 else None, lacking)
        h, drift = finished_sums(sums, matrix.name)
        del sums
        if matrix.scheme is None:
            raise AssertionError(f"{matrix.name} has no quantization scheme")
        try:
            packed = quantize_gptq(weight, h, matrix.scheme, self._scale_dtype, drift=drift)
        except NonFiniteError as error:
            raise self._unusable(matrix, error) from None
        except NotPositiveDefiniteError as error:
            raise CalibrationError(f"{matrix.name}: {error}") from None
        packed = replace(packed, scales=packed.scales.astype(self._stored))
        if drift is not None:
            self._codes[matrix.name] = packed
        self._done += 1
        self._progress(self._done / _STEPS_PER_LAYER)
        return packed

    def _weight(self, matrix: Matrix) -> NDArray[np.float32]:
        return np.concatenate([self._source.rows(p.weight, 0, p.out_features).astype(np.float32) for p in matrix.parts])

    def _unusable(self, matrix: Matrix, error: NonFiniteError) -> NonFiniteWeightError:
        row = error.row
        for part in matrix.parts:
            if row < part.out_features:
                break
            row -= part.out_features
        return unusable_weight(part.weight, error.value, np.dtype(self._scale_dtype), row, error.column)


class _Names:
    """Names of the tensors between a layer's parts. A norm adds its two inputs, the hidden state and a delta."""

    def __init__(self, nodes: dict[str, onnx.NodeProto], index: int, layers: int) -> None:
        norm, at = "SkipSimplifiedLayerNormalization", f"/model/layers.{index}"
        following = "/model/final_norm" if index + 1 == layers else f"/model/layers.{index + 1}/input_norm"
        before, after = nodes[f"{at}/input_norm/{norm}"], nodes[f"{at}/post_attention_norm/{norm}"]
        self.hidden, self.hidden_delta = before.input[:2]
        self.qkv_input = before.output[0]
        self.o_input = nodes[f"{at}/attn/o_proj/FusedMatMul"].input[0]
        self.residual, self.residual_delta = after.input[:2]
        self.gate_up_input, self.attended_residual = after.output[0], after.output[3]
        self.down_input = nodes[f"{at}/mlp/down_proj/FusedMatMul"].input[0]
        self.mlp_delta = nodes[f"{following}/{norm}"].input[1]
