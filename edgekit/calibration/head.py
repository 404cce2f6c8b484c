"""Quantizes the lm_head with GPTQ, for the hidden states that the quantized layers produce.

An lm_head has many rows (150,000) that share only H, so they are read and quantized a piece at a time. The drift of a
piece w is X^T (X_f - X) w^T. The product X^T (X_f - X) is the drift of the identity matrix, so it is summed only once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..errors import CalibrationError
from ..layout import Matrix
from ..quantize.gptq import NotPositiveDefiniteError, quantize_gptq
from ..quantize.packing import PackedLinear
from ..quantize.rtn import NonFiniteError
from ..quantize.sums import InputSums
from ..weights.source import WeightSource, unusable_weight
from .state import CalibrationState
from .stream import Stream, finished_sums, run_all

# Weights quantized together: 64 MB, and three more arrays of that size while they are quantized. H is factorized again
# for each piece, which takes a tenth of the time for 4096 inputs.
CHUNK_WEIGHTS = 16 << 20


def quantize_head(
    streams: Sequence[Stream],
    source: WeightSource,
    head: Matrix,
    state: CalibrationState,
    layers: int,
    bounds: Sequence[tuple[int, int]],
    scale_dtype: str,
    progress: Callable[[float], None],
) -> PackedLinear:
    """Quantize the lm_head.

    Args:
        streams: The float model's stream alone; or the quantized model's, then the float model's.
        source: The weights.
        head: The lm_head's matrix.
        state: Holds the output of the last layer, and stores the finished head.
        layers: Number of layers.
        bounds: First row and last row + 1 of each text in the first stream.
        scale_dtype: The type that stores the scales.
        progress: Called with the fraction that is done.

    Raises:
        CalibrationError: Hidden states are NaN or infinite.
        NonFiniteWeightError: A weight is NaN or infinite, or too large for its scale's type.
    """
    if state.is_finished(layers):
        return state.read_layer(layers, [head])[0]
    if head.scheme is None:
        raise AssertionError(f"{head.name} has no quantization scheme")
    (part,) = head.parts
    width, drifts = head.in_features, len(streams) > 1
    hidden, delta, normed = streams[0].final_norm
    sums = InputSums(np.eye(width, dtype=np.float32), drifts)
    with state.open(layers, width) as rows:
        for _, made in run_all(streams, bounds, {hidden: rows}, "" if delta == hidden else delta, [normed]):
            sums.add(*(inputs for (inputs,) in made))
    h, apart = finished_sums(sums, head.name)
    del sums
    pieces: list[PackedLinear] = []
    step = max(1, CHUNK_WEIGHTS // width)
    for start in range(0, head.out_features, step):
        progress(start / head.out_features)
        w = source.rows(part.weight, start, min(start + step, head.out_features)).astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # a NaN in a weight is reported below
            drift = None if apart is None else (w @ apart.T).T
        try:
            pieces.append(quantize_gptq(w, h.copy(), head.scheme, scale_dtype, drift=drift))
        except NonFiniteError as error:
            dtype = np.dtype(scale_dtype)
            raise unusable_weight(part.weight, error.value, dtype, start + error.row, error.column) from None
        except NotPositiveDefiniteError as error:
            raise CalibrationError(f"{head.name}: {error}") from None
    packed = _joined(pieces)
    state.write_layer(layers, [packed])
    return packed


def _joined(pieces: Sequence[PackedLinear]) -> PackedLinear:
    """Concatenate pieces of one matrix."""
    zero_points = [p.zero_points for p in pieces if p.zero_points is not None]
    return replace(
        pieces[0],
        out_features=sum(p.out_features for p in pieces),
        codes=np.concatenate([p.codes for p in pieces]),
        scales=np.concatenate([p.scales for p in pieces]),
        zero_points=np.concatenate(zero_points) if zero_points else None,
    )
