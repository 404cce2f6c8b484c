"""Rotations are orthogonal, have no large entries, and are the same on every machine."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from edgekit.quantize.rotation import Rotation

# Hidden sizes and head dimensions of SmolLM2 and the R1 distills, and odd ones.
LARGE = [pytest.param(size, marks=pytest.mark.slow) for size in (3584, 4096, 5120)]
SIZES = [1, 2, 3, 64, 80, 96, 128, 144, 576, 1409, 1536, *LARGE]


@pytest.mark.parametrize("size", SIZES)
def test_it_is_orthogonal_and_spreads(size: int) -> None:
    q = Rotation(size, seed=1).matrix().astype(np.float64)
    np.testing.assert_allclose(q @ q.T, np.eye(size), atol=1e-5)
    assert np.abs(q).max() <= np.sqrt(2 / size) * (1 + 1e-5) or size == 1


@pytest.mark.parametrize("size", SIZES)
def test_rows_and_columns_are_its_products(size: int) -> None:
    rotation, rng = Rotation(size, seed=2), np.random.default_rng(0)
    q = rotation.matrix().astype(np.float64)
    x = rng.standard_normal((2, 5, size)).astype(np.float32)
    before = x.copy()
    np.testing.assert_allclose(rotation.rows(x), x @ q, atol=1e-4)
    np.testing.assert_array_equal(x, before)
    w = rng.standard_normal((size, 7)).astype(np.float32)
    expected = q.T @ w
    rotation.columns(w)
    np.testing.assert_allclose(w, expected, atol=1e-4)


def test_columns_of_more_than_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    w = np.random.default_rng(0).standard_normal((96, 50)).astype(np.float32)
    whole, pieces = w.copy(), w.copy()
    Rotation(96, seed=1).columns(whole)
    monkeypatch.setattr("edgekit.quantize.rotation.PIECE_ELEMENTS", 96 * 7)
    Rotation(96, seed=1).columns(pieces)
    np.testing.assert_allclose(pieces, whole, atol=1e-5)


def test_signs_are_the_same_everywhere() -> None:
    """The gate uses the same matrix as the build, whichever version of numpy is installed."""
    signs = np.sign(Rotation(1536, seed=1).matrix()[:, 0])  # all factors' first columns are positive
    digest = hashlib.sha256(signs.astype(np.int8).tobytes()).hexdigest()[:16]
    assert digest == "0e197ad5a631e0bb"
    assert not np.array_equal(signs, np.sign(Rotation(1536, seed=2).matrix()[:, 0]))


def test_an_outlier_is_spread() -> None:
    x = np.zeros((1, 4096), np.float32)
    x[0, 17] = 64.0
    assert np.abs(Rotation(4096, seed=1).rows(x)).max() == pytest.approx(1.0)


def test_no_features() -> None:
    with pytest.raises(ValueError, match="size of a rotation is 0; it must be at least 1"):
        Rotation(0, seed=1)
