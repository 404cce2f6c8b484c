"""The machine in a receipt: what the system's files say, and null where it has none."""

from __future__ import annotations

import platform
from pathlib import Path

from edgekit.deploy.machine import describe_machine
from edgekit.deploy.receipt import Clock, Temperature

FILES = {
    "proc/cpuinfo": "processor : 0\nFeatures : fp asimd asimddp\nmodel name : ARMv8 Processor rev 1\n",
    "proc/meminfo": "MemTotal: 8000000 kB\nMemFree: 4000000 kB\nMemAvailable: 6000000 kB\n",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano\0",
    "sys/devices/system/cpu/cpufreq/policy0/affected_cpus": "0 1 2 3\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "729600\n",
    "sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq": "1728000\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "schedutil\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "51500\n",
    "sys/class/thermal/thermal_zone1/type": "cv0-thermal\n",  # off: reading its temperature fails
    "var/lib/nvpmodel/status": "pmode:0002\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE 1\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
}


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_jetson_is_described(tmp_path: Path) -> None:
    found = describe_machine(write(tmp_path, FILES))
    assert found.board == "NVIDIA Jetson Orin Nano"
    assert (found.processor, found.isa) == ("ARMv8 Processor rev 1", ("asimd", "asimddp"))
    assert (found.memory_bytes, found.available_bytes) == (8_192_000_000, 6_144_000_000)
    assert found.clocks == (Clock("0 1 2 3", 729.6, 1728.0, "schedutil"),)
    assert found.temperatures == (Temperature("cpu-thermal", 51.5),)
    assert found.power_mode == "MAXN_SUPER"


def test_a_power_mode_without_a_name_is_its_number(tmp_path: Path) -> None:
    files = {**FILES, "etc/nvpmodel.conf": "", "var/lib/nvpmodel/status": "pmode:0007\n"}
    assert describe_machine(write(tmp_path, files)).power_mode == "7"


def test_what_the_system_does_not_show_is_null(tmp_path: Path) -> None:
    found = describe_machine(tmp_path)
    assert (found.board, found.memory_bytes, found.power_mode) == (None, None, None)
    assert (found.isa, found.clocks, found.temperatures) == ((), (), ())


def test_this_machine_is_described() -> None:
    found = describe_machine()
    assert found.machine == platform.machine()
    assert found.cores is not None
    assert found.cores > 0
