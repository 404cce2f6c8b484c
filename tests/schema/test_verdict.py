"""Kept results of proofs: each value has its type."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.errors import ArtifactError
from edgekit.schema.fields import check_table
from edgekit.schema.verdict import VERDICT

GOOD: dict[str, Any] = {
    "subject": {"engine": "webgpu", "adapter": "x", "driver": "1", "versions": "1", "artifact": "ab", "version": 2},
    "name": "tiny", "passed": True, "setup": {"prefill_chunk": 31, "cpu_nodes": ["/a"], "cache_on_processor": True},
    "detail": "fine", "wrong": [], "kernels": 3, "sizes": 12, "kernel_error": None, "logits_error": 1e-5,
    "seconds": 2.5, "mean_kl": 0.0, "sample_ids": [1], "sample_logits": [{"id": 1, "logit": 0.5}],
}  # fmt: skip


def test_a_verdict() -> None:
    check_table(GOOD, VERDICT, "verdict.json", ArtifactError)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"passed": "yes"}, "passed"),
        ({"seconds": "2"}, "seconds"),
        ({"setup": {"prefill_chunk": 31, "cpu_nodes": "a", "cache_on_processor": True}}, "cpu_nodes"),
        ({"setup": {"cpu_nodes": []}}, "cache_on_processor"),
        ({"sample_logits": [{"id": "x", "logit": 0.5}]}, "id"),
        ({"sample_logits": [{"id": 1}]}, "logit"),
    ],
)
def test_a_value_of_another_type(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(ArtifactError, match=key):
        check_table(GOOD | changes, VERDICT, "verdict.json", ArtifactError)
