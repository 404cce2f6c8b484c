"""Applications over the shared tiny models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from shared_models import SharedModels

from edgekit.runtime.engine import EngineOptions
from edgekit.serve.models import Models
from edgekit.serve.options import ServeOptions

MakeApp = Callable[..., Any]


@pytest.fixture
def make_app(models: SharedModels) -> Iterator[MakeApp]:
    """Makes applications: keywords are those of ``ServeOptions``, and ``folders``, ``key``, ``hosts``, ``context``."""
    app = pytest.importorskip("edgekit.serve.app", reason="needs starlette", exc_type=ImportError)
    opened: list[Models] = []

    def make(
        *,
        folders: dict[str, Path] | None = None,
        key: str | None = None,
        hosts: frozenset[str] = frozenset({"127.0.0.1"}),
        context: int = 256,
        **limits: Any,
    ) -> Any:
        options = ServeOptions(engine_options=EngineOptions(context=context, threads=1), **limits)
        found = Models(folders or {"tiny": models.artifact()}, options)
        opened.append(found)
        made = app.make_app(found, options, key=key, hosts=hosts)
        made.models = found
        return made

    yield make
    for each in opened:
        each.close()
