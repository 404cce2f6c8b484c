"""Measures how large each input feature of each matrix is on a text, and derives the scales of ``weights/scaled.py``.

SmolLM2-135M with its outliers, int4 in blocks of 64 with zero points, round to nearest (mean KL): 0.70 unscaled; 0.30
and 0.225 with exponents 1/4 and 1/2 for the norms alone; 0.163 with down_proj as well, 0.157 with o_proj as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CalibrationError
from ..export.decoder import ALL_POSITIONS
from ..models.spec import ModelSpec
from ..progress import Share, no_share
from ..streaming.float_model import FloatModel
from ..weights.scaled import LM_HEAD, Scale
from ..weights.source import WeightSource, check_finite

TOKENS = 512  # measured tokens
_EXPONENT = 0.5
# Of the median root mean square of the features that are used at all: one that is hardly used must not cost the others
# precision.
_LEAST = 0.05
_STEPS = 8  # scales per factor of two: rounding them makes them independent of the order of summation


def input_scales(
    source: WeightSource, spec: ModelSpec, texts: Sequence[Sequence[int]], threads: int, progress: Share = no_share
) -> dict[str, Scale]:
    """Run the float model on texts and measure the input features of each matrix.

    Args:
        source: The weights.
        spec: The model.
        texts: Token ids.
        threads: Threads of onnxruntime.
        progress: Called with (stages done, stages in all).

    Returns:
        s by the matrix's name in ``layout.py``: (in,), powers of 2 ** (1 / 8) around 1; for o_proj one factor per
        feature of the value heads, (kv_heads * head_dim,). There is no entry for an lm_head that shares the
        embedding's table.

    Raises:
        NonFiniteWeightError: A weight is NaN or infinite.
        CalibrationError: The inputs of a matrix are NaN or infinite although all weights are finite.
    """
    model = FloatModel(source, spec, max(map(len, texts)), threads)
    squares: dict[str, NDArray[np.float64]] = {}

    def observe(weight: str, inputs: Sequence[NDArray[Any]]) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            squares[weight.removesuffix(".weight")] = sum(np.square(x[0], dtype=np.float64).sum(0) for x in inputs)

    live = [model.feed(ids) for ids in texts]
    stages = model.graph.num_stages
    for stage in range(stages):
        progress(stage, stages)
        model.graph.run_stage(stage, live, ALL_POSITIONS, observe)
    if not spec.tied_embeddings:
        observe(LM_HEAD, [values[model.graph.head_input] for values in live])
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
    """The square root of the root mean squares, normalized to a mean of 1 in the logarithm."""
    used = rms[rms > 0]
    least = _LEAST * max(float(np.median(used)) if len(used) else 0, float(np.finfo(np.float32).tiny))
    logs = np.log2(np.maximum(rms, least)) * _EXPONENT
    return np.asarray(np.exp2(np.round((logs - logs.mean()) * _STEPS) / _STEPS), np.float32)
