"""The result of a proof of a GPU. ``runtime/proof/verdict.py`` says what each field means."""

from __future__ import annotations

from .fields import Field, Items, Number, Optional, Table, Text, Truth, Whole

_ERROR = Optional(Number(0, 1e300))  # null where it is infinite
_TEXT = Text(longest=100_000)

VERDICT: dict[str, Field] = {
    "subject": Table(
        dict.fromkeys(("engine", "adapter", "driver", "versions", "artifact"), _TEXT) | {"version": Whole()}
    ),
    "name": _TEXT,
    "passed": Truth(),
    "setup": Table(
        {"prefill_chunk": Whole(), "cpu_nodes": Items(_TEXT), "cache_on_processor": Truth()},
        required=("cpu_nodes", "cache_on_processor"),
    ),
    "detail": _TEXT,
    "wrong": Items(_TEXT),
    "kernels": Whole(0),
    "sizes": Whole(0),
    "kernel_error": _ERROR,
    "logits_error": _ERROR,
    "mean_kl": _ERROR,
    "seconds": Number(0, 1e9),
    "sample_ids": Items(Whole(0)),
    "sample_logits": Items(Table({"id": Whole(0), "logit": Number(-1e300, 1e300)}, required=("id", "logit"))),
}
