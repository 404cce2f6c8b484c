"""What an architecture is: dimensions, and for every tensor its role, shape and source names. Pure data, no numpy.

A family file (``llama.py``, ``qwen2.py``) holds a :class:`Family`; :meth:`Family.spec` turns a checkpoint's
``config.json`` into a :class:`ModelSpec`. The quantizer, the exporter, the planner and the runtime read that.
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
    """A tensor of the checkpoint under the names its two containers give it.

    Args:
        name: The Hugging Face name, ``model.layers.0.self_attn.q_proj.weight``.
        gguf: The GGUF name, ``blk.0.attn_q.weight``.
        shape: (out, in) or (size,).
        interleaved_heads: Number of heads whose halves the GGUF file stores interleaved (0: stored as in Hugging Face).
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
    """Rotary position embedding over ``head_dim``, halves rotated (not interleaved).

    ``scaling`` is ``default``, ``linear`` (positions divided by ``factor``), ``llama3`` (low frequencies divided by
    ``factor``, a smooth band between; https://github.com/meta-llama/llama-models, transformers
    ``_compute_llama3_parameters``) or ``factors`` (each frequency divided by its own, GGUF's ``rope_freqs``).
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
        """head_dim / 2 angular steps per position, in radians."""
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
        """In the order of the file: q, k, v, o, gate, up, down."""
        return self.q_proj, self.k_proj, self.v_proj, self.o_proj, self.gate_proj, self.up_proj, self.down_proj


@dataclass(frozen=True)
class ModelSpec:
    """A decoder-only model as data.

    ``lm_head`` shares ``embedding``'s tensor when ``tied_embeddings``. ``copied_head``: it has a tensor of its own that
    was made from the embedding (:func:`untied`).
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
        """Numbers a token adds to one layer's key cache (and as many to its value cache)."""
        return self.num_kv_heads * self.head_dim

    def tensors(self) -> Iterator[TensorRef]:
        """Every tensor the model needs, each once, in the order of the file."""
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
        """Number of weights; a tied table counts once, and so does one that was tied before :func:`untied`."""
        copied = math.prod(self.lm_head.weight.shape) if self.copied_head else 0
        return sum(math.prod(t.shape) for t in self.tensors()) - copied


def untied(spec: ModelSpec) -> ModelSpec:
    """The model with an lm_head of its own; where embedding and lm_head are one table, a copy of it."""
    if not spec.tied_embeddings:
        return spec
    head = Linear("lm_head", TensorRef(*_HEAD_NAMES, spec.embedding.shape))
    return replace(spec, tied_embeddings=False, lm_head=head, copied_head=True)


@dataclass(frozen=True)
class Family:
    """What one model family adds to the common decoder. A flag is True, False, or the config key that decides.

    Args:
        model_type: ``config.json``'s ``model_type`` and the file's name.
        gguf_architecture: ``general.architecture`` of a GGUF file.
        qkv_bias, o_bias, mlp_bias: Which linears carry a bias.
        gguf_interleaved_qk: GGUF stores q and k with each head's halves interleaved.
        required: Config keys that must have this value where they are present.
    """

    model_type: str
    gguf_architecture: str
    qkv_bias: bool | str
    o_bias: bool | str
    mlp_bias: bool | str
    gguf_interleaved_qk: bool
    required: Mapping[str, Any] = field(default_factory=dict)

    def spec(self, config: Mapping[str, Any]) -> ModelSpec:
        """Read ``config.json``.

        Args:
            config: The file's content; both ``rope_theta``/``rope_scaling`` and ``rope_parameters`` are understood.

        Raises:
            CheckpointError: A key is missing or has a value that makes no sense.
            UnsupportedModelError: A key asks for something this family has no graph for.
        """
        for key, value in self.required.items():
            if config.get(key, value) != value:
                raise UnsupportedModelError(
                    f"config.json of this {self.model_type} model says {key} = {config[key]!r}; supported: {value!r}"
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
    """Names and shapes of one layer's tensors."""

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
