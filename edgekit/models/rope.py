"""Rotary position embeddings as data: read from ``config.json``, and the angles that follow from it. No numpy.

The graph and the native engine read the tables of cos and sin (``export/rotary.py``), so every kind of scaling ends
here. The definitions are those of transformers' ``modeling_rope_utils.py``:

    default   theta ** (-2 i / head_dim)
    linear    each frequency divided by ``factor``
    dynamic   the frequencies depend on the length of the text, but only beyond the original context; edgekit offers no
              longer context than that, so they are the default ones
    llama3    low frequencies divided by ``factor``, high ones kept, with a smooth transition
              (https://github.com/meta-llama/llama-models)
    yarn      the same with another transition, and cos and sin multiplied by an attention factor (YaRN,
              https://arxiv.org/abs/2309.00071, sections 3.2 to 3.4)
    factors   each frequency has its own divisor, as in GGUF's ``rope_freqs``
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CheckpointError, UnsupportedModelError
from ..schema.config import check_rope

KINDS = "default", "linear", "dynamic", "llama3", "yarn"  # those that config.json can name
# Keys that say nothing about the angles, or that no implementation reads.
_WITHOUT_EFFECT = {"rope_type", "type", "rope_theta", "finetuned", "max_position_embeddings"}
# Keys of each kind. A key of another kind has no effect: transformers ignores it as well, with a warning.
_KEYS = {
    "linear": {"factor"},
    "dynamic": {"factor", "original_max_position_embeddings"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
    "yarn": {
        "factor", "original_max_position_embeddings", "attention_factor", "attn_factor", "beta_fast", "beta_slow",
        "mscale", "mscale_all_dim", "truncate", "extrapolation_factor",
    },
    "factors": {"factors"},
    "longrope": {"short_factor", "long_factor", "short_mscale", "long_mscale"},
}  # fmt: skip
# Keys of the rotary embedding that stand outside its table.
_BESIDE = ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings")
_KNOWN = _WITHOUT_EFFECT.union(*_KEYS.values())


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding over ``head_dim``; it rotates halves (not interleaved pairs).

    Args:
        scaling: One of the kinds above.
        attention_factor: What cos and sin are multiplied by.
        attn_factor: The key of that name in config.json, if it has one; it is part of ``attention_factor``.
            transformers ignores this key.
    """

    theta: float
    head_dim: int
    scaling: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192
    factors: tuple[float, ...] = ()
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    attention_factor: float = 1.0
    attn_factor: float | None = None

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
        if self.scaling == "yarn":
            kept = self._yarn_kept()
            return tuple(f / self.factor * (1 - k) + f * k for f, k in zip(plain, kept, strict=True))
        return tuple(plain)

    def describe(self) -> dict[str, Any]:
        """The embedding for the manifest: kind, theta, scaling, attention factor, and where transformers differs."""
        found: dict[str, Any] = {"type": self.scaling, "theta": self.theta, "attention_factor": self.attention_factor}
        if self.scaling != "default":
            found["factor"] = self.factor
        if self.scaling in ("dynamic", "llama3", "yarn"):
            found["original_context"] = self.original_context
        if self.attn_factor is not None:
            default = self.attention_factor / self.attn_factor
            found |= {
                "attn_factor": self.attn_factor,
                "transformers_attention_factor": default,
                "note": f"config.json has attn_factor {self.attn_factor:.8g}. It multiplies YaRN's attention factor, "
                f"which is {default:.8g} by default, so cos and sin are multiplied by {self.attention_factor:.8g}. "
                f"transformers ignores this key and multiplies by {default:.8g}.",
            }
        return found

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

    def _yarn_kept(self) -> list[float]:
        """How much of each frequency is kept: 1 above ``beta_fast`` rotations within the original context, 0 below
        ``beta_slow``."""

        def dimension(rotations: float) -> float:
            turns = self.original_context / (rotations * 2 * math.pi)
            return self.head_dim * math.log(turns) / (2 * math.log(self.theta))

        low, high = dimension(self.beta_fast), dimension(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, self.head_dim - 1)
        width = high - low if high != low else 0.001
        return [1 - min(max((i - low) / width, 0), 1) for i in range(self.head_dim // 2)]


def read_rope(config: Mapping[str, Any], head_dim: int, context: int) -> Rope:
    """Read the rotary embedding of a ``config.json``.

    Args:
        config: The file's content, with ``rope_theta`` and ``rope_scaling`` or with ``rope_parameters``.
        head_dim: Size of a head.
        context: ``max_position_embeddings``.

    Raises:
        CheckpointError: A key is missing, has an invalid value, or contradicts another.
        UnsupportedModelError: This kind of scaling is not supported, or a key is unknown.
    """
    read = _Reader(_table(config), config)
    theta = read.theta()
    kind = read.kind()
    read.check_keys(kind)
    if kind == "default":
        return Rope(theta, head_dim)
    if kind == "factors":
        factors = tuple(float(f) for f in read.table.get("factors") or ())
        if len(factors) != head_dim // 2:
            raise CheckpointError(
                f"config.json: rope scaling 'factors' lists {len(factors)} factors; head_dim {head_dim} needs "
                f"{head_dim // 2}"
            )
        return Rope(theta, head_dim, kind, factors=factors)
    if kind == "linear":
        return Rope(theta, head_dim, kind, factor=read.number("factor"))
    if kind == "dynamic":
        return Rope(theta, head_dim, kind, factor=read.number("factor"), original_context=read.original(context))
    if kind == "llama3":
        factor, low, high = (read.number(key) for key in ("factor", "low_freq_factor", "high_freq_factor"))
        if high <= low:
            raise CheckpointError(
                f"config.json: high_freq_factor is {high:g} and low_freq_factor is {low:g}; it must be the larger one"
            )
        return Rope(theta, head_dim, kind, factor, low, high, original_context=read.original(None))
    return _yarn(read, theta, head_dim, context)


def _yarn(read: _Reader, theta: float, head_dim: int, context: int) -> Rope:
    if theta <= 1:
        raise CheckpointError(f"config.json: rope_theta is {theta}; rope scaling 'yarn' needs a number above 1")
    original = read.original(context)
    factor = read.number("factor", context / original if "original_max_position_embeddings" in read.table else None)
    default = _magnitude(factor)
    if read.table.get("mscale") and read.table.get("mscale_all_dim"):
        default = _magnitude(factor, read.number("mscale")) / _magnitude(factor, read.number("mscale_all_dim"))
    extrapolation = read.number("extrapolation_factor", 1.0)
    if extrapolation != 1:
        raise UnsupportedModelError(f"config.json: rope scaling has extrapolation_factor {extrapolation}; supported: 1")
    attn_factor = read.number("attn_factor", 0.0) or None
    meant = default * (1.0 if attn_factor is None else attn_factor)
    if math.isclose(meant, 1, rel_tol=1e-6):
        meant = 1.0  # attn_factor is a rounded number, in GGUF a float32
    stated = read.number("attention_factor", meant)
    if attn_factor is not None and not math.isclose(stated, meant, rel_tol=1e-6):
        raise CheckpointError(
            f"config.json: rope scaling has attention_factor {stated:.8g} and attn_factor {attn_factor:.8g}, which "
            f"means {meant:.8g}; they contradict each other",
            hint="remove the one that the model was not trained with",
        )
    return Rope(
        theta,
        head_dim,
        "yarn",
        factor=factor,
        original_context=original,
        beta_fast=read.number("beta_fast", 0.0) or 32.0,
        beta_slow=read.number("beta_slow", 0.0) or 1.0,
        truncate=read.table.get("truncate") is not False,
        attention_factor=meant if attn_factor is not None else stated,
        attn_factor=attn_factor,
    )


def _magnitude(factor: float, scale: float = 1.0) -> float:
    """YaRN's attention factor, equation 22 of the paper: for each of q and k, so it is the root of what scores get."""
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def _table(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The table of scaling, whichever key it is under."""
    old, new = config.get("rope_scaling") or {}, config.get("rope_parameters") or {}
    for key, table in (("rope_scaling", old), ("rope_parameters", new)):
        if not isinstance(table, Mapping):
            raise CheckpointError(f"config.json: {key} is {table!r}; it must be an object or null")
        if any(isinstance(value, Mapping) for value in table.values()):
            raise UnsupportedModelError(
                f"config.json: {key} differs between layers; supported: one rotary embedding for all layers"
            )
        check_rope(table)
    check_rope({key: config.get(key) for key in _BESIDE})
    if old and new and _effective(old) != _effective(new):
        raise CheckpointError(
            f"config.json: rope_scaling is {dict(old)} and rope_parameters is {dict(new)}; they differ"
        )
    result: Mapping[str, Any] = {**new, **old}
    return result


def _effective(table: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in table.items() if key not in _WITHOUT_EFFECT and value is not None}
    return {"kind": table.get("rope_type") or table.get("type") or "default", **kept}


@dataclass(frozen=True)
class _Reader:
    """Reads values of the scaling table and checks them."""

    table: Mapping[str, Any]
    config: Mapping[str, Any]

    def kind(self) -> str:
        kinds = {str(self.table[key]) for key in ("rope_type", "type") if self.table.get(key) is not None}
        if len(kinds) > 1:
            raise CheckpointError(
                f"config.json: rope scaling has rope_type {self.table['rope_type']!r} and type {self.table['type']!r}"
            )
        return kinds.pop() if kinds else "default"

    def theta(self) -> float:
        inner, outer = (_number(table.get("rope_theta")) for table in (self.table, self.config))
        if inner is not None and outer is not None and inner != outer:
            raise CheckpointError(f"config.json: rope_theta is {outer:g}, but {inner:g} beside the rope scaling")
        return inner or outer or 10000.0

    def check_keys(self, kind: str) -> None:
        if kind not in (*KINDS, "factors"):
            raise UnsupportedModelError(f"config.json: rope scaling {kind!r}; supported: {', '.join(KINDS)}")
        for table in (self.table, self.config):
            rotated = _number(table.get("partial_rotary_factor"))
            if rotated not in (None, 1):
                raise UnsupportedModelError(
                    f"config.json: partial_rotary_factor is {rotated:g}; supported: 1, which rotates whole heads"
                )
        known = {*_KNOWN, "partial_rotary_factor"}
        if unknown := sorted(key for key, value in self.table.items() if key not in known and value is not None):
            raise UnsupportedModelError(
                f"config.json: rope scaling {kind!r} has {unknown[0]} = {self.table[unknown[0]]!r}, which edgekit does "
                "not know",
                hint="remove the key from config.json if the model's own code does not read it",
            )

    def number(self, key: str, default: float | None = None) -> float:
        """A number; ``default`` if it is missing or null."""
        found = _number(self.table.get(key))
        if found is not None:
            return found
        if default is None:
            raise CheckpointError(f"config.json: rope scaling {self.kind()!r} lacks {key}")
        return default

    def original(self, default: int | None) -> int:
        """``original_max_position_embeddings``: beside the scaling, or as transformers' Phi-3 has it, outside."""
        key = "original_max_position_embeddings"
        found = _number(self.table.get(key)) or _number(self.config.get(key)) or default
        if found is None:
            raise CheckpointError(f"config.json: rope scaling {self.kind()!r} lacks {key}")
        return int(found)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
