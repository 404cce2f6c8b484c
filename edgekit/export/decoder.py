"""Builds the ONNX graph of a decoder directly from its ModelSpec, without tracing and without torch.

    input_ids -> embed
              -> [ norm -> qkv -> GroupQueryAttention -> o -> +  norm -> gate_up -> SiLU * up -> down -> + ] x layers
              -> norm -> lm_head -> logits

A family with norms of query and key heads has them between qkv and GroupQueryAttention, which applies the rotary
embedding. (Newer versions of that operator take the norms as inputs; the oldest supported onnxruntime does not.)

Each residual addition is fused with the norm that follows it (SkipSimplifiedLayerNormalization). The last layer's
attention reads every position, but everything after it is computed only for the positions whose logits are requested.
These are the positions from ``logits_start`` on (-1: only the last one), an initializer that a session can override.

Operators: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md. The inputs and outputs have the
names that onnxruntime-genai and optimum expect.
"""

from __future__ import annotations

import numpy as np
import onnx

from ..layout import DataLayout, LayerLayout, Matrix, Slot, Vector, common_scheme
from ..models.spec import ModelSpec
from .onnx_graph import CONTRIB, GraphBuilder, int64

LOGITS_START = "logits_start"
# Overrides logits_start so that the logits of every position are computed, instead of the last one's only.
ALL_POSITIONS = {LOGITS_START: np.zeros(1, np.int64)}
_LAST = 2**62  # Slice clamps an end that is beyond the axis
ACCURACY_LEVEL = {
    "float32": 4,
    "float16": 0,
}  # float32 (CPU): int8 activations per block; float16 (CUDA): the kernel's default


def build_decoder(spec: ModelSpec, layout: DataLayout, producer_version: str) -> onnx.ModelProto:
    """Build the whole graph.

    Args:
        spec: The model.
        layout: Offsets of the weights; it also decides which matrices are quantized, and the activation type.
        producer_version: edgekit's version, stored in the model.

    Returns:
        A model whose weights refer to ``model.onnx.data``.
    """
    graph = _Decoder(spec, layout)
    graph.build()
    return graph.builder.model(spec.model_type, producer_version, _metadata(spec, layout))


