"""An architecture as data: its dimensions, and the role, shape and names of every tensor. Does not import numpy.

A family file (``llama.py``, ``qwen2.py``) defines a :class:`Family`. :meth:`Family.spec` converts a checkpoint's
``config.json`` to a :class:`ModelSpec`, which the quantizer, the exporter and the planner read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import CheckpointError, UnsupportedModelError
from ..schema.config import check_config
from .options import check_options
from .rope import Rope, read_rope

_HEAD_DIM_MULTIPLE = 16  # head sizes that GroupQueryAttention with do_rotary supports
_HEAD_NAMES = "lm_head.weight", "output.weight"  # Hugging Face's and GGUF's


@dataclass(frozen=True)
class TensorRef:
    """A tensor of a checkpoint, with its names in both containers.

    Args:
        name: The Hugging Face name, ``model.layers.0.self_attn.q_proj.weight``.
        gguf: The GGUF name, ``blk.0.attn_q.weight``.
        shape: (out, in) or (size,).
        interleaved_heads: Number of heads whose halves a GGUF file stores interleaved; 0 if it stores the tensor like
            Hugging Face.
    """

    name: str
    gguf: str
    shape: tuple[int, ...]
    interleaved_heads: int = 0


@dataclass(frozen=True)
class Linear:
    """``y = x @ weight.T + bias``; weight is (out_features, in_features)."""

    role: str
    weight: TensorRef
    bias: TensorRef | None = None

    @property
    def out_features(self) -> int:
        return self.weight.shape[0]

    @property
    def in_features(self) -> int:
        return self.weight.shape[1]


@dataclass(frozen=True)
class Layer:
    """One decoder layer: norm, attention, norm, gated MLP.

    ``q_norm`` and ``k_norm`` (head_dim) are the RMSNorm of each query and key head, before the rotary embedding; None
    for a family that has none.
    """

    index: int
    input_norm: TensorRef
    q_proj: Linear
    k_proj: Linear
    v_proj: Linear
    o_proj: Linear
    post_attention_norm: TensorRef
    gate_proj: Linear
    up_proj: Linear
    down_proj: Linear
    q_norm: TensorRef | None = None
    k_norm: TensorRef | None = None

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The linears in the order of the file: q, k, v, o, gate, up, down."""
        return self.q_proj, self.k_proj, self.v_proj, self.o_proj, self.gate_proj, self.up_proj, self.down_proj

    @property
    def norms(self) -> tuple[TensorRef, ...]:
        """The norms in the order of the file."""
        each = self.input_norm, self.q_norm, self.k_norm, self.post_attention_norm
        return tuple(norm for norm in each if norm is not None)


@dataclass(frozen=True)
class ModelSpec:
    """A decoder-only model as data.

    With ``tied_embeddings``, ``lm_head`` uses the embedding's tensor. ``copied_head`` means that ``lm_head`` is a copy
    of the embedding, made by :func:`untied`. ``residual_scale`` is the factor by which the residual stream is smaller
    than the checkpoint's (``weights/shrunk.py``), a power of two.
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    context_length: int
    rms_norm_eps: float
    rope: Rope
    tied_embeddings: bool
    embedding: TensorRef
    layers: tuple[Layer, ...] = field(repr=False)
    final_norm: TensorRef
    lm_head: Linear
    copied_head: bool = False
    residual_scale: float = 1.0

    @property
    def residual_eps(self) -> float:
        """The epsilon of the norms that read the residual stream; those of query and key heads have rms_norm_eps."""
        return self.rms_norm_eps * self.residual_scale**2

    @property
    def kv_width(self) -> int:
        """The number of values that a token adds to one layer's key cache, and again to its value cache."""
        return self.num_kv_heads * self.head_dim

    def tensors(self) -> Iterator[TensorRef]:
        """Every tensor of the model, once."""
        yield self.embedding
        for layer in self.layers:
            first, *others = layer.norms
            yield first
            for linear in layer.linears:
                yield linear.weight
                if linear.bias is not None:
                    yield linear.bias
            yield from others
        yield self.final_norm
        if not self.tied_embeddings:
            yield self.lm_head.weight

    @property
    def parameters(self) -> int:
        """Number of weights. A tied table counts once, also after :func:`untied` has copied it."""
        copied = math.prod(self.lm_head.weight.shape) if self.copied_head else 0
        return sum(math.prod(t.shape) for t in self.tensors()) - copied


def untied(spec: ModelSpec) -> ModelSpec:
    """The same model with a separate lm_head. If the embeddings are tied, lm_head becomes a copy of the table."""
    if not spec.tied_embeddings:
        return spec
    head = Linear("lm_head", TensorRef(*_HEAD_NAMES, spec.embedding.shape))
    return replace(spec, tied_embeddings=False, lm_head=head, copied_head=True)


