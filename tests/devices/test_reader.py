"""Reading device files: every number must have a source, and errors name the problem."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgekit.devices import DeviceProfile
from edgekit.devices.reader import read_device
from edgekit.errors import DeviceProfileError

ENGINE = """\
[[cpu.engines]]
name = "ort"
weights_gb_s = { value = 10, source = "edgekit probe" }
layer_us = { value = 50, source = "edgekit probe" }
decode_attention_gmac_s = { value = 9, source = "edgekit probe" }
prefill_gmac_s = { value = 70, source = "edgekit probe" }
row_us = { value = 12.5, source = "edgekit probe" }
prefill_attention_gmac_s = { value = 40, source = "edgekit probe" }

"""
VALID = """
title = "Board"
aliases = ["b"]
kind = "sbc"
os = "Linux"
activation_type = "float32"
execution_providers = ["CPUExecutionProvider"]
context = { value = 2048, source = "chosen" }

[memory]
total = { value = "8 GB", source = "data sheet" }
usable = { value = "5.2 GB", source = "unverified: estimated", note = "no desktop" }

[bandwidth]
theoretical = { value = 17.1, source = "data sheet" }

[cpu]
description = { value = "4x Cortex-A76", source = "data sheet" }
cores = { value = 4, source = "data sheet" }
isa = { value = ["asimd", "asimddp"], source = "measured" }

[[cpu.clusters]]
name = "Cortex-A76"
cores = { value = 4, source = "the sheet" }
clock_ghz = { value = 2.4, source = "the sheet" }

[accelerator]
kind = "gpu"
name = { value = "Ampere", source = "data sheet" }
runtime = { value = "400 MB", source = "measured" }

[[storage]]
name = "NVMe"
read_mb_s = { value = 416, source = "measured" }

[[power_modes]]
name = "15W"
watts = { value = 15, source = "data sheet" }
bandwidth_gb_s = { value = 11, source = "the sheet" }

[thermal]
sustained_share = { value = 0.6, source = "measured" }

