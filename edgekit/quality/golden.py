"""The golden test of an artifact: its answer to one prompt, recorded by the build and replayed by ``edgekit smoke``.

The build records it by running the artifact's own graph with its own bytes, one layer at a time
(``streaming/graph.py``), with greedy decoding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ..errors import QualityError
from ..models.spec import ModelSpec
from ..progress import Share, no_share
from ..streaming.graph import StreamedModel

TOP_LOGITS = 10
_LARGEST = 65504  # of float16


def record_golden(
    folder: Path,
    spec: ModelSpec,
    activation_type: str,
    prompt_ids: Sequence[int],
    max_new_tokens: int,
    eos_ids: Sequence[int],
    threads: int,
    progress: Share = no_share,
    *,
    float16_cache: bool = False,
) -> dict[str, Any]:
    """Run an artifact on a prompt.

    Args:
        folder: Holds ``model.onnx`` and ``model.onnx.data``.
        spec: The model.
        activation_type: Type of the KV cache.
        prompt_ids: The prompt; at least one token.
        max_new_tokens: Tokens of the greedy continuation at most.
        eos_ids: Tokens that end the continuation.
        threads: Threads of onnxruntime.
        progress: Called with (pieces run, pieces in all).
        float16_cache: Whether the artifact's engine stores keys and values as float16.

    Raises:
        QualityError: The artifact's logits are NaN or infinite, or keys or values are too large for the cache.

    Returns:
        The manifest's ``golden``: prompt_ids, continuation_ids, and the top_logits of the first new token, best first.
    """
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    streamed = StreamedModel(model, folder=folder, threads=threads)
    names = [f"{i}.{kind}" for i in range(spec.num_layers) for kind in ("key", "value")]
    empty = np.zeros((1, spec.num_kv_heads, 0, spec.head_dim), activation_type)
    cache = dict.fromkeys(names, empty)
    ids, length = list(prompt_ids), 0
    continuation: list[int] = []
    top: list[dict[str, Any]] = []
    for step in range(max_new_tokens):
        length += len(ids)
        feed = {f"past_key_values.{name}": value for name, value in cache.items()}
        feed |= {"input_ids": np.array([ids], np.int64), "attention_mask": np.ones((1, length), np.int64)}
        done = step * streamed.num_pieces
        (values,) = streamed.run([feed], progress=partial(_step_progress, progress, done, max_new_tokens))
        cache = {name: values[f"present.{name}"] for name in names}
        logits = values["logits"][0, -1]
        if not np.isfinite(logits).all():
            raise _not_finite(cache, activation_type)
        if float16_cache:
            _check_range(cache)
        if step == 0:
            best = np.argsort(-logits, kind="stable")[:TOP_LOGITS]
            top = [{"id": int(i), "logit": float(logits[i])} for i in best]
        ids = [int(logits.argmax())]
        continuation += ids
        if ids[0] in eos_ids:
            break
    progress(1, 1)
    return {"prompt_ids": list(prompt_ids), "continuation_ids": continuation, "top_logits": top}


def _check_range(cache: Mapping[str, NDArray[Any]]) -> None:
    """Refuse keys and values that would be infinite in a cache of float16."""
    for name, array in cache.items():
        layer, kind = name.split(".")
        if (largest := float(np.abs(array).max())) > _LARGEST:
            raise QualityError(
                f"the {kind}s of layers.{layer} reach {largest:.3g}, and the engine native stores them as float16, "
                f"which holds {_LARGEST} at most",
                hint="build with --engine ort, which stores them in the type of the activations",
            )


def _not_finite(cache: Mapping[str, NDArray[Any]], activation_type: str) -> QualityError:
    """The error for logits that are not numbers; the keys and values show in which layer it began."""
    spoilt = [int(name.split(".")[0]) for name, array in cache.items() if not np.isfinite(array).all()]
    where = "after the last layer's keys and values" if not spoilt else f"in layers.{min(spoilt)} or before it"
    cause = "its activations overflow float16, which holds 65504 at most" if activation_type == "float16" else ""
    return QualityError(
        f"the artifact computes NaN or infinity {where}{': ' if cause else ''}{cause}",
        hint="build for a device that computes in float32, such as cpu" if cause else "compare with other --bits",
    )


def _step_progress(progress: Share, before: float, steps: int, done: float, pieces: float) -> None:
    """Report the pieces of one step among those of all steps."""
    progress(before + done, steps * pieces)
