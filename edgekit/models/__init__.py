"""Model families. A family's file has the name of its ``model_type`` in ``config.json``; there is no other registry."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from ..errors import CheckpointError, UnsupportedModelError, nearest
from .kinds import kind_of
from .spec import Family, ModelSpec

__all__ = ["Family", "ModelSpec", "families", "family", "spec_from_config"]

_NOT_FAMILIES = "spec", "rope", "options", "kinds"  # what the families are made of


def families() -> tuple[str, ...]:
    """The supported ``model_type`` values, sorted."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _NOT_FAMILIES))


def family(model_type: str) -> Family:
    """Load the family of a ``model_type``.

    Raises:
        UnsupportedModelError: The family is not supported; the message lists those that are.
    """
    # Checked without importing: an ImportError inside a family's file must not look like an unknown family.
    if model_type not in families():
        kind = kind_of(model_type)
        reason = f": it is {kind}" if kind else ""
        raise UnsupportedModelError(
            f"model_type {model_type!r} is not supported{reason}; supported: {', '.join(families())}",
            hint="" if kind else nearest(model_type, families()),
        )
    found: Family = importlib.import_module(f"{__name__}.{model_type}").FAMILY
    return found


def spec_from_config(config: Mapping[str, Any]) -> ModelSpec:
    """Convert the content of a ``config.json`` to a :class:`ModelSpec`.

    Raises:
        CheckpointError: A key is missing or has an invalid value.
        UnsupportedModelError: The family or one of its options is not supported.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise CheckpointError("config.json lacks model_type")
    return family(model_type).spec(config)
