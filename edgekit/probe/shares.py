"""An engine's measured speed as a share of the machine's limits.

    share_of_peak        prefill: multiply-adds of the prompt / (seconds * the kernel's multiply-adds per second)
    share_of_bandwidth   decode: (weights read per token + KV cache read per token) / (seconds * bytes per second)

The work is the model's and the same for every engine. The KV cache counts in the type the engine keeps it in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import ProbeError
from ..host import reset_peak
from ..runtime.engine import Engine
from .limits import Limits, Work, measure_limits, model_work


@dataclass(frozen=True)
class Shares:
    """Converts times into shares, which are None while ``limits`` or ``work`` is None.

    Attributes:
        limits: The machine's limits; None where they could not be measured.
        work: The model's work; None where it is unknown or the engine does not run on the processor.
        position_bytes: Bytes of the KV cache for one position.
        unknown: Why there are no shares, or None.
    """

    limits: Limits | None
    work: Work | None
    position_bytes: float
    unknown: str | None

    def of_peak(self, tokens: int, seconds: float) -> float | None:
        """The share of a prompt of ``tokens`` tokens that was evaluated in ``seconds``."""
        if self.limits is None or self.work is None:
            return None
        return self.work.prompt_multiply_adds[tokens] / (seconds * self.limits.kernel_gmac_s * 1e9)

    def of_bandwidth(self, context: int, gen_tokens: int, tok_s: float) -> float | None:
        """The share of ``gen_tokens`` tokens generated after ``context``; each reads its own position, too."""
        if self.limits is None or self.work is None:
            return None
        positions = context + (gen_tokens + 1) / 2  # the mean of context + 1 ... context + gen_tokens
        token_bytes = self.work.token_bytes + positions * self.position_bytes
        return token_bytes * tok_s / (self.limits.bandwidth_gb_s * 1e9)


def limits_before(threads: int) -> Limits | None:
    """Measure the limits without changing the process's peak memory.

    Returns:
        None where the peak cannot be reset or the limits could not be measured; :func:`find_shares` tells why.
    """
    if not reset_peak():
        return None
    try:
        return measure_limits(threads)
    except ProbeError:
        return None
    finally:
        reset_peak()


def find_shares(folder: Path, engine: Engine, prompt_tokens: list[int], before: Limits | None) -> Shares:
    """Measure the limits again and count the model's work.

    Args:
        folder: The artifact.
        engine: The engine that ran it.
        prompt_tokens: Prompt lengths.
        before: The result of :func:`limits_before`.
    """
    limits, work, unknown = before, None, None
    try:
        limits = measure_limits(engine.threads).better(before)
        if engine.on_processor:
            work = model_work(folder, prompt_tokens)
        else:
            unknown = f"the measured limits are the processor's, but {engine.kernel} does not run on it"
    except ProbeError as error:
        unknown = error.message
    return Shares(limits, work, engine.cache_bytes / engine.context, unknown)
