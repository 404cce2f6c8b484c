"""edgekit puts a reasoning model on an edge device, and tells beforehand whether it fits.

The public API, one function per job. Models, recipes and devices are given by name, by file or as objects:

    edgekit.plan("deepseek-r1-distill-qwen-1.5b", "jetson")    memory and speed, before anything is fetched
    edgekit.build("smollm2-135m", "jetson")                    checkpoint -> 4-bit artifact, checked
    edgekit.verify(artifact)                                   every file against the manifest
    edgekit.smoke(artifact)                                    on the device: files, golden answer, speed, memory
    edgekit.evaluate(artifact, checkpoint)                     distance from the float model
    edgekit.load(artifact)                                     a Session that generates text

Importing edgekit loads none of these; each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .artifact.manifest import Manifest as Manifest
    from .artifact.verify import verify as verify
    from .build.pipeline import build as build
    from .build.plan import plan as plan
    from .build.request import BuildRequest as BuildRequest
    from .build.request import BuildResult as BuildResult
    from .deploy.receipt import Receipt as Receipt
    from .deploy.smoke import smoke as smoke
    from .devices import DeviceProfile as DeviceProfile
    from .devices import load_device as load_device
    from .errors import EdgekitError as EdgekitError
    from .planning.budget import UserLimits as UserLimits
    from .planning.plan import Plan as Plan
    from .planning.plan import PlanOptions as PlanOptions
    from .quality.evaluation import evaluate as evaluate
    from .quality.scores import Figures as Figures
    from .recipes import Recipe as Recipe
    from .recipes import load_recipe as load_recipe
    from .runtime.asynchronous import AsyncSession as AsyncSession
    from .runtime.events import Answer as Answer
    from .runtime.events import Done as Done
    from .runtime.events import Thought as Thought
    from .runtime.loading import load as load
    from .runtime.response_format import Choice as Choice
    from .runtime.response_format import Regex as Regex
    from .runtime.session import Completion as Completion
    from .runtime.session import Message as Message
    from .runtime.session import Piece as Piece
    from .runtime.session import Session as Session
    from .runtime.tool_calls import ToolCall as ToolCall
    from .sampling import Sampling as Sampling
    from .scheme import QuantizationConfig as QuantizationConfig
    from .scheme import QuantizationOverrides as QuantizationOverrides
    from .scheme import QuantizationScheme as QuantizationScheme

# The function ``build`` shares its name with the package ``edgekit.build``. Python binds the name to the package when
# it is first imported. Import the package now, which loads nothing else, and leave the name to the function.
from . import build as _build_package  # noqa: F401

del globals()["build"]

_NAMES = {
    "artifact.manifest": ("Manifest",),
    "artifact.verify": ("verify",),
    "build.pipeline": ("build",),
    "build.plan": ("plan",),
    "build.request": ("BuildRequest", "BuildResult"),
    "deploy.receipt": ("Receipt",),
    "deploy.smoke": ("smoke",),
    "devices": ("DeviceProfile", "load_device"),
    "errors": ("EdgekitError",),
    "planning.budget": ("UserLimits",),
    "planning.plan": ("Plan", "PlanOptions"),
    "quality.evaluation": ("evaluate",),
    "quality.scores": ("Figures",),
    "recipes": ("Recipe", "load_recipe"),
    "runtime.asynchronous": ("AsyncSession",),
    "runtime.events": ("Answer", "Done", "Thought"),
    "runtime.loading": ("load",),
    "runtime.response_format": ("Choice", "Regex"),
    "runtime.session": ("Completion", "Message", "Piece", "Session"),
    "runtime.tool_calls": ("ToolCall",),
    "sampling": ("Sampling",),
    "scheme": ("QuantizationConfig", "QuantizationOverrides", "QuantizationScheme"),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that an application that only runs a model never loads the builder."""
    if name not in _HOMES:
        raise AttributeError(f"module 'edgekit' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        from .errors import missing_package

        if (missing := missing_package(error)) is None:
            raise
        raise missing from None


def __dir__() -> list[str]:
    return sorted(__all__)
