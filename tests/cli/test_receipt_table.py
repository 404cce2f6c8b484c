"""A receipt on the terminal: verdicts, figures and contradictions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from receipts import receipt

from edgekit.cli._receipt_table import print_receipt
from edgekit.deploy.receipt import Check, Contradiction, Predicted


def test_verdicts_figures_and_contradictions_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    checks = tuple(Check(verdict, verdict, f"the {verdict}") for verdict in ("pass", "warn", "fail"))
    found = receipt(
        checks=checks,
        predicted=Predicted("jetson-orin-nano", 40.0, 50.0, 60.0),
        contradictions=(Contradiction("memory.total", "8 GB", "4 GB", "Less memory."),),
    )
    print_receipt(found)
    text = capsys.readouterr().out
    for part in ("pass", "warn", "FAIL", "not as predicted for jetson-orin-nano", "decode 30.0 tok/s", "first token"):
        assert part in text
    assert "memory.total: 8 GB in the profile, 4 GB measured. Less memory." in text
    assert "edgekit devices --from-receipt" in text


def test_a_test_that_ended_early_has_no_figures(capsys: pytest.CaptureFixture[str]) -> None:
    print_receipt(replace(receipt(), load_s=None))
    assert "first token" not in capsys.readouterr().out
