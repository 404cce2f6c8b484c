"""A stream of hidden states on its way through a layer: the float model's own, or the quantized model's.

What lies between two tensors of a layer is the float graph's own nodes. Norms and activations are run by onnxruntime.
What costs most is not: products are numpy's, which needs a weight once, where onnxruntime packs a copy; attention is
the engine's own kernel, which takes three quarters of the time and rounds keys and values to float16, as a device will.

The engine's products with codes, twice as fast as float ones with AVX2, are no substitute: they round activations to
int8, and what was calibrated on such inputs was worse, with the engine itself: a mean KL divergence of 0.0528 where it
is 0.0502 (SmolLM2-135M, 8192 tokens).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from ..errors import CalibrationError
from ..export.decoder import ALL_POSITIONS
from ..models.spec import ModelSpec
from ..native.products import MOST_HEAD_DIM, attend
from ..quantize.packing import PackedLinear
from ..quantize.sums import InputSums
from ..streaming.float_model import FloatModel
from ..streaming.graph import StandIn
from ..weights.checkpoint import WeightSource
from .state import AnyRows

Tensors = dict[str, NDArray[np.float32]]  # (tokens, width) each


class Stream:
    """One stream.

    Args:
        source: The weights.
        spec: The model.
        longest: Tokens of a text at most.
        threads: For everything.

    Attributes:
        packed: Matrices whose codes stand in for their weights, by name.
    """

    def __init__(self, source: WeightSource, spec: ModelSpec, longest: int, threads: int) -> None:
        self.packed: dict[str, PackedLinear] = {}
        self._model, self._spec, self._threads = FloatModel(source, spec, longest, threads), spec, threads
        self._cos, self._sin = self._model.weight("rotary.cos"), self._model.weight("rotary.sin")

    def nodes(self) -> dict[str, onnx.NodeProto]:
        """The graph's nodes by name."""
        return self._model.model.nodes()

    def embed(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """The first layer's hidden states, (tokens, hidden)."""
        rows: NDArray[np.float32] = self._model.embed(ids)[0]
        return rows

    def part(self, given: Collection[str], fetch: Sequence[str]) -> Callable[[Tensors], list[NDArray[np.float32]]]:
        """What leads from some tensors of a text to others, loaded; dropped with the function that is returned.

        Args:
            given: Tensors that are at hand.
            fetch: Tensors that are wanted.

        Returns:
            A function of the given tensors, (tokens, width), that gives the fetched ones.
        """
        stand_ins: dict[str, Callable[[onnx.NodeProto], StandIn]] = {"FusedMatMul": self._product}
        if self._spec.head_dim <= MOST_HEAD_DIM:
            stand_ins["GroupQueryAttention"] = self._attention
        run = self._model.model.part(given, fetch, ALL_POSITIONS, stand_ins)

        def unbatched(tensors: Tensors) -> list[NDArray[np.float32]]:
            tokens = len(next(iter(tensors.values())))
            batch = {name: values[None] for name, values in tensors.items()}
            results: list[NDArray[np.float32]] = [values[0] for values in run({**self._model.context(tokens), **batch})]
            return results

        return unbatched

    @property
    def final_norm(self) -> tuple[str, str, str]:
        """The two tensors whose sum is normed behind the layers, and the norm's output, the head's input."""
        model = self._model.model
        return *model.residual(model.num_stages - 1), model.head_input

    def _product(self, node: onnx.NodeProto) -> StandIn:
        packed = self.packed.get(node.input[1].removesuffix(".weight"))
        weight = self._model.weight(node.input[1]) if packed is None else packed.dequantize()
        return lambda x: np.matmul(x[0], weight.T)[None]

    def _attention(self, node: onnx.NodeProto) -> StandIn:
        heads, kv_heads = self._spec.num_heads, self._spec.num_kv_heads
        return lambda qkv: attend(qkv[0], heads, kv_heads, self._cos, self._sin, self._threads)[None]


def finished_sums(sums: InputSums, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """H and drift of the matrix of that name.

    Raises:
        CalibrationError: Its inputs are NaN or infinite.
    """
    h, drift = sums.finish()
    if not np.isfinite(h.diagonal()).all():
        raise CalibrationError(
            f"the inputs of {name} are NaN or infinite on the calibration text",
            hint="the checkpoint is damaged, or its activations are too large for float32",
        )
    return h, drift


def run_all(
    streams: Sequence[Stream],
    bounds: Sequence[tuple[int, int]],
    given: Mapping[str, AnyRows],
    zero: str,
    fetch: Sequence[str],
) -> Iterator[tuple[list[tuple[int, int]], list[list[NDArray[np.float32]]]]]:
    """Run a part of the model for every text, in every stream.

    Args:
        streams: Of which the rows of each lie behind those of the one before in every file.
        bounds: Where each text's rows lie, in the first stream.
        given: Tensors whose rows are known.
        zero: A tensor that is zero because its value is in another already, or none.
        fetch: Tensors that are wanted.

    Returns:
        For each text where its rows lie, a stream after the other, and the fetched tensors, (tokens, width), likewise.
    """
    runs = [stream.part({*given, zero}, fetch) for stream in streams]
    tokens = bounds[-1][1]
    for first, last in bounds:
        rows = [(i * tokens + first, i * tokens + last) for i in range(len(runs))]
        made = []
        for run, (start, stop) in zip(runs, rows, strict=True):
            tensors = {name: file.read(start, stop) for name, file in given.items()}
            if zero:
                tensors.setdefault(zero, np.zeros_like(next(iter(tensors.values()))))
            made.append(run(tensors))
        yield rows, made
