"""The options that describe a plan: units, defaults and what the command receives."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner, Result

from edgekit.cli._plan_options import plan_options


def _run(*arguments: str) -> Result:
    @click.command()
    @plan_options
    def command(plan_options: object) -> None:
        click.echo(repr(plan_options))

    return CliRunner().invoke(command, arguments)


def test_units_are_read() -> None:
    text = _run("--max-ttft", "300ms", "--min-decode", "120 tok/min", "--max-memory", "1.5GiB").output
    assert "ttft_s=0.3" in text
    assert "decode_tok_s=2.0" in text
    assert f"memory_bytes={3 * 2**29}" in text


def test_without_options_nothing_is_limited() -> None:
    text = _run().output
    for words in ("engine=None", "kv_type=None", "prompt_tokens=128", "power_mode=None", "ttft_s=None"):
        assert words in text


@pytest.mark.parametrize("option", ["--max-ttft", "--min-decode", "--max-memory"])
@pytest.mark.parametrize("value", ["0", "-1", "much", "nan"])
def test_values_that_are_not_quantities(option: str, value: str) -> None:
    result = _run(f"{option}={value}")
    assert result.exit_code == 2
    assert option in result.output
