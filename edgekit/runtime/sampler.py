"""From logits to a token: keeps the settings and the ids seen so far, and calls the native ``src/sampler.cpp``.

The filters apply in transformers' order (``generation/logits_process.py``):

    repetition_penalty   for ids in the prompt and the answer: logit / p where positive, logit * p where negative
                         (CTRL, arXiv:1909.05858, section 4.1, with the usual correction for negative logits)
    temperature          logits / temperature; 0 is greedy: the largest logit, the lowest id among equals, no filters
    top_k                tokens at least as likely as the k-th
    top_p                the fewest most likely tokens whose probabilities, among those left by top_k, add up to p
                         (nucleus sampling, arXiv:1904.09751)
    min_p                tokens at least min_p times as likely as the most likely one (arXiv:2407.01082)

Tokens exactly as likely as the last one kept are kept too, so the outcome never depends on the order of ids.
``tests/support/sampling_reference.py`` is the reference in numpy; the native code is tested against it.
"""

from __future__ import annotations

import ctypes
import secrets
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from .. import native
from ..errors import EngineError
from ..sampling import Sampling

_FLOAT32_TINY = float(np.finfo(np.float32).tiny)  # smaller values would become 0 in the native code
_SEEDS = 1 << 64


class Sampler:
    """Chooses the tokens of one answer. Holds the settings, the random generator and the ids seen so far.

    Args:
        sampling: The settings.
        vocab_size: Length of the logits.
        seed: Makes the choices from the same logits repeatable, on every machine: 0 or more, below 2^64. None draws a
            fresh seed.

    Raises:
        ValueError: The seed is outside its range.
    """

    def __init__(self, sampling: Sampling, vocab_size: int, seed: int | None = None) -> None:
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < _SEEDS):
            raise ValueError(f"seed is {seed!r}; it must be a whole number, 0 or more and below 2^64")
        self._sampling = native.Sampling(
            temperature=sampling.temperature,
            top_p=max(sampling.top_p, _FLOAT32_TINY),
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            top_k=min(sampling.top_k, vocab_size),  # a larger top_k also keeps all tokens
        )
        self._state = ctypes.c_uint64(secrets.randbits(64) if seed is None else seed)
        self._seen = np.zeros(vocab_size, np.uint8)

    def observe(self, ids: Iterable[int]) -> None:
        """Count ids (the prompt's) as seen, for the repetition penalty."""
        self._seen[list(ids)] = 1

    def sample(self, logits: NDArray[np.float32]) -> int:
        """Choose the next token and count it as seen.

        Args:
            logits: float32 (vocab_size,); not changed.

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


def sample_together(worker: ctypes.c_void_p, samplers: Sequence[Sampler], logits: NDArray[np.float32]) -> list[int]:
    """Choose the next token of several answers, by several threads: the tokens that each sampler would choose alone.

    Args:
        worker: The native session whose threads do the work; no other call uses it.
        samplers: 1 to ``native.MOST_TOGETHER``, each at most once. They count the tokens as seen.
        logits: float32 (samplers, vocab_size), contiguous; not changed.

    Raises:
        EngineError: The logits of an answer are not numbers. All samplers are as before.
    """
    count = len(samplers)
    if logits.shape != (count, samplers[0]._seen.size) or not logits.flags.c_contiguous:
        raise ValueError(f"logits of shape {logits.shape} for {count} samplers")
    sampling = (native.Sampling * count)(*(each._sampling for each in samplers))
    seen = (ctypes.c_void_p * count)(*(each._seen.ctypes.data for each in samplers))
    states = (ctypes.c_uint64 * count)(*(each._state.value for each in samplers))
    tokens = (ctypes.c_int32 * count)()
    status = native.library().ek_session_sample(worker, logits.ctypes.data, count, sampling, seen, states, tokens)
    if status != native.OK:
        raise EngineError(native.last_error())
    for sampler, state, token in zip(samplers, states, tokens, strict=True):
        sampler._state.value = state
        sampler._seen[token] = 1
    return list(tokens)
