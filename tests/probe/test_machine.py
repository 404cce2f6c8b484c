from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.devices import load_device
from edgekit.devices.writer import format_device
from edgekit.probe import machine as probe
from edgekit.probe.kernels import KernelChoice
from edgekit.probe.machine import ROUNDS, probe_machine

pytestmark = pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="describing the host needs Linux")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, int], float]:
    """Four cores and three kernels; memory is no faster with four than with one. Rates by (what, threads)."""
    rates = {("memory", 1): 1.2345678e10, ("memory", 4): 1e10, ("scalar", 1): 1e9, ("scalar", 4): 4e9}
    rates |= {("fast", 1): 5e10, ("fast", 4): 1.9e11, ("slow", 1): 2e10, ("slow", 4): 8e10}
    monkeypatch.setattr(probe, "physical_cores", lambda: 4)
    prefill = KernelChoice("fast", ("slow", "fast", "scalar"), {"slow": 1.0, "fast": 2.0})
    monkeypatch.setattr(probe, "chosen_kernels", lambda: {"prefill": prefill})
    monkeypatch.setattr(probe, "measure_bandwidth", lambda threads: rates["memory", threads])
    monkeypatch.setattr(probe, "measure_kernel", lambda name, threads: rates[name, threads])
    return rates


def test_every_usable_kernel_and_memory_with_one_core_and_with_all(machine: dict[tuple[str, int], float]) -> None:
    phases = []
    profile = probe_machine("board", lambda phase, done, total: phases.append((phase, done, total)))
    assert profile.name == "board"
    assert profile.aliases == ()
    assert [(k.name, k.one_core_gmac_s.value, k.gmac_s.value) for k in profile.cpu.kernels] == [
        ("fast", 50.0, 190.0),
        ("slow", 20.0, 80.0),
        ("scalar", 1.0, 4.0),
    ], "the one that the engine uses comes first"
    assert profile.cpu.kernels[0].gmac_s.source.startswith("edgekit probe: 4 threads")
    assert phases[0] == ("measuring", 0, 8 * ROUNDS)
    assert phases[-1] == ("measuring", 1, 1)
    host = load_device("cpu")
    assert (profile.memory.total, profile.cpu.isa) == (host.memory.total, host.cpu.isa)
    assert profile.storage == (), "what is not measured is not there"


def test_more_cores_are_never_slower_and_the_source_says_how_many_it_took(
    machine: dict[tuple[str, int], float],
) -> None:
    bandwidth = probe_machine().bandwidth
    assert bandwidth.theoretical is None
    assert bandwidth.one_core is not None
    assert bandwidth.sustained is not None
    assert bandwidth.one_core.value == bandwidth.sustained.value == 12.35
    assert "1 thread," in bandwidth.sustained.source


def test_what_is_written_is_read_back(machine: dict[tuple[str, int], float], tmp_path: Path) -> None:
    profile = probe_machine("board")
    path = tmp_path / "board.toml"
    path.write_text(format_device(profile, "measured"), encoding="utf-8")
    assert load_device(path) == profile


def test_one_core_is_measured_once(machine: dict[tuple[str, int], float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "physical_cores", lambda: 1)
    profile = probe_machine()
    assert profile.title.endswith(", 1 core")
    assert profile.cpu.kernels[0].gmac_s == profile.cpu.kernels[0].one_core_gmac_s