[budget]
ttft_s = { value = 2, source = "chosen" }
"""


def _write(folder: Path, text: str) -> Path:
    path = folder / "board.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _read(folder: Path, text: str) -> DeviceProfile:
    profile = read_device(_write(folder, text))
    assert isinstance(profile, DeviceProfile)
    return profile


def test_a_profile_has_the_values_of_its_file(tmp_path: Path) -> None:
    profile = _read(tmp_path, VALID)
    assert (profile.name, profile.aliases, profile.default_context) == ("board", ("b",), 2048)
    assert (profile.total_bytes, profile.usable_bytes) == (8_000_000_000, 5_200_000_000)
    assert profile.memory.usable.note == "no desktop"
    assert not profile.memory.usable.verified
    assert profile.memory.total.verified
    assert profile.bandwidth.sustained is None
    assert profile.cpu.isa.value == ("asimd", "asimddp")
    assert profile.accelerator is not None
    assert profile.accelerator.runtime is not None
    assert profile.accelerator.runtime.value == 400_000_000
    assert profile.budget.ttft_s is not None
    assert profile.budget.decode_tok_s is None
    assert profile.thermal is not None
    assert [cluster.name for cluster in profile.cpu.clusters] == ["Cortex-A76"]
    assert profile.power_modes[0].bandwidth_gb_s is not None


def test_every_figure_can_be_listed_by_name(tmp_path: Path) -> None:
    figures = dict(_read(tmp_path, VALID).sourced())
    assert figures["memory.usable"].value == 5_200_000_000
    assert figures["storage[NVMe].read_mb_s"].value == 416
    assert figures["power_modes[15W].watts"].source == "data sheet"
    assert len(figures) == VALID.count("source =")


def test_json_carries_the_sources(tmp_path: Path) -> None:
    shown = _read(tmp_path, VALID).to_json()
    assert shown["memory"]["usable"] == {
        "value": 5_200_000_000,
        "source": "unverified: estimated",
        "verified": False,
        "note": "no desktop",
    }
    assert shown["cpu"]["isa"]["value"] == ["asimd", "asimddp"]
    assert shown["bandwidth"]["sustained"] is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('{ value = 17.1, source = "data sheet" }', "17.1", ["bandwidth.theoretical is 17.1 without a source"]),
        ('{ value = "8 GB", source = "data sheet" }', '"8 GB"', ["memory.total is '8 GB' without a source"]),
        ('{ value = 2048, source = "chosen" }', "2048", ["context is 2048 without a source", "context = {"]),
        ('value = 4, source = "data sheet"', "value = 4", ["cpu.cores lacks its source"]),
        ('value = 4, source = "data sheet"', 'source = "data sheet"', ["cpu.cores lacks its value"]),
        ('value = 4, source = "data sheet"', 'value = 4, source = " "', ["cpu.cores: source is empty"]),
        ('value = 4, source = "data sheet"', 'value = 4, sauce = "x"', ["cpu.cores: unknown key 'sauce'", "source"]),
        ('value = 4, source = "data sheet"', "value = 4, source = 7", ["cpu.cores.source is 7", "text"]),
        ('value = 4, source = "data', 'value = 4.5, source = "data', ["cpu.cores.value is 4.5", "whole number"]),
        ('value = 4, source = "data', 'value = 0, source = "data', ["cores is 0", "above 0"]),
        ('"8 GB"', "8", ["memory.total.value is 8", "unit"]),
        ('"8 GB"', '"8 gigs"', ["memory.total.value", "'8 gigs' is not a size"]),
        ('"8 GB"', '"4 GB"', ["memory: usable is 5200000000 bytes, more than the total of 4000000000"]),
        ('"5.2 GB"', '"0 GB"', ["memory: usable is 0", "above 0"]),
        ("value = 17.1", "value = -17.1", ["bandwidth: theoretical is -17.1"]),
        ("value = 17.1", "value = nan", ["bandwidth: theoretical is nan"]),
        ("[bandwidth]", '[bandwidth]\nsustained = { value = 20, source = "x" }', ["sustained is 20", "17.1"]),
        (
            "[bandwidth]",
            '[bandwidth]\nsustained = { value = 9, source = "x" }\none_core = { value = 11, source = "x" }',
            ["bandwidth: one_core is 11 GB/s, more than the sustained 9"],
        ),
        ("[bandwidth]", '[bandwidth]\none_core = { value = 0, source = "x" }', ["one_core is 0", "above 0"]),
        ("[accelerator]", '[[cpu.kernels]]\nname = "avx2"\n\n[accelerator]', ["cpu.kernels[0]: lacks gmac_s"]),
        (
            "[bandwidth]",
            '[bandwith]\nsustained = { value = 20, source = "x" }',
            ["unknown key 'bandwith'", "bandwidth?"],
        ),
        ("usable =", "useable =", ["memory: unknown key 'useable'", "did you mean usable"]),
        ('os = "Linux"\n', "", ["lacks os"]),
        ('title = "Board"', 'name = "other"', ["unknown key 'name'"]),
        ('"sbc"', '"toaster"', ["kind is 'toaster'", "laptop"]),
        ('"float32"', '"bfloat16"', ["activation_type is 'bfloat16'", "float32, float16"]),
        ('["CPUExecutionProvider"]', '["CUDA"]', ["'CUDA'", "CUDAExecutionProvider"]),
        ('["CPUExecutionProvider"]', "[]", ["execution_providers is empty"]),
        ('["b"]', '"b"', ["aliases is 'b'", "list"]),
        ('["b"]', "[1]", ["aliases[0] is 1", "text"]),
        ('kind = "gpu"', 'kind = "abacus"', ["accelerator: kind is 'abacus'"]),
        ("read_mb_s =", "read =", ["storage[0]: unknown key 'read'", "read_mb_s?"]),
        ('title = "Board"', "title = Board", ["is not TOML"]),
        ("value = 0.6", "value = 1.2", ["thermal: sustained_share is 1.2", "at most 1"]),
        ("value = 11", "value = 0", ["power_modes[0]: bandwidth_gb_s is 0", "above 0"]),
        ("value = 2.4", "value = -2.4", ["cpu.clusters[0]: clock_ghz is -2.4"]),
        ("clock_ghz", "clock_mhz", ["cpu.clusters[0]: unknown key 'clock_mhz'", "clock_ghz?"]),
        ("clock_ghz", "draw_gbs", ["cpu.clusters[0]: unknown key 'draw_gbs'", "draw_gb_s?"]),
        (
            'cores = { value = 4, source = "the sheet" }',
            'cores = { value = 3, source = "the sheet" }',
            ["cores is 4", "3"],
        ),
        (
            "[budget]",
            '[budget]\nmemory = { value = "6 GB", source = "x" }',
            ["budget.memory is 6000000000", "5200000000"],
        ),
        (
            "[budget]",
            '[budget]\nmemory = { value = "1 gig", source = "x" }',
            ["budget.memory.value", "'1 gig' is not a size"],
        ),
        (
            "[[power_modes]]",
            '[[power_modes]]\nname = "15W"\n\n[[power_modes]]',
            ["power_modes has a duplicate name: 15W, 15W"],
        ),
        ("[accelerator]", f"{ENGINE}{ENGINE}[accelerator]", ["cpu: engines has a duplicate name: ort, ort"]),
        ("[accelerator]", f"{ENGINE}[accelerator]".replace("12.5", "-1"), ["cpu.engines[0]: row_us is -1"]),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    assert VALID.count(old) == 1 or old == '{ value = "8 GB", source = "data sheet" }'
    path = _write(tmp_path, VALID.replace(old, new))
    with pytest.raises(DeviceProfileError) as failure:
        read_device(path)
    for word in [str(path), *words]:
        assert word in failure.value.message


def test_a_probed_device_must_not_have_numbers(tmp_path: Path) -> None:
    with pytest.raises(DeviceProfileError, match="unknown key"):
        read_device(_write(tmp_path, "probe = true\n" + VALID))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DeviceProfileError, match=r"\.toml cannot be read: No such file"):
        read_device(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            'compute_capability = { value = "sm_87", source = "x" }',
            "compute_capability is 'sm_87'; it must be two numbers",
        ),
        ('compute_capability = { value = "nan", source = "x" }', "compute_capability is 'nan'"),
        ('compute_capability = { value = "9", source = "x" }', "compute_capability is '9'"),
        ('fitted_as = "jetsn"', "fitted_as is 'jetsn'; did you mean jetson"),
    ],
)
def test_an_accelerator_that_plans_could_not_use(tmp_path: Path, line: str, words: str) -> None:
    able = VALID.replace('kind = "gpu"', 'kind = "gpu"\ncompute_capability = { value = "12.1", source = "x" }')
    assert read_device(_write(tmp_path, able)).accelerator is not None
    with pytest.raises(DeviceProfileError, match=re.escape(words)):
        read_device(_write(tmp_path, VALID.replace('kind = "gpu"', f'kind = "gpu"\n{line}')))


def test_a_class_of_processors_that_is_not_known(tmp_path: Path) -> None:
    text = VALID.replace("[cpu]", '[cpu]\nfitted_as = "raspberry-pi5"')
    with pytest.raises(DeviceProfileError, match="fitted_as is 'raspberry-pi5'; did you mean raspberry-pi-5"):
        read_device(_write(tmp_path, text))
