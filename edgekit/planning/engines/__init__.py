"""The engines that can be planned for, one per file: ``NAME.py`` describes the engine ``NAME`` as its ``ENGINE``.

There is no other list. The engine itself is ``runtime/NAME_engine.py``.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import cast

from ...devices.profile import DeviceProfile
from ...errors import UnknownNameError, nearest
from ..planned_engine import PlannedEngine


def engine_names() -> tuple[str, ...]:
    """The names of the engines, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def find_engine(name: str) -> PlannedEngine:
    """The engine of this name.

    Raises:
        UnknownNameError: There is none; names the nearest.
    """
    names = engine_names()
    if name not in names:
        raise UnknownNameError(f"there is no engine {name!r}; {nearest(name, names)}")
    return cast(PlannedEngine, importlib.import_module(f"{__name__}.{name}").ENGINE)


def all_engines() -> tuple[PlannedEngine, ...]:
    """Every engine, sorted by name."""
    return tuple(map(find_engine, engine_names()))


def engines_for(device: DeviceProfile) -> tuple[PlannedEngine, ...]:
    """The engines that can run on a device, in the order in which ``auto`` prefers them."""
    ranked = [(preference, engine) for engine in all_engines() if (preference := engine.preference(device)) is not None]
    return tuple(engine for _, engine in sorted(ranked, key=lambda pair: -pair[0]))
