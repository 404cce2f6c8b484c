"""Finds activations that float16 cannot hold, and the factors that make them small enough (``weights/shrunk.py``).

The float model reads a short text, a layer at a time, and the largest value of each tensor of the graph is noted.
Quantization changes the values, but not their size. Massive activations belong to the first token and to delimiters, so
a few dozen tokens show them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CalibrationError
from ..export.decoder import ALL_POSITIONS
from ..models.spec import ModelSpec
from ..progress import Share, no_share
from ..streaming.float_model import EMBEDDED, FloatModel
from ..streaming.graph import Values
from ..weights.shrunk import Shrinking
from ..weights.source import WeightSource, check_finite

TOKENS = 64  # measured tokens
LARGEST = 65504  # of float16
_MARGIN = 4  # the artifact's activations on other texts may be larger
_HINT = (
    'build for a device that computes in float32, such as cpu, or set activation_type = "float32" in a copy of the '
    "device's profile"
)


@dataclass(frozen=True)
class Widest:
    """The largest absolute value of each tensor on a text.

    Attributes:
        residual: Of the residual stream, with the name of what wrote it.
        values: Of each layer's attention values and outputs.
        up: Of each layer's output of up_proj, and of its product with the gate.
        others: Of what cannot be made smaller, with its name: inputs of matrices, queries, keys and gates.
    """

    residual: tuple[float, str]
    values: tuple[float, ...]
    up: tuple[float, ...]
    others: tuple[float, str]


def measure_widest(
    source: WeightSource, spec: ModelSpec, texts: Sequence[Sequence[int]], threads: int, progress: Share = no_share
) -> Widest:
    """Run the float model on texts and find its largest activations.

    Args:
        source: The weights.
        spec: The model.
        texts: Token ids.
        threads: Threads of onnxruntime.
        progress: Called with (stages done, stages in all).

    Raises:
        NonFiniteWeightError: A weight is NaN or infinite.
        CalibrationError: An activation is NaN or infinite although all weights are finite.
    """
    return _Measurement(source, spec, texts, threads).widest(progress)


def shrinking(widest: Widest, spec: ModelSpec) -> Shrinking:
    """The factors that bring every activation to a quarter of float16's range.

    Raises:
        CalibrationError: An activation that cannot be made smaller is too large for float16; the message names it.
    """
    largest, name = widest.others
    found = Shrinking(_factor(widest.residual[0]), tuple(map(_factor, widest.values)), tuple(map(_factor, widest.up)))
    if largest > LARGEST:
        raise CalibrationError(
            f"float16 overflows: {name} reaches {largest:.3g} in the float model; float16 holds {LARGEST} at most",
            _HINT,
        )
    return found


def described(widest: Widest, by: Shrinking) -> str | None:
    """A note about the factors; None if float16 could hold everything, though with a smaller margin."""
    if max(widest.residual[0], *widest.values, *widest.up) <= LARGEST:
        return None
    parts = []
    if by.residual != 1:
        value, name = widest.residual
        parts.append(f"the residual stream ({value:.3g} after {name}) by {by.residual:g}")
    for what, values, factors in (("attention values", widest.values, by.values), ("MLP", widest.up, by.up)):
        layers = [i for i, factor in enumerate(factors) if factor != 1]
        if layers:
            most = max(layers, key=lambda i: values[i])
            others = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
            parts.append(f"the {what} of layers.{most}{others} ({values[most]:.3g}) by {factors[most]:g}")
    return (
        f"activations of this model overflow float16, which holds {LARGEST} at most; powers of two in the weights make "
        f"them smaller, and the model computes the same function: {'; '.join(parts)}"
    )


def _factor(largest: float) -> float:
    """The power of two that brings a value to the range, at most 1."""
    limit = LARGEST / _MARGIN
    return 1.0 if largest <= limit else 2.0 ** -math.ceil(math.log2(largest / limit))


class _Measurement:
    def __init__(self, source: WeightSource, spec: ModelSpec, texts: Sequence[Sequence[int]], threads: int) -> None:
        self._source, self._spec = source, spec
        self._model = FloatModel(source, spec, max(map(len, texts)), threads)
        self._live: list[Values] = [self._model.feed(ids) for ids in texts]
        self._residual: tuple[float, str] = (0.0, "")
        self._others: tuple[float, str] = (0.0, "")
        self._values, self._up = [0.0] * spec.num_layers, [0.0] * spec.num_layers

    def widest(self, progress: Share) -> Widest:
        graph = self._model.graph
        self._note_residual("embedding", [values[EMBEDDED] for values in self._live])
        for stage in range(graph.num_stages):
            progress(stage, graph.num_stages)
            graph.run_stage(stage, self._live, ALL_POSITIONS, self._entering, self._leaving)
            if 0 < stage <= self._spec.num_layers:
                first, second = graph.residual(stage + 1)
                for name in (first, second):
                    self._note_residual(f"layers.{stage - 1}", [values[name] for values in self._live])
                sums = [values[first] + values[second] for values in self._live]
                self._note_residual(f"layers.{stage - 1}", sums)
        self._note_other("the output of the final norm", [values[graph.head_input] for values in self._live])
        progress(graph.num_stages, graph.num_stages)
        return Widest(self._residual, tuple(self._values), tuple(self._up), self._others)

    def _entering(self, weight: str, inputs: Sequence[NDArray[Any]]) -> None:
        """Before a product."""
        name, layer = _layer_of(weight)
        if name.endswith("o_proj"):
            self._values[layer] = max(self._values[layer], self._largest(name, inputs))
        elif name.endswith("down_proj"):
            self._up[layer] = max(self._up[layer], self._largest(name, inputs))
        else:
            self._note_other(f"the input of {name}", inputs)

    def _leaving(self, weight: str, results: Sequence[NDArray[Any]]) -> None:
        """After a product; what is written into the residual stream is noted there."""
        name, layer = _layer_of(weight)
        spec = self._spec
        if name.endswith("qkv_proj"):
            at = spec.num_heads * spec.head_dim + spec.kv_width
            self._note_other(f"the queries or keys of {name}", [x[..., :at] for x in results])
            self._values[layer] = max(self._values[layer], self._largest(name, [x[..., at:] for x in results]))
        elif name.endswith("gate_up_proj"):
            at = spec.intermediate_size
            self._note_other(f"the gate of {name}", [x[..., :at] for x in results])
            self._up[layer] = max(self._up[layer], self._largest(name, [x[..., at:] for x in results]))
        else:
            self._note_residual(name, results)

    def _note_residual(self, name: str, arrays: Sequence[NDArray[Any]]) -> None:
        self._residual = max(self._residual, (self._largest(name, arrays), name), key=lambda found: found[0])

    def _note_other(self, name: str, arrays: Sequence[NDArray[Any]]) -> None:
        self._others = max(self._others, (self._largest(name, arrays), name), key=lambda found: found[0])

    def _largest(self, name: str, arrays: Sequence[NDArray[Any]]) -> float:
        largest = max(float(np.abs(array).max()) for array in arrays)
        if not math.isfinite(largest):
            check_finite(self._source, self._spec)
            raise CalibrationError(
                f"the float model produces NaN or infinity in {name}",
                hint="the checkpoint is damaged, or its activations are too large for float32",
            )
        return largest


def _layer_of(weight: str) -> tuple[str, int]:
    """A matrix without ``.weight`` and ``model.``, and its layer: ``layers.3.mlp.down_proj``, 3."""
    name = weight.removesuffix(".weight").removeprefix("model.")
    return name, int(name.split(".")[1])
