"""The settings of a server."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..native import MOST_TOGETHER
from ..runtime.engine import EngineOptions


@dataclass(frozen=True)
class ServeOptions:
    """The limits of a server, and how it opens its artifacts.

    Args:
        engine: An engine's name, or ``auto``.
        engine_options: Context, threads and type of KV cache.
        parallel: The most requests that one model answers at the same time.
        caches: The most KV caches of a model; 0 for as many as ``parallel``.
        prefix_bytes: The most memory of a model for the beginnings of earlier prompts that no KV cache holds; None for
            as much as its KV caches need.
        memory_bytes: The most memory of all models together; None does not limit it.
        queue: The most requests that wait for a model.
        connections: The most connections at the same time.
        max_tokens: The most tokens of an answer; None is limited only by the context.
        time_limit_s: The most seconds for an answer, with the time in the queue.
        body_bytes: The largest body of a request.
        public_key: The key that must have signed each artifact: a PEM file, or 64 hexadecimal digits; None: none.

    Raises:
        ValueError: A limit is out of range.
    """

    engine: str = "auto"
    engine_options: EngineOptions = field(default_factory=EngineOptions)
    parallel: int = 8
    caches: int = 0
    prefix_bytes: int | None = None
    memory_bytes: int | None = None
    queue: int = 64
    connections: int = 256
    max_tokens: int | None = None
    time_limit_s: float = 600.0
    body_bytes: int = 4 << 20
    public_key: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.parallel <= MOST_TOGETHER:
            raise ValueError(f"parallel is {self.parallel}; it must be from 1 to {MOST_TOGETHER}")
        for name, least in (("caches", 0), ("queue", 0), ("connections", 1), ("body_bytes", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be {least} or more")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; it must be at least 1")
        if self.prefix_bytes is not None and self.prefix_bytes < 0:
            raise ValueError(f"prefix_bytes is {self.prefix_bytes}; it must be 0 or more")
        if self.memory_bytes is not None and self.memory_bytes < 1:
            raise ValueError(f"memory_bytes is {self.memory_bytes}; it must be at least 1")
        if not self.time_limit_s > 0:
            raise ValueError(f"time_limit_s is {self.time_limit_s}; it must be above 0")
