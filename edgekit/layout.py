"""The layout of ``model.onnx.data``: the offset of every weight of an artifact, computed before any weight is read.

The file contains, in this order and aligned (matrices to 4096 bytes, so that no page belongs to two matrices; all other
tensors to 64 bytes):

    model.embed_tokens                     codes, scales, [zero_points]   or weight (float)
    model.layers.{i}.input_norm.weight
    model.layers.{i}.attn.qkv_proj         codes, scales, [zero_points], [bias]     rows of q, then k, then v
    model.layers.{i}.attn.q_norm.weight    and k_norm.weight, (head_dim), where the family has them
    model.layers.{i}.attn.o_proj
    model.layers.{i}.post_attention_norm.weight
    model.layers.{i}.mlp.gate_up_proj                                               rows of gate, then up
    model.layers.{i}.mlp.down_proj
    model.final_norm.weight
    lm_head                                absent if tied to an embedding with the same scheme
    rotary.cos, rotary.sin                 (positions, head_dim / 2)

Quantized matrices have the layout of ``quantize/packing.py``; float matrices are (out, in).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import UsageError, nearest
from .models.spec import Layer, Linear, ModelSpec, TensorRef
from .scheme import FLOAT_BYTES, QuantizationConfig, QuantizationScheme

MATRIX_ALIGNMENT = 4096  # a page, so that a matrix can be mapped and dropped separately
VECTOR_ALIGNMENT = 64  # a cache line and the widest vector register
_ITEM_BYTES = {**FLOAT_BYTES, "uint8": 1}


@dataclass(frozen=True)
class Slot:
    """One initializer: its type, its shape and its offset in the data file in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * _ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class Matrix:
    """A weight matrix: the linears whose rows it contains, one after another, and its slots."""

    name: str
    parts: tuple[Linear, ...]
    scheme: QuantizationScheme | None
    codes: Slot | None = None
    scales: Slot | None = None
    zero_points: Slot | None = None
    weight: Slot | None = None
    bias: Slot | None = None

    @property
    def out_features(self) -> int:
        return sum(p.out_features for p in self.parts)

    @property
    def in_features(self) -> int:
        return self.parts[0].in_features

    @property
    def slots(self) -> tuple[Slot, ...]:
        return tuple(s for s in (self.codes, self.scales, self.zero_points, self.weight, self.bias) if s is not None)

    @property
    def size_bytes(self) -> int:
        return sum(slot.size_bytes for slot in self.slots)

    @property
    def weights(self) -> int:
        """The number of weights, without the bias."""
        return self.out_features * self.in_features


@dataclass(frozen=True)
class Vector:
    """A norm's weight, stored in the activation type."""

    source: TensorRef
    slot: Slot


@dataclass(frozen=True)
class LayerLayout:
    """The four matrices and the norms of one decoder layer; ``q_norm`` and ``k_norm`` are None in most families."""

    input_norm: Vector
    qkv_proj: Matrix
    q_norm: Vector | None
    k_norm: Vector | None
    o_proj: Matrix
    post_attention_norm: Vector
    gate_up_proj: Matrix
    down_proj: Matrix

    @property
    def matrices(self) -> tuple[Matrix, Matrix, Matrix, Matrix]:
        """The matrices in the file's order."""
        return self.qkv_proj, self.o_proj, self.gate_up_proj, self.down_proj

    @property
    def vectors(self) -> tuple[Vector, ...]:
        """The norms in the file's order."""
        each = self.input_norm, self.q_norm, self.k_norm, self.post_attention_norm
        return tuple(vector for vector in each if vector is not None)


@dataclass(frozen=True)
class DataLayout:
    """The content of ``model.onnx.data``.

    ``lm_head`` may have the embedding's slots. ``size_bytes`` is the size of the file.
    """

    activation_type: str
    max_context: int
    embedding: Matrix
    layers: tuple[LayerLayout, ...]
    final_norm: Vector
    lm_head: Matrix
    rotary_cos: Slot
    rotary_sin: Slot
    size_bytes: int

    @property
    def shares_embedding(self) -> bool:
        """Whether lm_head and embedding are stored as one table."""
        return self.lm_head.slots == self.embedding.slots

    def matrices(self) -> Iterator[Matrix]:
        """Each stored matrix, in the file's order; a shared table comes once."""
        yield self.embedding
        yield from self.inner_matrices()
        if not self.shares_embedding:
            yield self.lm_head

    def inner_matrices(self) -> Iterator[Matrix]:
        """Each matrix inside the layers, in the file's order."""
        for layer in self.layers:
            yield from layer.matrices

    def calibrated(self) -> Iterator[Matrix]:
        """Each matrix that GPTQ calibrates, in the file's order.

        These are the matrices inside the layers, and a separate lm_head in 4 bits, which would lose more than all
        layers together if it were rounded to nearest. An lm_head in 8 bits and the embedding lose too little to be
        worth the time.
        """
        yield from self.inner_matrices()
        scheme = self.lm_head.scheme
        if scheme is not None and scheme.bits == 4 and not self.shares_embedding:
            yield self.lm_head

    def vectors(self) -> Iterator[Vector]:
        """Each norm, in the file's order."""
        for layer in self.layers:
            yield from layer.vectors
        yield self.final_norm

    @property
    def weight_bytes(self) -> int:
        """Bytes of the model's tensors, without rotary tables and alignment."""
        matrices = sum(m.size_bytes for m in self.matrices())
        return matrices + sum(v.slot.size_bytes for v in self.vectors())


