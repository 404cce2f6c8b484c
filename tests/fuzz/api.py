"""Calls of the public API with arguments of any type: a JSON object with ``call`` and ``arguments``.

Texts that begin with ``@`` stand for values that JSON does not have. A call may end with an error of edgekit, or with
what Python raises for a value or a type. A build stops after its checks.
"""

import atexit
import contextlib
import os
import warnings
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

import fuzz_changes
import numpy as np
from fuzz_files import artifact, as_json, checkpoint, offline, scratch

import edgekit
from edgekit.errors import EdgekitError
from edgekit.json_file import parse_json_object
from edgekit.threads import MOST_THREADS

__all__ = ["change", "read", "seeds"]
ALLOWED = (EdgekitError, ValueError, TypeError, AttributeError)
_USER = {"role": "user", "content": "Hello"}
_VALUES = {
    "@nan": float("nan"), "@inf": float("inf"), "@bytes": b"x\xff", "@array": np.zeros((2, 2)),
    "@float32": np.float32(2), "@int64": np.int64(3), "@object": object(), "@set": {1}, "@type": int, "@complex": 1j,
    "@ids": np.array([3, 4]), "@range": range(3), "@huge": 1 << 200, "@tuple": (1, "x"), "@none": None,
}  # fmt: skip


def seeds() -> list[bytes]:
    sampling = {"temperature": 0.5, "top_p": 0.9, "top_k": 3, "min_p": 0.1, "repetition_penalty": 1.1}
    answer = {"max_tokens": 2, "seed": 3, "stop": ["x"], "stop_ids": [5], "logprobs": 2, "loop_guard": "all"}
    limits = {"ttft_s": 2, "decode_tok_s": 3, "memory_bytes": 10**9}
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    calls: list[tuple[str, dict[str, Any]]] = [
        ("generate", {"prompt": "Once", **sampling, **answer}), ("generate", {"prompt": [3, 4], "temperature": "@nan"}),
        ("chat", {"messages": [_USER], "think_tokens": 2, "on_full": "slide", "variables": {"a": 1}, **answer}),
        ("chat", {"messages": [_USER], "tools": tools, "tool_choice": "auto", "max_tokens": 2, "documents": None}),
        ("generate", {"prompt": "@ids", "max_tokens": 1, "response_format": {"type": "json_object"}}),
        ("render", {"messages": [_USER], "tools": None, "documents": None, "variables": {}}),
        ("load", {"artifact": "@artifact", "engine": "native", "context": 64, "threads": 1, "kv_type": "int8"}),
        ("load", {"artifact": "@artifact", "prepare": True, "speculate": False, "draft": "@artifact"}),
        ("plan", {"model": "r1-1.5b", "device": "jetson", "context": 512, "reasoning": True, "lora": []}),
        ("plan", {"model": "@checkpoint", "device": "cpu", "quantization": None, "candidates": ["r1-7b"]}),
        ("build", {"checkpoint": "@checkpoint", "out": "@out", "context": 64, "stop": ["x"], "gate": False}),
        ("build", {"model": "@checkpoint", "device": "cpu", "quality_tokens": 64, "emit": "web"}),
        ("verify", {"artifact": "@artifact", "expect": "ab" * 32, "public_key": None}),
        ("evaluate", {"artifact": "@artifact", "reference": "@checkpoint", "text": "Once upon a time there was a model",
                      "chunk_tokens": 8, "max_chunks": 1, "threads": 1}),
        ("load_device", {"name_or_path": "jetson"}), ("load_recipe", {"name_or_path": "r1-1.5b"}),
        ("Sampling", sampling), ("UserLimits", limits), ("QuantizationScheme", {"bits": 4, "block_size": 32}),
        ("QuantizationOverrides", {"bits": 5.2, "block_size": 32, "symmetric": True, "method": "rtn"}),
        ("PlanOptions", {"engine": "native", "kv_type": "int8", "prompt_tokens": 3, "headless": False}),
        ("Choice", {"texts": ["a", "b"]}), ("Regex", {"pattern": "a+"}), ("save_state", {"path": "@out"}),
        ("load_state", {"path": "@out"}),
    ]  # fmt: skip
    return as_json(*({"call": name, "arguments": arguments} for name, arguments in calls))


change = partial(fuzz_changes.json_change, others=seeds())


@cache
def _session() -> edgekit.Session:
    session = edgekit.load(artifact("api"), engine="native", context=128, threads=1, prepare=False)
    atexit.register(session.close)
    return session


@cache
def _texts() -> dict[str, Any]:
    paths = {"@artifact": artifact("api"), "@checkpoint": checkpoint("api-source"), "@out": scratch() / "api-out"}
    return {**_VALUES, **paths}


def _made(value: Any) -> Any:
    """The value that a value of the input stands for."""
    if isinstance(value, dict):
        return {key: _made(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_made(each) for each in value]
    if isinstance(value, str) and value.startswith("@"):
        return _texts().get(value, value)
    return value


def _leaves(value: Any) -> bool:
    if isinstance(value, (dict, list)):
        return any(map(_leaves, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and (value.startswith(("/", "~")) or ".." in value)


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in a folder, because a path in an argument may be relative."""
    before = os.getcwd()
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _is_large(threads: object) -> bool:
    return isinstance(threads, int) and 8 < threads <= MOST_THREADS


def _stop(*_: object, **__: object) -> Any:
    raise EdgekitError("stopped")


def read(data: bytes) -> None:
    content = parse_json_object(data, "input")
    name, given = content.get("call"), content.get("arguments")
    if not isinstance(name, str) or not isinstance(given, dict) or _leaves(given):
        return
    if name == "evaluate" and (len(str(given.get("text"))) > 1000 or _is_large(given.get("threads"))):
        return  # what it asks for takes long
    arguments = {key: _made(value) for key, value in given.items()}
    with (
        offline(),
        warnings.catch_warnings(),
        _inside(scratch() / "api-folder"),
        mock.patch("edgekit.build.pipeline._write", _stop),
    ):
        warnings.simplefilter("ignore")
        if name in ("generate", "chat"):
            getattr(_session(), name)(**{"max_tokens": 2, **arguments}).complete()
        elif name in ("render", "save_state", "load_state"):
            getattr(_session(), name)(**arguments)
        elif name == "load":
            edgekit.load(**arguments).close()
        elif name in edgekit.__all__ and name not in ("smoke", "AsyncSession", "Session"):
            getattr(edgekit, name)(**arguments)
