"""The figures of receipts."""

from __future__ import annotations

from typing import Any

import pytest
from receipts import receipt

from edgekit.deploy.receipt import parse_receipt
from edgekit.errors import ArtifactError


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("threads", 0), ("threads", -6), ("context", -4096), ("load_s", -1.0), ("ttft_s", -0.6),
        ("decode_tok_s", -1e30),
        ("peak_rss_bytes", -1), ("prompt", {"tokens": -1, "ttft_s": 1.0}), ("prompt", {"tokens": 1, "ttft_s": -1.0}),
        ("sustained", {"seconds": -1.0, "tokens": 1, "first_tok_s": 1.0, "last_tok_s": 1.0}),
        ("predicted", {"device": None, "low": -1.0, "mid": 1.0, "high": 2.0}),
    ],
)  # fmt: skip
def test_impossible_figures_are_refused(key: str, value: Any) -> None:
    content = receipt().to_json()
    parse_receipt(content, "r.json")
    with pytest.raises(ArtifactError, match=rf"r\.json: {key}"):
        parse_receipt({**content, key: value}, "r.json")