def common_scheme(layout: DataLayout) -> QuantizationScheme | None:
    """The most common format of the matrices inside the layers; among equally common ones, the first."""
    return Counter(m.scheme for m in layout.inner_matrices()).most_common(1)[0][0]


def check_matrices(layout: DataLayout, quantization: QuantizationConfig) -> None:
    """Check that every matrix with a format of its own is in the model.

    Raises:
        UsageError: One is not; names one with a similar name.
    """
    known = [matrix.name for matrix in layout.inner_matrices()]
    if unknown := sorted(quantization.matrices.keys() - set(known)):
        raise UsageError(f"quantization.matrices: the model has no matrix {unknown[0]!r}; {nearest(unknown[0], known)}")


class _Allocator:
    def __init__(self, activation_type: str) -> None:
        self.activation_type = activation_type
        self.end = 0

    def slot(self, name: str, dtype: str, shape: tuple[int, ...], alignment: int) -> Slot:
        slot = Slot(name, dtype, shape, -(-self.end // alignment) * alignment)
        self.end = slot.offset + slot.size_bytes
        return slot

    def matrix(self, name: str, parts: tuple[Linear, ...], scheme: QuantizationScheme | None) -> Matrix:
        out, in_ = sum(p.out_features for p in parts), parts[0].in_features
        codes = scales = zero_points = weight = bias = None
        if scheme is None:
            weight = self.slot(f"{name}.weight", self.activation_type, (out, in_), MATRIX_ALIGNMENT)
        else:
            codes = self.slot(f"{name}.codes", "uint8", scheme.codes_shape(out, in_), MATRIX_ALIGNMENT)
            shape = scheme.scales_shape(out, in_)
            scales = self.slot(f"{name}.scales", self.activation_type, shape, VECTOR_ALIGNMENT)
            zero_shape = scheme.zero_points_shape(out, in_)
            if zero_shape is not None:
                zero_points = self.slot(f"{name}.zero_points", "uint8", zero_shape, VECTOR_ALIGNMENT)
        if any(p.bias for p in parts):
            bias = self.slot(f"{name}.bias", self.activation_type, (out,), VECTOR_ALIGNMENT)
        return Matrix(name, parts, scheme, codes, scales, zero_points, weight, bias)

    def vector(self, name: str, source: TensorRef) -> Vector:
        return Vector(source, self.slot(f"{name}.weight", self.activation_type, source.shape, VECTOR_ALIGNMENT))

    def layer(self, layer: Layer, quantization: QuantizationConfig) -> LayerLayout:
        at = f"model.layers.{layer.index}"

        def matrix(name: str, *parts: Linear) -> Matrix:
            return self.matrix(f"{at}.{name}", parts, quantization.inside(f"{at}.{name}"))

        return LayerLayout(
            input_norm=self.vector(f"{at}.input_norm", layer.input_norm),
            qkv_proj=matrix("attn.qkv_proj", layer.q_proj, layer.k_proj, layer.v_proj),
            q_norm=None if layer.q_norm is None else self.vector(f"{at}.attn.q_norm", layer.q_norm),
            k_norm=None if layer.k_norm is None else self.vector(f"{at}.attn.k_norm", layer.k_norm),
            o_proj=matrix("attn.o_proj", layer.o_proj),
            post_attention_norm=self.vector(f"{at}.post_attention_norm", layer.post_attention_norm),
            gate_up_proj=matrix("mlp.gate_up_proj", layer.gate_proj, layer.up_proj),
            down_proj=matrix("mlp.down_proj", layer.down_proj),
        )


def plan_layout(
    spec: ModelSpec, quantization: QuantizationConfig, activation_type: str, max_context: int
) -> DataLayout:
    """Compute the offset of every weight.

    Args:
        spec: The model.
        quantization: The formats. A tied model stores one table if embedding and lm_head have the same format.
        activation_type: Type of scales, norms, biases and rotary tables, ``float32`` or ``float16``.
        max_context: Number of positions in the rotary tables, the longest context that the artifact can run.
    """
    allocate = _Allocator(activation_type)
    table = Linear("embed_tokens", spec.embedding)
    embedding = allocate.matrix("model.embed_tokens", (table,), quantization.embedding)
    layers = tuple(allocate.layer(layer, quantization) for layer in spec.layers)
    final_norm = allocate.vector("model.final_norm", spec.final_norm)
    if spec.tied_embeddings and quantization.embedding == quantization.lm_head:
        lm_head = embedding
    else:
        lm_head = allocate.matrix("lm_head", (spec.lm_head,), quantization.lm_head)
    rotary = (max_context, spec.head_dim // 2)
    cos = allocate.slot("rotary.cos", activation_type, rotary, VECTOR_ALIGNMENT)
    sin = allocate.slot("rotary.sin", activation_type, rotary, VECTOR_ALIGNMENT)
    return DataLayout(
        activation_type, max_context, embedding, layers, final_norm, lm_head, cos, sin, size_bytes=allocate.end
    )