class _Decoder:
    def __init__(self, spec: ModelSpec, layout: DataLayout) -> None:
        self.spec = spec
        self.layout = layout
        self.builder = GraphBuilder()
        self.float_type = layout.activation_type

    def build(self) -> None:
        b, spec = self.builder, self.spec
        ids = b.input("input_ids", "int64", ("batch_size", "sequence_length"))
        mask = b.input("attention_mask", "int64", ("batch_size", "total_sequence_length"))
        lengths = self._lengths(mask)
        b.constant(LOGITS_START, int64(-1))
        residual, delta = self._embed(ids), ""
        for i, layer in enumerate(self.layout.layers):
            residual, delta = self._layer(i, layer, residual, delta, lengths)
        normed, _ = self._norm("/model/final_norm", residual, delta, self.layout.final_norm)
        logits = self._product("/lm_head", normed, self.layout.lm_head)
        b.node(
            "/logits/Cast" if self.float_type != "float32" else "/logits/Identity",
            [logits],
            outputs=["logits"],
            **({"to": onnx.TensorProto.FLOAT} if self.float_type != "float32" else {}),
        )
        b.output("logits", "float32", ("batch_size", 1, spec.vocab_size))
        for i in range(spec.num_layers):
            for kind in ("key", "value"):
                shape = ("batch_size", spec.num_kv_heads, "total_sequence_length", spec.head_dim)
                b.output(f"present.{i}.{kind}", self.float_type, shape)

    def _lengths(self, mask: str) -> tuple[str, str]:
        """The attention's seqlens_k (total - 1, int32 per batch row) and total_sequence_length (int32 scalar)."""
        b, at = self.builder, "/model/attn_mask"
        count = b.node(f"{at}/ReduceSum", [mask, b.constant("axis_1", int64(1))], keepdims=0)
        minus_one = b.node(f"{at}/Sub", [count, b.constant("one", int64(1))])
        seqlens = b.node(f"{at}/seqlens_k/Cast", [minus_one], to=onnx.TensorProto.INT32)
        shape = b.node(f"{at}/Shape", [mask])
        total = b.node(f"{at}/Gather", [shape, b.constant("index_1", np.array(1, np.int64))], axis=0)
        return seqlens, b.node(f"{at}/total/Cast", [total], to=onnx.TensorProto.INT32)

    def _embed(self, ids: str) -> str:
        b, table, hidden = self.builder, self.layout.embedding, self.spec.hidden_size
        at = "/model/embed_tokens"
        if table.scheme is None:
            return b.node(f"{at}/Gather", [b.external(_slot(table.weight)), ids], axis=0)
        out, blocks, blob = _slot(table.codes).shape
        inputs = [b.external(_slot(table.codes), shape=(out, blocks * blob)), ids, b.external(_slot(table.scales))]
        if table.zero_points is not None:
            inputs.append(b.external(table.zero_points))
        scheme = table.scheme
        rows = b.node(
            f"{at}/GatherBlockQuantized", inputs, domain=CONTRIB,
            bits=scheme.bits, block_size=scheme.block_size, gather_axis=0, quantize_axis=1,
        )  # fmt: skip
        if hidden % scheme.block_size == 0:
            return rows
        # The table includes the padding of its last block, so that a tied lm_head can share the bytes.
        ends = [b.constant("zero", int64(0)), b.constant("hidden_size", int64(hidden)), b.constant("axis_2", int64(2))]
        return b.node(f"{at}/Slice", [rows, *ends])

    def _layer(
        self, i: int, layer: LayerLayout, residual: str, delta: str, lengths: tuple[str, str]
    ) -> tuple[str, str]:
        """A layer: takes the residual stream and a delta that is yet to be added to it, returns the next pair."""
        at = f"/model/layers.{i}"
        normed, residual = self._norm(f"{at}/input_norm", residual, delta, layer.input_norm)
        attended = self._attention(i, layer, normed, lengths)
        if i == self.spec.num_layers - 1:
            attended = self._kept(f"{at}/attn/kept", attended)
            residual = self._kept(f"{at}/residual/kept", residual)
        delta = self._product(f"{at}/attn/o_proj", attended, layer.o_proj)
        normed, residual = self._norm(f"{at}/post_attention_norm", residual, delta, layer.post_attention_norm)
        return residual, self._mlp(f"{at}/mlp", layer, normed)

    def _attention(self, i: int, layer: LayerLayout, x: str, lengths: tuple[str, str]) -> str:
        b, spec, at = self.builder, self.spec, f"/model/layers.{i}/attn"
        qkv = self._product(f"{at}/qkv_proj", x, layer.qkv_proj)
        inputs = [qkv, "", ""] if layer.q_norm is None else self._normed_heads(at, layer, qkv)
        shape = ("batch_size", spec.num_kv_heads, "past_sequence_length", spec.head_dim)
        past = [b.input(f"past_key_values.{i}.{kind}", self.float_type, shape) for kind in ("key", "value")]
        rotary = [b.external(self.layout.rotary_cos), b.external(self.layout.rotary_sin)]
        return b.node(
            f"{at}/GroupQueryAttention", [*inputs, *past, *lengths, *rotary], domain=CONTRIB,
            outputs=[f"{at}/GroupQueryAttention/output_0", f"present.{i}.key", f"present.{i}.value"],
            num_heads=spec.num_heads, kv_num_heads=spec.num_kv_heads, scale=spec.head_dim**-0.5,
            do_rotary=1, rotary_interleaved=0,
        )  # fmt: skip

    def _normed_heads(self, at: str, layer: LayerLayout, qkv: str) -> list[str]:
        """q, k and v, with an RMS norm over each head of q and k."""
        b, spec = self.builder, self.spec
        sizes = b.constant("qkv_split", int64(spec.num_heads * spec.head_dim, spec.kv_width, spec.kv_width))
        b.node(f"{at}/Split", [qkv, sizes], outputs=3, axis=-1)
        heads = b.constant("heads", int64(0, -1, spec.head_dim))  # 0 keeps the axis
        found = []
        for i, (part, norm) in enumerate((("q_norm", layer.q_norm), ("k_norm", layer.k_norm))):
            if norm is None:
                raise AssertionError("a layer has norms of both query and key heads or of neither")
            split = b.node(f"{at}/{part}/heads/Reshape", [f"{at}/Split/output_{i}", heads])
            normed, _ = self._norm(f"{at}/{part}", split, "", norm, spec.rms_norm_eps)
            width = b.constant(f"{part}_width", int64(0, -1, (spec.num_heads, spec.num_kv_heads)[i] * spec.head_dim))
            found.append(b.node(f"{at}/{part}/Reshape", [normed, width]))
        return [*found, f"{at}/Split/output_2"]

    def _mlp(self, at: str, layer: LayerLayout, x: str) -> str:
        b, width = self.builder, self.spec.intermediate_size
        both = self._product(f"{at}/gate_up_proj", x, layer.gate_up_proj)
        split = b.constant("gate_up_split", int64(width, width))
        gate = b.node(f"{at}/Split", [both, split], outputs=2, axis=-1)
        up = f"{at}/Split/output_1"
        sigmoid = b.node(f"{at}/act/Sigmoid", [gate])
        silu = b.node(f"{at}/act/Mul", [gate, sigmoid])
        return self._product(f"{at}/down_proj", b.node(f"{at}/Mul", [silu, up]), layer.down_proj)

    def _kept(self, at: str, x: str) -> str:
        b = self.builder
        return b.node(
            f"{at}/Slice", [x, LOGITS_START, b.constant("last", int64(_LAST)), b.constant("axis_1", int64(1))]
        )

    def _norm(self, at: str, residual: str, delta: str, norm: Vector, epsilon: float | None = None) -> tuple[str, str]:
        """The RMS norm of residual + delta, and the sum itself.

        Before the first layer there is no delta. RMSNorm(x + x) with 4 * eps equals RMSNorm(x) with eps exactly, since
        the factors are powers of two. So the graph needs no plain RMSNorm, whose name and domain differ between ONNX
        and onnxruntime.
        """
        b = self.builder
        epsilon = self.spec.residual_eps if epsilon is None else epsilon
        first = not delta
        name = f"{at}/SkipSimplifiedLayerNormalization"
        inputs = [residual, residual if first else delta, b.external(norm.slot)]
        names = [f"{name}/output_0"] if first else [f"{name}/output_0", "", "", f"{name}/output_3"]
        normed = b.node(name, inputs, domain=CONTRIB, outputs=names, epsilon=epsilon * (4 if first else 1))
        return normed, residual if first else names[3]

    def _product(self, at: str, x: str, matrix: Matrix) -> str:
        """x @ W.T + bias."""
        b, scheme = self.builder, matrix.scheme
        if scheme is None:
            weight = b.external(_slot(matrix.weight))
            y = b.node(f"{at}/FusedMatMul", [x, weight], domain=CONTRIB, transB=1)
        else:
            codes = _slot(matrix.codes)
            shared = self.layout.shares_embedding and matrix is self.layout.lm_head
            # The embedding uses the same bytes with the shape (rows, bytes), so a tied head needs a second name.
            inputs = [x, b.external(codes, "lm_head.codes" if shared else ""), b.external(_slot(matrix.scales))]
            if matrix.zero_points is not None:
                inputs.append(b.external(matrix.zero_points))
            y = b.node(
                f"{at}/MatMulNBits", inputs, domain=CONTRIB, K=matrix.in_features, N=matrix.out_features,
                bits=scheme.bits, block_size=scheme.block_size, accuracy_level=ACCURACY_LEVEL[self.float_type],
            )  # fmt: skip
        if matrix.bias is None:
            return y
        return b.node(f"{at}/Add", [y, b.external(matrix.bias)])


