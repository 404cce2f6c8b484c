"""Sums over batches equal sums over all rows at once, in either order of computation."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.quantize import sums as module
from edgekit.quantize.sums import InputSums

F = np.float32
# Sums of 300 float32 products in two orders differ by some units in the last place (6e-8) of the largest.
ROUNDING = 1e-5


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("out", "width"), [(700, 48), (40, 600), (64, 64)])
def test_batches_add_up_to_the_sums_over_all_rows(
    monkeypatch: pytest.MonkeyPatch, out: int, width: int, residual: bool
) -> None:
    monkeypatch.setattr(module, "BATCH_ROWS", 64)  # texts are longer and shorter than a batch, and cross batches
    rng = np.random.default_rng(0)
    w = rng.standard_normal((out, width)).astype(F)
    x, apart = (rng.standard_normal((300, width)).astype(F) for _ in range(2))
    missing = rng.standard_normal((300, out)).astype(F)
    sums = InputSums(w, drift=True, residual=residual)
    for start, stop in ((0, 1), (1, 31), (31, 200), (200, 300)):
        at = slice(start, stop)
        sums.add(x[at], x[at] + apart[at], missing[at] if residual else None)
    h, drift = sums.finish()
    expected = x.T @ (apart @ w.T + (missing if residual else 0))
    np.testing.assert_allclose(h, x.T @ x, atol=ROUNDING * np.abs(h).max())
    assert (h == h.T).all()
    assert drift is not None
    np.testing.assert_allclose(drift, expected, atol=ROUNDING * np.abs(expected).max())


def test_without_a_float_stream_there_is_no_drift() -> None:
    x = np.random.default_rng(0).standard_normal((10, 8)).astype(F)
    sums = InputSums(np.ones((4, 8), F), drift=False)
    sums.add(x)
    h, drift = sums.finish()
    np.testing.assert_allclose(h, x.T @ x, rtol=1e-5)
    assert drift is None


def test_infinite_inputs_are_visible_in_the_sums() -> None:
    x = np.ones((3, 8), F)
    x[1, 2] = np.inf
    sums = InputSums(np.ones((16, 8), F), drift=True)
    sums.add(x, x)
    h, _ = sums.finish()
    assert not np.isfinite(h.diagonal()).all()