@dataclass(frozen=True)
class Family:
    """How one model family differs from the common decoder.

    Args:
        model_type: ``model_type`` in ``config.json``, and the name of the family's file.
        qkv_bias, o_bias, mlp_bias: Whether these linears have a bias: True, False, or the config key that decides.
        gguf_interleaved_qk: Whether GGUF files store q and k with each head's halves interleaved.
        qk_norm: Whether each query and key head has an RMSNorm before the rotary embedding.
        head_dim: Size of a head where the config does not say it; None: hidden_size / num_attention_heads.
        required: Config keys that must have the given value if they are present.
    """

    model_type: str
    qkv_bias: bool | str
    o_bias: bool | str
    mlp_bias: bool | str
    gguf_interleaved_qk: bool
    qk_norm: bool = False
    head_dim: int | None = None
    required: Mapping[str, Any] = field(default_factory=dict)

    def spec(self, config: Mapping[str, Any]) -> ModelSpec:
        """Read ``config.json``.

        Args:
            config: The file's content, with ``rope_theta`` and ``rope_scaling`` or with ``rope_parameters``.

        Raises:
            CheckpointError: A key is missing or has an invalid value.
            UnsupportedModelError: An option is not supported for this family.
        """
        check_config(config)
        for key, value in self.required.items():
            if _given(config, key, value) != value:
                raise UnsupportedModelError(
                    f"config.json of this {self.model_type} model has {key} = {config[key]!r}; supported: {value!r}"
                )
        hidden = _positive(config, "hidden_size")
        heads = _positive(config, "num_attention_heads")
        kv_heads = _positive(config, "num_key_value_heads", heads)
        if heads % kv_heads:
            raise CheckpointError(
                f"config.json: num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}"
            )
        if config.get("head_dim") is None and self.head_dim is None and hidden % heads:
            raise CheckpointError(f"config.json: hidden_size {hidden} is not a multiple of num_attention_heads {heads}")
        head_dim = _positive(config, "head_dim", self.head_dim or hidden // heads)
        context = _positive(config, "max_position_embeddings")
        check_options(config, head_dim, self.qk_norm)
        rope = read_rope(config, head_dim, context)
        builder = _Tensors(self, config, hidden, _positive(config, "intermediate_size"), heads, kv_heads, head_dim)
        vocab = _positive(config, "vocab_size")
        layers = _positive(config, "num_hidden_layers")
        if head_dim % _HEAD_DIM_MULTIPLE:
            raise UnsupportedModelError(
                f"config.json: head_dim is {head_dim}; edgekit supports multiples of {_HEAD_DIM_MULTIPLE}, as "
                "onnxruntime's GroupQueryAttention does"
            )
        tied = bool(config.get("tie_word_embeddings", False))
        embedding = TensorRef("model.embed_tokens.weight", "token_embd.weight", (vocab, hidden))
        head = embedding if tied else TensorRef(*_HEAD_NAMES, (vocab, hidden))
        return ModelSpec(
            model_type=self.model_type,
            vocab_size=vocab,
            hidden_size=hidden,
            intermediate_size=builder.intermediate,
            num_layers=layers,
            num_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=head_dim,
            # Beyond the original context, the frequencies of dynamic scaling change with every token.
            context_length=min(context, rope.original_context) if rope.scaling == "dynamic" else context,
            rms_norm_eps=float(_given(config, "rms_norm_eps", 1e-6)),
            rope=rope,
            tied_embeddings=tied,
            embedding=embedding,
            layers=tuple(builder.layer(i) for i in range(layers)),
            final_norm=TensorRef("model.norm.weight", "output_norm.weight", (hidden,)),
            lm_head=Linear("lm_head", head),
        )


@dataclass(frozen=True)
class _Tensors:
    """Builds the names and shapes of a layer's tensors."""

    family: Family
    config: Mapping[str, Any]
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int

    def layer(self, i: int) -> Layer:
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        f = self.family
        interleave = f.gguf_interleaved_qk
        return Layer(
            index=i,
            input_norm=self._norm(i, "input_layernorm", "attn_norm", self.hidden),
            q_proj=self._linear(i, "self_attn.q_proj", "attn_q", q, self.hidden, f.qkv_bias, self.heads * interleave),
            k_proj=self._linear(
                i, "self_attn.k_proj", "attn_k", kv, self.hidden, f.qkv_bias, self.kv_heads * interleave
            ),
            v_proj=self._linear(i, "self_attn.v_proj", "attn_v", kv, self.hidden, f.qkv_bias),
            o_proj=self._linear(i, "self_attn.o_proj", "attn_output", self.hidden, q, f.o_bias),
            post_attention_norm=self._norm(i, "post_attention_layernorm", "ffn_norm", self.hidden),
            gate_proj=self._linear(i, "mlp.gate_proj", "ffn_gate", self.intermediate, self.hidden, f.mlp_bias),
            up_proj=self._linear(i, "mlp.up_proj", "ffn_up", self.intermediate, self.hidden, f.mlp_bias),
            down_proj=self._linear(i, "mlp.down_proj", "ffn_down", self.hidden, self.intermediate, f.mlp_bias),
            q_norm=self._norm(i, "self_attn.q_norm", "attn_q_norm", self.head_dim) if f.qk_norm else None,
            k_norm=self._norm(i, "self_attn.k_norm", "attn_k_norm", self.head_dim) if f.qk_norm else None,
        )

    def _norm(self, i: int, name: str, gguf: str, size: int) -> TensorRef:
        return TensorRef(f"model.layers.{i}.{name}.weight", f"blk.{i}.{gguf}.weight", (size,))

    def _linear(
        self, i: int, name: str, gguf: str, out: int, in_: int, bias: bool | str, interleaved: int = 0
    ) -> Linear:
        def ref(kind: str, shape: tuple[int, ...]) -> TensorRef:
            return TensorRef(f"model.layers.{i}.{name}.{kind}", f"blk.{i}.{gguf}.{kind}", shape, interleaved)

        biased = bool(self.config.get(bias, False)) if isinstance(bias, str) else bias
        role = name.rpartition(".")[2]
        return Linear(role, ref("weight", (out, in_)), ref("bias", (out,)) if biased else None)


def _given(config: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """A value, or the default if the key is missing or null."""
    value = config.get(key)
    return default if value is None else value


def _positive(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = _given(config, key, default)
    if value is None:
        raise CheckpointError(f"config.json lacks {key}")
    return int(value)
