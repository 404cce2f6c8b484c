from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.runtime.memory import peak_rss_bytes, private_bytes, reset_peak

SIZE = 64 * 1024 * 1024
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux
def test_private_memory_counts_what_is_written_and_not_what_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(SIZE))
    before = private_bytes()
    mapped = np.memmap(path, dtype=np.uint8, mode="r")
    assert int(mapped.sum()) == 0  # every page is read
    between = private_bytes()
    owned = np.ones(SIZE, dtype=np.uint8)
    after = private_bytes()
    assert before is not None
    assert between is not None
    assert after is not None
    assert between - before < SIZE // 4
    assert after - between > SIZE * 3 // 4
    assert owned.any()


@linux
def test_the_peak_stays_when_memory_is_freed() -> None:
    block = np.ones(SIZE, dtype=np.uint8)
    assert block.any()
    high = peak_rss_bytes()
    del block
    assert high is not None
    assert high > SIZE
    assert peak_rss_bytes() == pytest.approx(high, rel=0.01)


@linux
def test_the_peak_can_be_counted_anew() -> None:
    block = np.ones(2 * SIZE, dtype=np.uint8)
    assert block.any()
    high = peak_rss_bytes()
    del block
    assert high is not None
    if reset_peak():
        assert (peak_rss_bytes() or high) < high - SIZE


def test_a_peak_that_cannot_be_reset_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError("clear_refs")

    monkeypatch.setattr(Path, "write_text", refuse)
    assert reset_peak() is False
