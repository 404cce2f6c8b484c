"""The options that describe a plan: units, defaults and what the command receives."""

from __future__ import annotations

import re

import click
import pytest
from click.testing import CliRunner, Result

from edgekit.cli._plan_options import plan_arguments, plan_options
from edgekit.planning.budget import UserLimits
from edgekit.planning.plan import PlanOptions
from edgekit.units import parse_token_rate


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
    for words in ("engine=None", "kv_type=None", "prompt_tokens=None", "power_mode=None", "ttft_s=None"):
        assert words in text


@pytest.mark.parametrize("value", ["0.005 tok/min", "1000000000", "12.5"])
def test_printed_options_are_accepted_again(value: str) -> None:
    limit = parse_token_rate(value)
    options = PlanOptions(prompt_tokens=128, limits=UserLimits(decode_tok_s=limit, ttft_s=limit))
    words = plan_arguments(options)
    assert words[:2] == ("--prompt-tokens", "128")
    again = _run(*words)
    assert again.exit_code == 0, again.output
    read = [float(found) for found in re.findall(r"(?:decode_tok_s|ttft_s)=([^,)]+)", again.output)]
    assert read == pytest.approx([limit, limit], rel=1e-9)


@pytest.mark.parametrize("option", ["--max-ttft", "--min-decode", "--max-memory"])
@pytest.mark.parametrize("value", ["0", "-1", "much", "nan"])
def test_values_that_are_not_quantities(option: str, value: str) -> None:
    result = _run(f"{option}={value}")
    assert result.exit_code == 2
    assert option in result.output
