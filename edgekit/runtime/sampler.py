"""From logits to a token: the configuration, and the ids seen so far; the choice is native (``src/sampler.cpp``).

The filters apply in this order, which is transformers' (``generation/logits_process.py``):

    repetition_penalty   ids of the prompt and of the answer: logit / p where positive, logit * p where negative
                         (CTRL, arXiv:1909.05858, section 4.1, with the sign mended as everywhere since)
    temperature          logits / temperature; 0 is greedy: the largest logit, the lowest id among equals, no filters
    top_k                tokens at least as likely as the k-th
    top_p                the fewest most likely tokens whose probabilities, among those left by top_k, reach p
                         (nucleus sampling, arXiv:1904.09751)
    min_p                tokens at least min_p times as likely as the likeliest (arXiv:2407.01082)

Tokens exactly as likely as the last one kept are kept too, so the outcome never depends on the order of ids.
``tests/support/sampling_reference.py`` is the same in numpy, which the native code is held to.
"""

from __future__ import annotations

import ctypes
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import native
from ..errors import ArtifactError, EngineError, nearest

# The native code computes in float32.
_LARGEST, _SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)
_SEEDS = 1 << 64


@dataclass(frozen=True)
class SamplingConfig:
    """How the next token is chosen.

    Args:
        temperature: 0 (greedy) or more; 1 leaves the model's distribution as it is.
        top_p: Above 0, at most 1; 1 keeps all.
        top_k: 0 (off) or how many tokens stay.
        min_p: 0 (off) to 1.
        repetition_penalty: Above 0; 1 is off, above 1 discourages repetition.
        seed: Makes the choice repeatable, on every machine; below 2^64. None draws a fresh one.

    Raises:
        ValueError: A value outside its range; the message names the value and the range.
    """

    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p", "min_p", "repetition_penalty"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
                raise ValueError(f"{name} is {value!r}; it must be a finite number of at most {_LARGEST:.3g}")
        for name in ("top_k", "seed"):
            value = getattr(self, name)
            if name == "seed" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} is {value!r}; it must be a whole number, 0 or more")
        if self.seed is not None and self.seed >= _SEEDS:
            raise ValueError(f"seed is {self.seed}; it must be below 2^64")
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}; it must be 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p is {self.min_p}; it must be between 0 and 1")
        if self.repetition_penalty <= 0:
            raise ValueError(f"repetition_penalty is {self.repetition_penalty}; it must be above 0")

    @classmethod
    def from_manifest(cls, values: Mapping[str, Any]) -> SamplingConfig:
        """The defaults an artifact carries; a missing or null value leaves this class's own.

        Raises:
            ArtifactError: An unknown key, or a value outside its range.
        """
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise ArtifactError(f"the manifest's sampling has an unknown key {key!r}", hint=nearest(key, known))
        try:
            return cls(**{key: value for key, value in values.items() if value is not None})
        except ValueError as error:
            raise ArtifactError(f"the manifest's sampling: {error}") from None


class Sampler:
    """Chooses the tokens of one answer: a configuration, a random generator and the ids seen so far.

    Args:
        config: How to choose.
        vocab_size: Length of the logits.
    """

    def __init__(self, config: SamplingConfig, vocab_size: int) -> None:
        self.config = config
        self._sampling = native.Sampling(
            temperature=config.temperature,
            top_p=max(config.top_p, _SMALLEST),
            min_p=config.min_p,
            repetition_penalty=max(config.repetition_penalty, _SMALLEST),
            top_k=min(config.top_k, vocab_size),  # as many as there are is all
        )
        self._state = ctypes.c_uint64(secrets.randbits(64) if config.seed is None else config.seed)
        self._seen = np.zeros(vocab_size, np.uint8)

    def observe(self, ids: Iterable[int]) -> None:
        """Count ids (the prompt's) as seen, for the repetition penalty."""
        self._seen[list(ids)] = 1

    def sample(self, logits: NDArray[np.float32]) -> int:
        """Choose the next token and count it as seen.

        Args:
            logits: float32 (vocab_size,); left as it is.

        Raises:
            EngineError: The logits are not numbers: the model overflowed.
            ValueError: The logits are not of this vocabulary.
        """
        if logits.shape != self._seen.shape:
            raise ValueError(f"logits of shape {logits.shape} for a vocabulary of {self._seen.size}")
        row = np.ascontiguousarray(logits, np.float32)
        token = ctypes.c_int32()
        status = native.library().ek_sample(
            row.ctypes.data, row.size, self._sampling, self._seen.ctypes.data, self._state, token
        )
        if status != native.OK:
            raise EngineError(native.last_error())
        self._seen[token.value] = 1
        return token.value
