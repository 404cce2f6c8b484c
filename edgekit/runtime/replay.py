"""Replays the golden test of an artifact, recorded by ``quality/golden.py``, and compares the result with the record.

It needs an open engine and neither onnx nor the streamed graph, so a device can run it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.manifest import Manifest
from ..errors import ArtifactError
from .engine import Engine, resolve_context

# Correct kernels give different results: int8 activations round differently for one row, for many rows, and on another
# instruction set. Measured on SmolLM2-135M (10 chats, 220 positions, onnxruntime's two int8 paths and its float32
# path): the largest difference among the ten largest logits has a median of 0.30; 99 % are below 0.99, all below 1.43.
# Where the paths chose different tokens, their logits were at most 0.35 apart. One megabyte of wrong weights, anywhere,
# makes a difference of 7 or more. Smaller damage is found by the hashes.
LOGIT_TOLERANCE = 1.5
TIE_TOLERANCE = 0.75


@dataclass(frozen=True)
class Check:
    """One check, its result and the measured values."""

    name: str
    passed: bool
    detail: str


def golden_of(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """The artifact's golden test.

    Raises:
        ArtifactError: The manifest has none, or it is incomplete.
    """
    golden: dict[str, Any] | None = manifest.golden
    if golden is None:
        raise ArtifactError(f"{folder} has no golden test", hint="build the artifact again")
    missing = [key for key in ("prompt_ids", "continuation_ids", "top_logits") if not golden.get(key)]
    if missing:
        raise ArtifactError(f"the golden test of {folder} lacks {', '.join(missing)}")
    return golden


def golden_context(manifest: Manifest, golden: dict[str, Any]) -> int:
    """The positions to allocate for the golden test: the planned context, or more if the test takes more."""
    return max(resolve_context(manifest, None), len(golden["prompt_ids"]) + len(golden["continuation_ids"]))


def replay(engine: Engine, golden: dict[str, Any]) -> list[NDArray[np.float32]]:
    """Compute the logits before each recorded token, given the recorded tokens before it."""
    rows = [engine.evaluate(golden["prompt_ids"])[-1]]
    rows += [engine.evaluate([token])[-1] for token in golden["continuation_ids"][:-1]]
    return rows


def check_logits(row: NDArray[np.float32], recorded: list[dict[str, Any]]) -> Check:
    """Compare the logits (vocab_size,) of the first new token with the recorded ones."""
    differences = [
        abs(float(row[entry["id"]]) - entry["logit"]) if entry["id"] < row.size else math.inf for entry in recorded
    ]
    worst = float(np.max(differences))
    passed = worst <= LOGIT_TOLERANCE  # also False for NaN
    detail = f"largest difference among {len(recorded)} logits is {worst:.4f}; allowed: {LOGIT_TOLERANCE}"
    return Check("golden_logits", passed, detail)


def check_tokens(rows: list[NDArray[np.float32]], recorded: list[int]) -> Check:
    """Compare the greedy choices with the recorded ones.

    Args:
        rows: Logits (vocab_size,) before each recorded token, given the recorded tokens before it.
        recorded: Token ids.

    Returns:
        A check that passes if every choice is the recorded id or has nearly the same logit (a tie).
    """
    same = 0
    for position, (row, token) in enumerate(zip(rows, recorded, strict=True)):
        choice = int(row.argmax())
        same += choice == token
        lead = float(row[choice] - row[token]) if token < row.size else math.inf
        if not lead <= TIE_TOLERANCE:  # also if it is NaN
            detail = f"token {position + 1} of {len(recorded)} is {choice}, not {token}; its logit is {lead:.4f} larger"
            return Check("golden_tokens", False, detail)
    ties = f", {len(recorded) - same} ties" if same < len(recorded) else ""
    return Check("golden_tokens", True, f"{same} of {len(recorded)} tokens are the same{ties}")
