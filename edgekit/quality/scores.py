"""Compares the logits of two models position by position, a part of the vocabulary at a time.

For each position, with z the artifact's logits and w the float model's, the sums below are accumulated over the parts
as in online softmax (arXiv:1805.02867), so the logits of the whole vocabulary never exist at once:

    log Z = log sum exp z        KL(float || artifact) = sum_v p_v (w_v - z_v) - log Z_w + log Z_z,  p = exp(w) / Z_w
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_POSITIONS = 64  # positions processed at a time: with 4096 rows of the vocabulary 1 MB, which stays in the CPU's cache


@dataclass(frozen=True)
class Figures:
    """The differences between an artifact and its float model, over all scored positions.

    Args:
        mean_kl, p99_kl: Mean and 99th percentile of the Kullback-Leibler divergence from the float model to the
            artifact, in nats per token.
        top1: Fraction of positions where both models have the same most likely token.
        perplexity, reference_perplexity: exp of the mean negative log-likelihood of the text's tokens, for the artifact
            and for the float model.
        tokens: Number of scored positions.
    """

    mean_kl: float
    p99_kl: float
    top1: float
    perplexity: float
    reference_perplexity: float
    tokens: int

    @property
    def perplexity_ratio(self) -> float:
        """The artifact's perplexity divided by the float model's."""
        return self.perplexity / self.reference_perplexity


class _Softmax:
    """Statistics of one model's logits: the largest, the sum of exponentials relative to it, and the target's logit."""

    def __init__(self, positions: int) -> None:
        self.largest = np.full(positions, -np.inf)
        self.sum = np.zeros(positions)
        self.best = np.zeros(positions, np.int64)
        self.target = np.full(positions, np.nan)

    def add(
        self, at: slice, z: NDArray[np.float32], first: int, targets: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Add logits.

        Args:
            at: The positions.
            z: Logits of some rows of the vocabulary, (positions, rows).
            first: The first of these rows.
            targets: The id that follows each position, (positions,).

        Returns:
            exp(z - the largest logit so far), and the factor that rescales earlier sums of such exponentials.
        """
        each = np.arange(len(z))
        best = z.argmax(-1)
        largest = np.fmax(self.largest[at], z[each, best].astype(np.float64))
        # If the logits of a position are NaN, or all -inf, the result is NaN, which no threshold accepts.
        with np.errstate(invalid="ignore"):
            shrink = np.exp(self.largest[at] - largest)
            exponentials: NDArray[np.float32] = np.exp(z - largest[:, None].astype(np.float32))
        better = z[each, best] > self.largest[at]
        self.best[at] = np.where(better, first + best, self.best[at])
        self.sum[at] = self.sum[at] * shrink + exponentials.sum(-1, dtype=np.float64)
        self.largest[at] = largest
        inside = (targets >= first) & (targets < first + z.shape[1])
        self.target[at] = np.where(inside, z[each, np.where(inside, targets - first, 0)], self.target[at])
        return exponentials, shrink

    @property
    def log_sum(self) -> NDArray[np.float64]:
        return np.asarray(np.log(self.sum) + self.largest)


class Scores:
    """Compares two models at some positions.

    Args:
        targets: The id that follows each position, (positions,).
    """

    def __init__(self, targets: NDArray[np.int64]) -> None:
        self._targets = targets
        self._ours, self._theirs = _Softmax(len(targets)), _Softmax(len(targets))
        self._difference = np.zeros(len(targets))  # sum of exp(w - the largest) (w - z)

    def add(self, first: int, start: int, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> None:
        """Add the logits of a part of the vocabulary. The parts of each position must be added in order.

        Args:
            first: First row of the part.
            start: First of the positions.
            ours, theirs: The artifact's and the float model's logits, (positions, rows of the part).
        """
        for i in range(0, len(ours), _POSITIONS):
            z, w = ours[i : i + _POSITIONS], theirs[i : i + _POSITIONS]
            at = slice(start + i, start + i + len(z))
            self._ours.add(at, z, first, self._targets[at])
            exponentials, shrink = self._theirs.add(at, w, first, self._targets[at])
            with np.errstate(invalid="ignore"):
                exponentials *= w - z
                self._difference[at] = self._difference[at] * shrink + exponentials.sum(-1, dtype=np.float64)

    def kl(self) -> NDArray[np.float64]:
        """The KL divergence at each position, in nats."""
        return np.asarray(self._difference / self._theirs.sum - self._theirs.log_sum + self._ours.log_sum)

    def same(self) -> NDArray[np.bool_]:
        """Whether both models have the same most likely token, for each position."""
        return np.asarray(self._ours.best == self._theirs.best)

    def losses(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The negative log-likelihood of each target, under the artifact and under the float model."""
        return self._ours.log_sum - self._ours.target, self._theirs.log_sum - self._theirs.target


def figures(scores: list[Scores]) -> Figures:
    """Compute the figures over all positions of some comparisons."""
    kl = np.concatenate([s.kl() for s in scores])
    ours, theirs = (np.concatenate([s.losses()[i] for s in scores]).mean() for i in (0, 1))
    with np.errstate(over="ignore"):
        return Figures(
            mean_kl=float(kl.mean()),
            p99_kl=float(np.quantile(kl, 0.99)),
            top1=float(np.concatenate([s.same() for s in scores]).mean()),
            perplexity=float(np.exp(ours)),
            reference_perplexity=float(np.exp(theirs)),
            tokens=len(kl),
        )
