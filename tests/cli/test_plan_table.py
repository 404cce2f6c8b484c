"""The table of a plan: formats, intervals and budgets."""

from __future__ import annotations

from click.testing import CliRunner

from edgekit.cli._plan_table import describe_quantization
from edgekit.cli.plan import command
from edgekit.scheme import QuantizationConfig, QuantizationScheme


def _plan(*arguments: str, columns: int = 160) -> str:
    return CliRunner(env={"COLUMNS": str(columns)}).invoke(command, arguments).stdout


def test_a_rotation() -> None:
    plain, rotated = (_plan("smollm2-135m", "--device", "pi", *extra) for extra in ((), ("--rotate",)))
    assert "rotated" not in plain
    assert "lm_head int8 block 32 symmetric, rotated; 7." in rotated, "one table more"
    r1 = _plan("deepseek-r1-distill-qwen-1.5b", "--device", "pi")
    assert ", scaled;" in r1


def test_a_mixed_format_in_words() -> None:
    four, eight = QuantizationScheme(4, 64, False), QuantizationScheme(8, 64, False)
    mixed = QuantizationConfig(four, four, eight, matrices={"a": eight, "b": eight, "c": None})
    assert describe_quantization(mixed).startswith(
        "layers int4 block 64 asymmetric (2 matrices int8 block 64 asymmetric) (1 matrix float), embedding int4"
    )


def test_the_bars_show_the_share_of_the_total() -> None:
    lines = _plan("deepseek-r1-distill-qwen-7b", "--device", "jetson", "--engine", "cuda").splitlines()
    cells = {line[:12].strip(): line.count("━") for line in lines if "━" in line}
    assert cells["weights"] == int(30 * 4.38 / 5.83), "and half a cell"
    assert 1 <= cells["tokenizer"] <= cells["runtime"] < cells["weights"]


def test_a_narrow_terminal_gets_the_whole_plan() -> None:
    text = _plan("deepseek-r1-distill-qwen-7b", "--device", "jetson", "--engine", "cuda", columns=60)
    tables = [line for line in text.splitlines() if "  " in line]
    assert max(map(len, tables)) <= 60
    for words in ("KV cache", "112 % of the usable memory", "80 % interval", "qwen3-4b"):
        assert words in text
