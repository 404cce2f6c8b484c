"""Prints the engines of a plan side by side: memory, speed, what each needs, and which one ``auto`` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..planning.engine_choice import EnginePlan, overtakes, reason
from ..planning.memory import MemoryPlan
from ..planning.plan import Plan
from ..units import format_bytes
from ._intervals import show_seconds, show_speed
from ._output import Cell, Column

if TYPE_CHECKING:
    from ._screen import Screen

_PROCESSORS = {"cpu": "CPU", "gpu": "GPU", "shared-gpu": "GPU, shared memory", "mobile-gpu": "GPU", "npu": "NPU"}


def print_engines(plan: Plan, screen: Screen) -> None:
    """Print a row per engine in the order in which ``auto`` takes them. Nothing is printed where there is only one."""
    engines = plan.engines
    if len(engines) < 2:
        return
    screen.say()
    columns = (
        Column("engine"),
        Column("runs on", optional=True),
        Column("memory", right=True),
        Column("first token"),
        Column("tok/s, empty", optional=True),
        Column("tok/s, full"),
    )
    screen.table(columns, [_row(each, each.engine == plan.engine) for each in engines])
    if not all(each.latency.calibrated for each in engines):
        screen.say(("~ uncalibrated", "yellow"))
    taken = engines[0]
    proven = "" if taken.processor == "cpu" else ", once its results are proven on the device"
    screen.say(f"--engine auto is expected to choose {taken.engine}{proven}: {reason(engines)}")
    for each in engines:
        if each.needs:
            instead = f"; where that is installed, auto takes {each.engine}" if overtakes(each, taken) else ""
            screen.say(f"{each.engine} needs {each.needs}{instead}")
    sharing = [each for each in engines if each.processor == "shared-gpu" and each.memory.held_twice]
    for twice in dict.fromkeys(describe_twice(each.memory) for each in sharing):
        names = " or ".join(each.engine for each in sharing if describe_twice(each.memory) == twice)
        screen.say(f"in memory twice while {names} loads the model: {twice}")


def _row(each: EnginePlan, planned: bool) -> list[Cell]:
    latency = each.latency
    name = each.engine if latency.calibrated else f"{each.engine} ~"
    speeds = (show_seconds(latency.ttft_s), show_speed(latency.decode_tok_s), show_speed(latency.decode_full_tok_s))
    memory: Cell = format_bytes(each.memory.peak) if each.fits else (format_bytes(each.memory.peak), "red")
    return [(name, "bold" if planned else ""), _PROCESSORS[each.processor], memory, *speeds]


def describe_twice(memory: MemoryPlan) -> str:
    """What is in memory twice: ``the largest matrix, while it is copied to the GPU (104 MB)``."""
    parts = []
    for part in memory.held_twice:
        freed = ", which gives it up when memory is needed" if part.is_cache else ""
        parts.append(f"{part.what} ({format_bytes(part.size_bytes)}{freed})")
    return "; ".join(parts)
