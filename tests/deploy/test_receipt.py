"""A receipt is read back as it was written; what is not a receipt of this version is an error."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from receipts import receipt

from edgekit.deploy.receipt import DERIVED, Check, Machine, Predicted, Receipt, parse_receipt, read_receipt
from edgekit.errors import ArtifactError

PAGE = Path(__file__).parents[2] / "docs" / "receipt.md"


def changed(**changes: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(receipt().to_json())), **changes}


def test_a_receipt_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    for written in (receipt(), receipt(prompt=None, sustained=None, peak_rss_bytes=None, load_s=None, device=None)):
        written.write(tmp_path / "receipt.json")
        assert read_receipt(tmp_path / "receipt.json") == written
    with pytest.raises(ArtifactError, match="cannot write the receipt"):
        receipt().write(tmp_path / "missing" / "receipt.json")


def test_the_page_describes_every_field() -> None:
    text = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z0-9_]+)`", text))
    assert {f.name for cls in (Receipt, Machine) for f in fields(cls)} | set(DERIVED) <= named
    assert changed().keys() == {f.name for f in fields(Receipt)} | set(DERIVED)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [(("pass", "pass"), "pass"), (("pass", "warn"), "warn"), (("fail", "warn"), "fail"), ((), "fail")],
)
def test_the_verdict_is_the_worst_of_the_checks(verdicts: tuple[str, ...], expected: str) -> None:
    found = receipt(checks=tuple(Check("files", verdict, "") for verdict in verdicts))
    assert (found.verdict, found.passed) == (expected, expected != "fail")
    with pytest.raises(ValueError, match="allowed: pass, warn, fail"):
        Check("files", "good", "")


def test_the_speed_is_compared_with_the_prediction() -> None:
    assert receipt().as_predicted is None
    assert receipt(predicted=Predicted("jetson-orin-nano", 25.0, 31.0, 40.0)).as_predicted is True
    assert receipt(predicted=Predicted("jetson-orin-nano", 31.0, 35.0, 40.0)).as_predicted is False


def test_fields_of_a_later_edgekit_are_ignored() -> None:
    content = changed(colour="red", error={"kind": "smoke_test"})
    content["host"]["colour"] = "red"
    content["checks"][0]["colour"] = "red"
    assert parse_receipt(content, "here") == receipt()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"receipt_version": None}, "is not a receipt: it has no receipt_version"),
        ({"receipt_version": 2}, "has receipt_version 2; this edgekit reads 1"),
        ({"checks": "none"}, "checks is 'none'; it must be a list"),
        ({"checks": [{"name": "files", "verdict": "good", "detail": ""}]}, "verdict is 'good'"),
        ({"checks": [{"name": "files", "verdict": None, "detail": ""}]}, "verdict is null"),
        ({"sustained": {"seconds": 3}}, "lacks tokens, first_tok_s, last_tok_s"),
        ({"threads": 1.5}, "threads is 1.5; it must be a whole number"),
        ({"program": None}, "lacks program"),
    ],
)
def test_what_is_not_a_receipt_is_an_error(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=re.escape(message)):
        parse_receipt(changed(**change), "here")


def test_a_missing_field_is_an_error(tmp_path: Path) -> None:
    content = changed()
    del content["kernel"], content["verdict"]
    with pytest.raises(ArtifactError, match="lacks kernel, verdict"):
        parse_receipt(content, "here")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_receipt(tmp_path / "missing.json")
