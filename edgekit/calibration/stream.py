"""A stream of hidden states on its way through a layer: the float model's, or the quantized model's.

Between two tensors of a layer the float graph's own nodes run. onnxruntime runs the norms and activations. The most
expensive operators have faster stand-ins: products are numpy's, which needs a weight once where onnxruntime packs a
copy; attention is the native engine's kernel, which takes three quarters of the time and rounds keys and values to
float16, as they will be on a device.

The engine's products with codes are twice as fast as float products with AVX2, but they round activations to int8, and
a calibration on such inputs is worse, measured with the engine itself: mean KL 0.0528 instead of 0.0502 (SmolLM2-135M,
8192 tokens).
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
from ..weights.source import WeightSource
from .state import AnyRows

Tensors = dict[str, NDArray[np.float32]]  # (tokens, width) each
Codes = Mapping[str, PackedLinear]  # by the matrix's name in layout.py
NO_CODES: Codes = {}


class Stream:
    """Runs parts of the float model.

    Args:
        source: The weights.
        spec: The model.
        longest: Tokens of the longest text.
        threads: Threads of onnxruntime and of the attention kernel.
    """

    def __init__(self, source: WeightSource, spec: ModelSpec, longest: int, threads: int) -> None:
        self._model, self._spec, self._threads = FloatModel(source, spec, longest, threads), spec, threads
        self._cos, self._sin = self._model.weight("rotary.cos"), self._model.weight("rotary.sin")

    def nodes(self) -> dict[str, onnx.NodeProto]:
        """The graph's nodes by name."""
        return self._model.graph.nodes()

    def embed(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """The hidden states that enter the first layer, (tokens, hidden)."""
        rows: NDArray[np.float32] = self._model.embed(ids)[0]
        return rows

    def part(
        self, given: Collection[str], fetch: Sequence[str], codes: Codes = NO_CODES
    ) -> Callable[[Tensors], list[NDArray[np.float32]]]:
        """Load the part of the model between some tensors and others.

        Args:
            given: Names of tensors that will be given.
            fetch: Names of tensors to compute.
            codes: Quantized matrices that replace the float weights.

        Returns:
            A function of the given tensors, (tokens, width), that returns the fetched ones. It keeps the loaded
            weights; drop it to free them.
        """
        stand_ins: dict[str, Callable[[onnx.NodeProto], StandIn]] = {
            "FusedMatMul": lambda node: self._product(node, codes)
        }
        if self._spec.head_dim <= MOST_HEAD_DIM:
            stand_ins["GroupQueryAttention"] = self._attention
        run = self._model.graph.part(given, fetch, ALL_POSITIONS, stand_ins)

        def unbatched(tensors: Tensors) -> list[NDArray[np.float32]]:
            tokens = len(next(iter(tensors.values())))
            batch = {name: values[None] for name, values in tensors.items()}
            results: list[NDArray[np.float32]] = [values[0] for values in run({**self._model.context(tokens), **batch})]
            return results

        return unbatched

    @property
    def final_norm(self) -> tuple[str, str, str]:
        """The two tensors whose sum the final norm reads, and its output, which is the head's input."""
        graph = self._model.graph
        return *graph.residual(graph.num_stages - 1), graph.head_input

    def _product(self, node: onnx.NodeProto, codes: Codes) -> StandIn:
        packed = codes.get(node.input[1].removesuffix(".weight"))
        weight = self._model.weight(node.input[1]) if packed is None else packed.dequantize()
        return lambda x: np.matmul(x[0], weight.T)[None]

    def _attention(self, node: onnx.NodeProto) -> StandIn:
        heads, kv_heads = self._spec.num_heads, self._spec.num_kv_heads

        def attention(*qkv: NDArray[np.float32]) -> NDArray[np.float32]:  # joined or apart
            joined = np.concatenate(qkv, axis=-1)[0] if len(qkv) > 1 else qkv[0][0]
            return attend(joined, heads, kv_heads, self._cos, self._sin, self._threads)[None]

        return attention


def finished_sums(sums: InputSums, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Finish the sums of a matrix.

    Args:
        sums: All inputs have been added.
        name: The matrix's name, for the error message.

    Returns:
        H, and drift if it was summed.

    Raises:
        CalibrationError: The inputs are NaN or infinite.
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
    codes: Codes = NO_CODES,
) -> Iterator[tuple[list[tuple[int, int]], list[list[NDArray[np.float32]]]]]:
    """Run a part of the model on every text, in every stream.

    Args:
        streams: In every file the rows of each stream follow those of the stream before.
        bounds: First row and last row + 1 of each text in the first stream.
        given: Tensors that are known, as rows.
        zero: Name of a tensor that is zero because its value has been added to another; empty for none.
        fetch: Names of tensors to compute.
        codes: Quantized matrices that replace the float weights in the first stream.

    Yields:
        For each text, its bounds in each stream, and the fetched tensors of each stream, (tokens, width).
    """
    runs = [stream.part({*given, zero}, fetch, NO_CODES if i else codes) for i, stream in enumerate(streams)]
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
