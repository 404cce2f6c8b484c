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
class Rope:
    """Rotary position embedding over ``head_dim``; it rotates halves (not interleaved pairs).

    ``scaling`` is ``default``, ``linear`` (positions are divided by ``factor``), ``llama3`` (low frequencies are
    divided by ``factor``, high ones kept, with a smooth transition; https://github.com/meta-llama/llama-models,
    transformers ``_compute_llama3_parameters``) or ``factors`` (each frequency has its own divisor, as in GGUF's
    ``rope_freqs``).
    """

    theta: float
    head_dim: int
    scaling: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192
    factors: tuple[float, ...] = ()

    def inverse_frequencies(self) -> tuple[float, ...]:
        """The angle per position of each rotated pair, in radians: head_dim / 2 values."""
        half = self.head_dim // 2
        plain = [self.theta ** (-2.0 * i / self.head_dim) for i in range(half)]
        if self.scaling == "linear":
            return tuple(f / self.factor for f in plain)
        if self.scaling == "factors":
            return tuple(f / g for f, g in zip(plain, self.factors, strict=True))
        if self.scaling == "llama3":
            return tuple(self._llama3(f) for f in plain)
        return tuple(plain)

    def _llama3(self, frequency: float) -> float:
        wavelength = 2 * math.pi / frequency
        if wavelength < self.original_context / self.high_freq_factor:
            return frequency
        if wavelength > self.original_context / self.low_freq_factor:
            return frequency / self.factor
        smooth = (self.original_context / wavelength - self.low_freq_factor) / (
            self.high_freq_factor - self.low_freq_factor
        )
        return (1 - smooth) * frequency / self.factor + smooth * frequency


@dataclass(frozen=True)
class Layer:
    """One decoder layer: norm, attention, norm, gated MLP."""

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

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The linears in the order of the file: q, k, v, o, gate, up, down."""
        return self.q_proj, self.k_proj, self.v_proj, self.o_proj, self.gate_proj, self.up_proj, self.down_proj


@dataclass(frozen=True)
class ModelSpec:
    """A decoder-only model as data.

    With ``tied_embeddings``, ``lm_head`` uses the embedding's tensor. ``copied_head`` means that ``lm_head`` is a copy
    of the embedding, made by :func:`untied`.
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

    @property
    def kv_width(self) -> int:
        """The number of values that a token adds to one layer's key cache, and again to its value cache."""
        return self.num_kv_heads * self.head_dim

    def tensors(self) -> Iterator[TensorRef]:
        """Every tensor of the model, once, in the order of the file."""
        yield self.embedding
        for layer in self.layers:
            yield layer.input_norm
            for linear in layer.linears:
                yield linear.weight
                if linear.bias is not None:
                    yield linear.bias
            yield layer.post_attention_norm
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
        required: Config keys that must have the given value if they are present.
    """

    model_type: str
    qkv_bias: bool | str
    o_bias: bool | str
    mlp_bias: bool | str
    gguf_interleaved_qk: bool
    required: Mapping[str, Any] = field(default_factory=dict)

    def spec(self, config: Mapping[str, Any]) -> ModelSpec:
        """Read ``config.json``.

        Args:
            config: The file's content, with ``rope_theta`` and ``rope_scaling`` or with ``rope_parameters``.

        Raises:
            CheckpointError: A key is missing or has an invalid value.
            UnsupportedModelError: An option is not supported for this family.
        """
        for key, value in self.required.items():
            if config.get(key, value) != value:
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
        if config.get("head_dim") is None and hidden % heads:
            raise CheckpointError(f"config.json: hidden_size {hidden} is not a multiple of num_attention_heads {heads}")
        head_dim = _positive(config, "head_dim", hidden // heads)
        builder = _Tensors(self, config, hidden, _positive(config, "intermediate_size"), heads, kv_heads, head_dim)
        vocab = _positive(config, "vocab_size")
        layers = _positive(config, "num_hidden_layers")
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
            context_length=_positive(config, "max_position_embeddings"),
            rms_norm_eps=float(config.get("rms_norm_eps", 1e-6)),
            rope=_rope(config, head_dim),
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
            input_norm=self._norm(i, "input_layernorm", "attn_norm"),
            q_proj=self._linear(i, "self_attn.q_proj", "attn_q", q, self.hidden, f.qkv_bias, self.heads * interleave),
            k_proj=self._linear(
                i, "self_attn.k_proj", "attn_k", kv, self.hidden, f.qkv_bias, self.kv_heads * interleave
            ),
            v_proj=self._linear(i, "self_attn.v_proj", "attn_v", kv, self.hidden, f.qkv_bias),
            o_proj=self._linear(i, "self_attn.o_proj", "attn_output", self.hidden, q, f.o_bias),
            post_attention_norm=self._norm(i, "post_attention_layernorm", "ffn_norm"),
            gate_proj=self._linear(i, "mlp.gate_proj", "ffn_gate", self.intermediate, self.hidden, f.mlp_bias),
            up_proj=self._linear(i, "mlp.up_proj", "ffn_up", self.intermediate, self.hidden, f.mlp_bias),
            down_proj=self._linear(i, "mlp.down_proj", "ffn_down", self.hidden, self.intermediate, f.mlp_bias),
        )

    def _norm(self, i: int, name: str, gguf: str) -> TensorRef:
        return TensorRef(f"model.layers.{i}.{name}.weight", f"blk.{i}.{gguf}.weight", (self.hidden,))

    def _linear(
        self, i: int, name: str, gguf: str, out: int, in_: int, bias: bool | str, interleaved: int = 0
    ) -> Linear:
        def ref(kind: str, shape: tuple[int, ...]) -> TensorRef:
            return TensorRef(f"model.layers.{i}.{name}.{kind}", f"blk.{i}.{gguf}.{kind}", shape, interleaved)

        biased = bool(self.config.get(bias, False)) if isinstance(bias, str) else bias
        role = name.rpartition(".")[2]
        return Linear(role, ref("weight", (out, in_)), ref("bias", (out,)) if biased else None)


def _positive(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = config.get(key)
    if value is None:
        value = default
    if value is None:
        raise CheckpointError(f"config.json lacks {key}")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
        raise CheckpointError(f"config.json: {key} is {value!r}; it must be a whole number from 1 to {2**31 - 1}")
    return value


def _rope(config: Mapping[str, Any], head_dim: int) -> Rope:
    table: Mapping[str, Any] = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = float(table.get("rope_theta") or config.get("rope_theta") or 10000.0)
    kind = table.get("rope_type") or table.get("type") or "default"
    try:
        if kind == "default":
            return Rope(theta, head_dim)
        if kind == "linear":
            return Rope(theta, head_dim, "linear", factor=float(table["factor"]))
        if kind == "factors":
            return Rope(theta, head_dim, "factors", factors=tuple(float(f) for f in table["factors"]))
        if kind == "llama3":
            return Rope(
                theta,
                head_dim,
                "llama3",
                factor=float(table["factor"]),
                low_freq_factor=float(table["low_freq_factor"]),
                high_freq_factor=float(table["high_freq_factor"]),
                original_context=int(table["original_max_position_embeddings"]),
            )
    except KeyError as missing:
        raise CheckpointError(f"config.json: rope scaling {kind!r} lacks {missing.args[0]}") from None
    raise UnsupportedModelError(f"config.json: rope scaling {kind!r}; supported: default, linear, llama3")
