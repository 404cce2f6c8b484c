"""The script that uses the native engine for a long time runs all its uses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import soak
from shared_models import SharedModels


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_each_use_works_and_memory_is_told(models: SharedModels, capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.soak(models.artifact("llama", "int4 block 32"), minutes=0.005, limit_mb=500) == 0
    assert " rounds in 0.005 min: " in capsys.readouterr().out


def test_a_changed_answer_is_an_error(models: SharedModels, tmp_path: Path) -> None:
    uses = soak.Uses(models.artifact("llama", "int4 block 32"), tmp_path, seed=1)
    uses.same_answer()
    uses.expected = [1]
    with pytest.raises(ValueError, match=r"the answer has changed from \[1\] to"):
        uses.same_answer()
    uses.session.close()
