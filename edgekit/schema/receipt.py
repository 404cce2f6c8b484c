"""The receipt of a smoke test. ``deploy/receipt.py`` says what each field means, and checks the types."""

from __future__ import annotations

from .fields import Field, Number, Table, Whole

_SECONDS = Number(0, 1e9)
_RATE = Number(0, 1e9)  # tokens per second
_BYTES = Whole(0, 2**62)
_TOKENS = Whole(0)

RECEIPT: dict[str, Field] = {
    "threads": Whole(1, 1 << 20),
    "context": Whole(1),
    "load_s": _SECONDS,
    "ttft_s": _SECONDS,
    "decode_tok_s": _RATE,
    "peak_rss_bytes": _BYTES,
    "prompt": Table({"tokens": _TOKENS, "ttft_s": _SECONDS}),
    "sustained": Table({"seconds": _SECONDS, "tokens": _TOKENS, "first_tok_s": _RATE, "last_tok_s": _RATE}),
    "predicted": Table({"low": _RATE, "mid": _RATE, "high": _RATE}),
}
