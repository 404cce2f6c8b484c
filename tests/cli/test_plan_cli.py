"""``edgekit plan`` as a person and as a program uses it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edgekit.cli.plan import command
from edgekit.errors import BudgetError, ContextLengthError, UnknownNameError
from edgekit.recipes import recipe_names

ROOT = Path(__file__).parents[2]


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def _json(*arguments: str) -> dict[str, Any]:
    result = _run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    shown: dict[str, Any] = json.loads(result.stdout)
    return shown


def test_a_model_that_fits() -> None:
    text = _run("smollm2-135m", "--device", "laptop").stdout
    for word in (
        "smollm2-135m",
        "laptop-16gb",
        "4096 tokens",
        "weights",
        "KV cache",
        "activations",
        "runtime",
        "total",
    ):
        assert word in text
    assert "fits" in text
    assert "What fits" not in text


def test_a_model_that_does_not_fit_comes_with_offers() -> None:
    text = _run("deepseek-r1-distill-qwen-7b", "--device", "jetson").stdout
    assert "does not fit: 478 MB too much" in text
    assert "--lm-head-bits 4 --block-size 128 --context 3328" in text
    assert "deepseek-r1-distill-qwen-1.5b" in text


def test_the_offered_options_do_fit() -> None:
    base = ("deepseek-r1-distill-qwen-7b", "--device", "jetson")
    offers = {offer["kind"]: offer for offer in _json(*base)["offers"]}
    again = _json(*base, *offers["bits"]["options"])
    assert again["fits"]
    assert again["memory_bytes"]["total"] == offers["bits"]["total_bytes"]
    assert _json(*offers["model"]["options"], "--device", "jetson")["fits"]


def test_a_plan_only_model_says_so() -> None:
    assert "mixture of 256 experts" in " ".join(_run("deepseek-r1-671b", "--device", "pi").stdout.split())


def test_without_a_model_every_recipe_is_tried_and_one_recommended() -> None:
    text = _run("--device", "jetson", "--context", "8000").stdout
    for name in recipe_names():
        assert name in text
    assert text.count("recommended") == 1
    assert "edgekit build deepseek-r1-distill-qwen-1.5b --device jetson --context 8000\n" in text


def test_the_command_to_build_repeats_the_options() -> None:
    text = _run("--device", "pi", "--bits", "8", "--asymmetric").stdout
    assert "--device pi --bits 8 --asymmetric\n" in text


def test_without_a_model_json_is_the_best_ones_plan() -> None:
    shown = _json("--device", "jetson")
    assert shown["model"] == "deepseek-r1-distill-qwen-1.5b"
    assert shown["fits"]
    assert {plan["model"] for plan in shown["plans"]} == set(recipe_names())


def test_a_context_too_long_for_a_model_leaves_the_others() -> None:
    assert "holds 8192 tokens at most" in _run("--device", "pi", "--context", "9000").stdout


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_nothing_fits(as_json: tuple[str, ...]) -> None:
    result = _run("--device", "iphone-15-pro", "--context", "32768", "--bits", "8", *as_json)
    assert isinstance(result.exception, BudgetError)
    assert ("too large" in result.stdout) is not bool(as_json), "--json prints nothing but its one object"


def test_quantization_options_change_the_plan() -> None:
    base = ("deepseek-r1-distill-qwen-1.5b", "--device", "laptop")
    plain = _json(*base)["memory_bytes"]["weights"]
    assert _json(*base, "--bits", "8")["memory_bytes"]["weights"] > plain
    for smaller in (("--lm-head-bits", "4"), ("--block-size", "128"), ("--symmetric",)):
        assert _json(*base, *smaller)["memory_bytes"]["weights"] < plain
    assert _json(*base, "--embedding-bits", "8")["memory_bytes"]["weights"] > plain


def test_a_recipe_and_a_device_of_the_user(tmp_path: Path) -> None:
    recipe, device = tmp_path / "mine.toml", tmp_path / "board.toml"
    recipe.write_bytes((ROOT / "recipes/smollm2-135m.toml").read_bytes())
    device.write_bytes((ROOT / "devices/laptop-16gb.toml").read_bytes())
    shown = _json(str(recipe), "--device", str(device))
    assert (shown["model"], shown["device"]) == ("mine", "board")


def test_errors() -> None:
    assert isinstance(_run("smollm", "--device", "pi").exception, UnknownNameError)
    assert isinstance(_run("smollm2-135m", "--device", "pie").exception, UnknownNameError)
    assert isinstance(_run("smollm2-135m", "--device", "pi", "--context", "8193").exception, ContextLengthError)
    assert _run("smollm2-135m").exit_code == 2
    assert _run("smollm2-135m", "--device", "pi", "--bits", "3").exit_code == 2
    assert _run("smollm2-135m", "--device", "pi", "--context", "0").exit_code == 2


IMPORTS = """
import sys
sys.argv = ["edgekit", "plan", *{arguments!r}]
from edgekit.cli import main
main()
heavy = {{"onnx", "onnxruntime", "numpy", "tokenizers", "huggingface_hub", "gguf"}} & set(sys.modules)
print("imported:", *sorted(heavy), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["--device", "cpu"], ["smollm2-135m", "--device", "jetson", "--json"]])
def test_planning_imports_nothing_heavy(arguments: list[str]) -> None:
    code = IMPORTS.format(arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "imported:"
