"""edgekit: put a reasoning model on an edge device, and know beforehand that it fits.

The public API, one function per job:

    edgekit.plan(edgekit.load_recipe("smollm2-135m"), edgekit.load_device("jetson"))    does it fit, and what would
    edgekit.build("smollm2-135m", "jetson")                                             checkpoint -> 4-bit artifact
    edgekit.verify(artifact)                                                            is it what was built
    edgekit.load(artifact)                                                              a Session that runs it
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .artifact.verify import verify as verify
    from .build.pipeline import build as build
    from .devices import load_device as load_device
    from .errors import EdgekitError as EdgekitError
    from .planning.api import plan as plan
    from .recipes import load_recipe as load_recipe
    from .runtime.session import Session as Session
    from .runtime.session import load as load

# The function ``build`` shares its name with the package ``edgekit.build``. Importing the package binds the name to it,
# once; import it now, which loads nothing else, and leave the name to the function.
from . import build as _build_package  # noqa: F401

del globals()["build"]

__all__ = ["EdgekitError", "Session", "build", "load", "load_device", "load_recipe", "plan", "verify"]

_HOMES = {
    "EdgekitError": "errors",
    "Session": "runtime.session",
    "build": "build.pipeline",
    "load": "runtime.session",
    "load_device": "devices",
    "load_recipe": "recipes",
    "plan": "planning.api",
    "verify": "artifact.verify",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: an app that only runs a model never loads the builder."""
    if name not in _HOMES:
        raise AttributeError(f"module 'edgekit' has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
