"""KL, agreement and likelihood from parts of a vocabulary equal those of the definition over the whole."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgekit.quality.scores import Scores, figures


def logits(seed: int, positions: int = 150, vocabulary: int = 70) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((positions, vocabulary)) * 4).astype(np.float32)


def in_parts(ours: np.ndarray, theirs: np.ndarray, targets: np.ndarray, part: int, block: int) -> Scores:
    scores = Scores(targets)
    for first in range(0, ours.shape[1], part):
        for start in range(0, len(ours), block):
            rows, at = slice(first, first + part), slice(start, start + block)
            scores.add(first, start, ours[at, rows], theirs[at, rows])
    return scores


def log_softmax(z: np.ndarray) -> np.ndarray:
    z = z.astype(np.float64)
    return z - z.max(-1, keepdims=True) - np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1, keepdims=True))


@pytest.mark.parametrize(("part", "block"), [(70, 150), (32, 64), (1, 7)])
def test_parts_give_the_definition(part: int, block: int) -> None:
    ours, theirs = logits(1), logits(2)
    targets = np.random.default_rng(3).integers(0, 70, 150)
    found = figures([in_parts(ours, theirs, targets, part, block)])
    q, p = log_softmax(ours), log_softmax(theirs)
    kl, each = (np.exp(p) * (p - q)).sum(-1), np.arange(150)
    assert found.mean_kl == pytest.approx(kl.mean(), rel=1e-5)
    assert found.p99_kl == pytest.approx(np.quantile(kl, 0.99), rel=1e-5)
    assert found.top1 == (q.argmax(-1) == p.argmax(-1)).mean()
    assert found.perplexity == pytest.approx(np.exp(-q[each, targets].mean()), rel=1e-5)
    assert found.reference_perplexity == pytest.approx(np.exp(-p[each, targets].mean()), rel=1e-5)
    assert found.perplexity_ratio == pytest.approx(found.perplexity / found.reference_perplexity)
    assert found.tokens == 150


def test_equal_models_have_no_distance_and_large_logits_no_overflow() -> None:
    z = logits(1) * 1000
    found = figures([in_parts(z, z, np.zeros(150, np.int64), 16, 64)])
    assert found.mean_kl == 0
    assert found.top1 == 1


def test_nan_in_one_logit_makes_the_figures_nan() -> None:
    ours, theirs = logits(1), logits(2)
    ours[5, 60] = np.nan
    found = figures([in_parts(ours, theirs, np.zeros(150, np.int64), 32, 64)])
    assert math.isnan(found.mean_kl)
    assert math.isnan(found.perplexity)
