"""How the next token is chosen: the defaults of a recipe or an artifact, and the settings that an application passes.

The filters themselves and their order are described in ``runtime/sampler.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from .errors import ArtifactError, nearest

FLOAT32_MAX = (2 - 2**-23) * 2.0**127  # the sampler computes in float32
LEAST_REPETITION_PENALTY = 0.01  # logits are divided by it; a much smaller one would make them infinite


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. The defaults keep the model's own distribution.

    Args:
        temperature: Divides the logits; 0 always takes the most likely token (greedy).
        top_p: Keeps the most likely tokens whose probabilities add up to this value; 1 keeps all.
        top_k: Keeps this many of the most likely tokens; 0 keeps all.
        min_p: Keeps tokens whose probability is at least this fraction of the most likely token's; 0 keeps all.
        repetition_penalty: Divides the positive logits of tokens seen before and multiplies the negative ones;
            1 changes nothing, above 1 discourages repetition. At least 0.01.

    Raises:
        ValueError: A value is outside its range; the message names the value and the range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p", "min_p", "repetition_penalty"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= FLOAT32_MAX:
                raise ValueError(f"{name} is {value!r}; it must be a finite number of at most {FLOAT32_MAX:.3g}")
        if isinstance(self.top_k, bool) or not isinstance(self.top_k, int):
            raise ValueError(f"top_k is {self.top_k!r}; it must be a whole number")
        allowed = {
            "temperature": (self.temperature >= 0, "0 (greedy) or more"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "top_k": (self.top_k >= 0, "0 or more"),
            "min_p": (0 <= self.min_p <= 1, "between 0 and 1"),
            "repetition_penalty": (
                self.repetition_penalty >= LEAST_REPETITION_PENALTY,
                f"{LEAST_REPETITION_PENALTY} or more",
            ),
        }
        for name, (valid, requirement) in allowed.items():
            if not valid:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be {requirement}")

    @classmethod
    def from_manifest(cls, values: Mapping[str, Any]) -> Sampling:
        """Read the defaults stored in an artifact's manifest; a missing or null value means this class's default.

        Raises:
            ArtifactError: An unknown key, or a value outside its range.
        """
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise ArtifactError(
                    f"the manifest's sampling settings have an unknown key {key!r}", hint=nearest(key, known)
                )
        try:
            return cls(**{key: value for key, value in values.items() if value is not None})
        except ValueError as error:
            raise ArtifactError(f"the manifest's sampling settings are not valid: {error}") from None


# DeepSeek recommends a temperature of 0.5 to 0.7 and a top_p of 0.95 for R1 and its distills; greedy decoding repeats
# itself endlessly (https://github.com/deepseek-ai/DeepSeek-R1, "Usage Recommendations").
REASONING_SAMPLING = Sampling(temperature=0.6, top_p=0.95)


@dataclass(frozen=True)
class SamplingOverrides:
    """Some of the settings of :class:`Sampling`; None keeps the value of what it is applied to.

    Raises:
        ValueError: A value is outside its range; the message names the value and the range.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None

    def __post_init__(self) -> None:
        self.applied_to(Sampling())

    def applied_to(self, sampling: Sampling) -> Sampling:
        """The settings with these changes."""
        return replace(sampling, **{name: value for name, value in asdict(self).items() if value is not None})