def _slot(slot: Slot | None) -> Slot:
    if slot is None:
        raise AssertionError("a matrix has either codes and scales or a weight")
    return slot


def _metadata(spec: ModelSpec, layout: DataLayout) -> dict[str, str]:
    """All architecture parameters, for engines that read the weights but not the nodes.

    ``linear.*`` is the format of most matrices inside the layers; a matrix with another format has keys under its name.
    """
    qk_norm = any(layer.q_norm is not None for layer in layout.layers)
    values = {
        "format_version": 2 if qk_norm else 1,  # version 1 has no qk_norm: an engine that knows only 1 must refuse it
        "model_type": spec.model_type,
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.intermediate_size,
        "num_layers": spec.num_layers,
        "num_heads": spec.num_heads,
        "num_kv_heads": spec.num_kv_heads,
        "head_dim": spec.head_dim,
        "context_length": layout.max_context,
        "rms_norm_eps": repr(spec.residual_eps),
        "activation_type": layout.activation_type,
        "tied_embeddings": int(layout.shares_embedding),
    }
    if qk_norm:
        values["qk_norm"] = 1
        if spec.residual_scale != 1:  # otherwise one epsilon serves all norms
            values["qk_norm_eps"] = repr(spec.rms_norm_eps)
    linear = common_scheme(layout)
    own = [(m.name, m.scheme) for m in layout.inner_matrices() if m.scheme != linear]
    for name, scheme in (
        ("linear", linear),
        ("embedding", layout.embedding.scheme),
        ("lm_head", layout.lm_head.scheme),
        *own,
    ):
        values[f"{name}.bits"] = 0 if scheme is None else scheme.bits
        values[f"{name}.block_size"] = 0 if scheme is None else scheme.block_size
        values[f"{name}.symmetric"] = 1 if scheme is None else int(scheme.symmetric)
    return {f"edgekit.{key}": str(value) for key, value in values.items()}
