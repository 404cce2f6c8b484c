"""Two models' logits compared, position by position, while only a part of the vocabulary is at hand at a time.

Per position, with z the logits of the artifact and w those of the float model, summed over the parts as in online
softmax (arXiv:1805.02867), so that no row of the vocabulary is ever whole:

    log Z = log sum exp z        KL(float || artifact) = sum_v p_v (w_v - z_v) - log Z_w + log Z_z,  p = exp(w) / Z_w
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_POSITIONS = 64  # at a time: with 4096 rows of the vocabulary 1 MB, which stays in the cache between the few passes


@dataclass(frozen=True)
class Figures:
    """How far an artifact is from its float model, over all scored positions.

    Args:
        mean_kl, p99_kl: Kullback-Leibler divergence from the float model to the artifact, nats per token; its mean and
            its 99th percentile.
        top1: Share of positions where both models' likeliest token is the same.
        perplexity, reference_perplexity: exp of the mean negative log-likelihood of the text's own tokens.
        tokens: Positions scored.
    """

    mean_kl: float
    p99_kl: float
    top1: float
    perplexity: float
    reference_perplexity: float
    tokens: int

    @property
    def perplexity_ratio(self) -> float:
        """The artifact's perplexity / the float model's."""
        return self.perplexity / self.reference_perplexity


class _Softmax:
    """One model's logits, seen part by part: the sum of their exponentials, the largest, and the target's."""

    def __init__(self, positions: int) -> None:
        self.largest = np.full(positions, -np.inf)
        self.sum = np.zeros(positions)
        self.best = np.zeros(positions, np.int64)
        self.target = np.full(positions, np.nan)

    def add(
        self, at: slice, z: NDArray[np.float32], first: int, targets: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Take (positions, rows) logits of vocabulary rows from ``first`` on.

        Returns:
            exp(z - the largest so far), and what sums of such exponentials before must be multiplied with.
        """
        each = np.arange(len(z))
        best = z.argmax(-1)
        largest = np.fmax(self.largest[at], z[each, best].astype(np.float64))
        # A position whose logits are all -inf, or NaN, gives NaN: a failure, and reported as one.
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
    """The comparison of some positions.

    Args:
        targets: The id that follows each position, (positions,).
    """

    def __init__(self, targets: NDArray[np.int64]) -> None:
        self._targets = targets
        self._ours, self._theirs = _Softmax(len(targets)), _Softmax(len(targets))
        self._difference = np.zeros(len(targets))  # sum of exp(w - the largest) (w - z)

    def add(self, first: int, start: int, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> None:
        """Take logits of a part of the vocabulary; the parts of each position come in order.

        Args:
            first: The part's first row.
            start: The first of the positions.
            ours, theirs: (some positions, rows of the part), the artifact's and the float model's.
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
        """Of each position."""
        return np.asarray(self._difference / self._theirs.sum - self._theirs.log_sum + self._ours.log_sum)

    def same(self) -> NDArray[np.bool_]:
        """Where both models' likeliest token is the same."""
        return np.asarray(self._ours.best == self._theirs.best)

    def losses(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Negative log-likelihood of each target by the artifact and by the float model."""
        return self._ours.log_sum - self._ours.target, self._theirs.log_sum - self._theirs.target


def figures(scores: list[Scores]) -> Figures:
    """The figures over everything that was compared."""
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
