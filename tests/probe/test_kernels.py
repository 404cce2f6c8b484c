"""The choice of kernels, told by the library. Which kernel is the fastest is not tested."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit import native
from edgekit.errors import ProbeError
from edgekit.probe.kernels import ROLES, KernelChoice, chosen_kernels
from edgekit.probe.limits import kernels

PROGRAM = """
import dataclasses, json
from edgekit.probe.kernels import chosen_kernels
print(json.dumps({name: dataclasses.asdict(each) for name, each in chosen_kernels().items()}))
"""


def in_new_process(cache: Path, isa: str | None = None) -> dict[str, KernelChoice]:
    """The choice of a process with its own cache folder."""
    kept = {key: value for key, value in os.environ.items() if key != "EDGEKIT_ISA"}
    own = {"EDGEKIT_CACHE": str(cache)} | ({"EDGEKIT_ISA": isa} if isa else {})
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=kept | own, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return {name: KernelChoice(e["kernel"], tuple(e["candidates"]), e["gmac_s"]) for name, e in found.items()}


def test_every_function_has_a_kernel_that_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEKIT_ISA", raising=False)
    chosen = chosen_kernels()
    assert tuple(chosen) == ROLES
    runs = [name for name, runs in kernels().items() if runs]
    for choice in chosen.values():
        assert choice.kernel in choice.candidates
        assert [name for name in runs if name in choice.candidates] == list(choice.candidates)
        assert choice.candidates[-1] == "scalar"
        compared = choice.candidates[:-1] if len(choice.candidates) > 2 else ()
        assert tuple(choice.gmac_s) == compared, "the portable kernel is not measured, nor is one without a rival"
        assert all(rate > 0 for rate in choice.gmac_s.values())
    name = native.library().ek_kernel_name().decode()
    for role, choice in chosen.items():
        assert name.startswith(choice.kernel) or f"{role.replace('_', ' ')} {choice.kernel}" in name


def test_a_second_process_reads_what_the_first_one_measured(tmp_path: Path) -> None:
    first = in_new_process(tmp_path)
    assert in_new_process(tmp_path) == first
    files = list((tmp_path / "kernels").glob("*")) if any(choice.gmac_s for choice in first.values()) else []
    for file in files:
        assert file.suffix == ".txt"
        assert file.read_text().startswith("edgekit kernels 1\nprocessor ")
        file.write_text("not a choice")
    assert in_new_process(tmp_path).keys() == first.keys()
    for file in files:
        assert file.read_text().startswith("edgekit kernels 1\n"), "a damaged file is written anew"


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert tuple(in_new_process(tmp_path / "file" / "cache")) == ROLES


def test_a_forced_kernel_has_every_function_and_nothing_is_measured(tmp_path: Path) -> None:
    for choice in in_new_process(tmp_path, "scalar").values():
        assert choice.kernel == "scalar"
        assert choice.gmac_s == {}
    assert list(tmp_path.iterdir()) == []


def test_an_impossible_forced_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_ISA", "abacus")
    with pytest.raises(ProbeError, match="EDGEKIT_ISA is 'abacus'"):
        chosen_kernels()


def test_numbers_out_of_range_name_no_kernel() -> None:
    for role, index in ((-1, 0), (len(ROLES), 0), (0, -1), (0, 100)):
        assert native.library().ek_kernel_candidate(role, index, None, None) is None
    assert native.library().ek_kernel_candidate(0, 0, None, None)
