"""``edgekit plan`` for people and programs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edgekit.cli.plan import command
from edgekit.devices import device_names
from edgekit.errors import BudgetError, ContextLengthError, MissingPackageError, UnknownNameError, UsageError
from edgekit.recipes.registry import LIBRARY, load_recipe

ROOT = Path(__file__).parents[2]


def _run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(command, arguments)  # wide: nothing is wrapped


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
    assert "Options that fit" not in text


def test_a_model_that_does_not_fit_comes_with_offers() -> None:
    text = _run("deepseek-r1-distill-qwen-7b", "--device", "jetson", "--engine", "cuda").stdout
    assert "does not fit: 634 MB over the usable memory" in text
    assert "--lm-head-bits 4 --block-size 128 --context 2048" in text
    assert "qwen3-4b needs 4.01 GB" in text


def test_the_offered_options_do_fit() -> None:
    base = ("deepseek-r1-distill-qwen-7b", "--device", "jetson", "--engine", "cuda")
    offers = {offer["kind"]: offer for offer in _json(*base)["offers"]}
    again = _json(*base, *offers["bits"]["options"])
    assert again["fits"]
    assert again["memory_bytes"]["total"] == offers["bits"]["total_bytes"]
    assert _json(*offers["model"]["options"], "--device", "jetson", "--engine", "cuda")["fits"]


@pytest.mark.parametrize(
    "request_",
    [
        "qwen3-8b --device jetson --kv-type float16",
        "deepseek-r1-distill-qwen-32b --device jetson --power-mode 7W --headless",
        "deepseek-r1-distill-qwen-14b --device jetson --power-mode 15W",
        "deepseek-r1-distill-qwen-7b --device iphone-13",
        "deepseek-r1-distill-qwen-1.5b --device pi --prompt-tokens 2048 --max-ttft 10s",
        "deepseek-r1-distill-qwen-7b --device jetson --min-decode 10",
        "qwen3-8b --device jetson --max-memory 3GB --context 8192",
        "deepseek-r1-distill-qwen-14b --device phone --engine ort",
        "deepseek-r1-distill-llama-8b --device jetson --engine cuda",
    ],
)
def test_every_offer_that_is_followed_is_acceptable(request_: str) -> None:
    model, *words = request_.split()
    shown = _json(model, *words)
    assert shown["offers"] or request_.startswith("deepseek-r1-distill-qwen-32b"), request_
    for offer in shown["offers"]:
        named = offer["options"] if offer["kind"] == "model" else [model, *offer["options"]]
        again = _json(named[0], *words, *named[1:])
        assert again["fits"], offer
        assert again["memory_bytes"]["total"] <= offer["total_bytes"], offer
        asked = [limit for limit in again["budget"].values() if limit["asked"]]
        assert {limit["verdict"] for limit in asked} <= {"met", "likely"}, offer
        assert again["prompt_tokens"] == shown["prompt_tokens"], offer


def test_a_prompt_that_is_longer_than_the_context_is_refused() -> None:
    found = _run("smollm2-135m", "--device", "pi", "--prompt-tokens", "100000").exception
    assert isinstance(found, ContextLengthError)
    assert "a prompt of 100000 tokens was requested" in found.message
    assert _json("smollm2-135m", "--device", "pi", "--context", "64")["prompt_tokens"] == 64  # the default, cut
    assert "the longest prompt, has 8192 tokens" in found.hint
    for model in ((), ("r1-1.5b",)):
        found = _run(*model, "--device", "pi", "--prompt-tokens", "5000").exception
        assert isinstance(found, ContextLengthError)
        assert "--context" in found.hint
        assert ("planning" in found.message) == bool(model), "no model is named that the user did not name"
    table = _run("--device", "laptop", "--context", "16384", "--prompt-tokens", "16000").stdout
    assert re.search(r"smollm2-135m .*at most 8192 tokens", table)


def test_a_limit_that_cannot_be_checked_is_told() -> None:
    limits = ("--max-ttft", "1ms", "--min-decode", "100000")
    note = "the limit for the time to the first token and the limit for decode speed could not be checked"
    for model in (("smollm2-135m",), ()):
        assert note in _run(*model, "--device", "cpu", *limits).stderr
    assert any(note in each for each in _json("smollm2-135m", "--device", "cpu", *limits)["notes"])
    assert "could not be checked" not in _run("smollm2-135m", "--device", "pi", *limits).stderr
    assert "the limits could not be checked for cpu" in _run("smollm2-135m", "--all-devices", *limits).stderr


def test_no_model_is_said_to_fit_without_a_desktop_that_a_memory_limit_excludes() -> None:
    limit = ("--max-memory", "2GB")
    table = _run("--device", "pi", *limit).stdout
    assert "without a desktop" not in table
    assert (
        re.search(r"(\d+) of \d+ models fit", table)[1]
        == re.search(  # type: ignore[index]
            r"(\d+) of \d+ models fit", _run("--device", "pi", *limit, "--headless").stdout
        )[1]
    )


def test_a_picture_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.cli.plan.find_spec", lambda name: None)
    found = _run("smollm2-135m", "--device", "pi", "--plot", str(tmp_path / "x.svg")).exception
    assert isinstance(found, MissingPackageError)
    assert "install the extra plot" in found.hint


@pytest.mark.parametrize(
    ("words", "devices"),
    [
        ("--engine webgpu", {"jetson-orin-nano", "rtx-4090"}),
        ("--power-mode 15W", {"jetson-orin-nano"}),
        ("--prompt-tokens 3000", {"jetson-orin-nano"}),
    ],
)
def test_a_table_of_all_devices_leaves_out_those_that_lack_something(words: str, devices: set[str]) -> None:
    named = {planned["device"] for planned in _json("r1-1.5b", "--all-devices", *words.split())["plans"]}
    assert devices <= named
    assert len(named) < len(device_names())


def test_a_table_without_any_device_has_an_error() -> None:
    assert isinstance(_run("r1-1.5b", "--all-devices", "--power-mode", "none").exception, UnknownNameError)


def test_a_plan_only_model_is_marked() -> None:
    assert "mixture of 256 experts" in " ".join(_run("deepseek-r1-671b", "--device", "pi").stdout.split())


def test_without_a_model_every_recipe_is_tried_and_one_recommended() -> None:
    text = _run("--device", "jetson", "--context", "8000").stdout
    for name in LIBRARY.names():
        assert name in text
    fitting = sum(line.endswith(("yes", "slow")) for line in text.splitlines())
    assert 8 < fitting < len(LIBRARY.names())
    assert f"{fitting} of {len(LIBRARY.names())} models fit, and " in text
    assert "Recommended: qwen3-4b." in text
    assert "uncalibrated (~): no speed of onnxruntime's WebGPU plugin" in text
    marked = {line.split()[0] for line in text.splitlines() if " ~" in line}
    assert "qwen3-4b" in marked
    assert "qwen2.5-7b" not in marked, "planned for the native engine, whose speed is calibrated"
    assert "  edgekit build qwen3-4b --device jetson --context 8000\n" in text


def test_the_command_to_build_repeats_the_options() -> None:
    text = _run("--device", "pi", "--bits", "8", "--asymmetric").stdout
    assert "--device pi --bits 8 --asymmetric\n" in text
    wanted = "--engine native --kv-type int8 --power-mode 15W --prompt-tokens 200 --max-ttft 60s --min-decode 1.5"
    words = f"--device jetson --context 2048 {wanted} --max-memory 4000000000 --headless --no-reasoning"
    assert f" {words}\n" in _run(*words.split()).stdout


def test_without_a_model_json_is_the_best_ones_plan() -> None:
    shown = _json("--device", "jetson")
    assert shown["model"] == "qwen3-4b"
    assert shown["fits"]
    assert {plan["model"] for plan in shown["plans"]} == set(LIBRARY.names())


def test_a_context_too_long_for_a_model_leaves_the_others() -> None:
    assert "at most 8192 tokens" in _run("--device", "pi", "--context", "9000").stdout


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_nothing_fits(as_json: tuple[str, ...]) -> None:
    result = _run("--device", "iphone-13", "--context", "65536", "--bits", "8", *as_json)
    assert isinstance(result.exception, BudgetError)
    assert ("iPhone 13" in result.stdout) is not bool(as_json), "--json prints its one object only"


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
    assert isinstance(_run("smollm2-135m", "--device", "pi", "--bits", "3").exception, UsageError)
    assert _run("smollm2-135m", "--device", "pi", "--bits", "none").exit_code == 2
    assert _run("smollm2-135m", "--device", "pi", "--context", "0").exit_code == 2


def test_speeds_stand_in_the_table_with_intervals_and_budget() -> None:
    text = _run("deepseek-r1-distill-qwen-1.5b", "--device", "pi").stdout
    for words in ("first token, prompt of 128", "decode, empty context", "decode, full context", "80 % interval"):
        assert words in text
    assert "at most 5.0 s: met" in text
    assert "at least 5 tok/s: met" in text
    assert "from microSD SDR104" in text
    assert "uncalibrated" not in text
    assert "uncalibrated" in _run("deepseek-r1-distill-qwen-1.5b", "--device", "iphone-13").stdout
    jetson = " ".join(_run("smollm2-135m", "--device", "jetson").stdout.split())
    assert "uncalibrated" not in jetson.partition("engine ")[0]
    forced = " ".join(_run("smollm2-135m", "--device", "jetson", "--engine", "webgpu").stdout.split())
    unknown = "no speed of onnxruntime's WebGPU plugin has been published for GPUs that share the memory"
    assert f"uncalibrated: {unknown}" in forced


def test_a_host_without_a_bandwidth_is_told_how_to_get_one() -> None:
    assert "edgekit probe --out FILE.toml" in _run("smollm2-135m", "--device", "cpu").stdout


def test_headless_is_planned_offered_and_repeated() -> None:
    name = ("deepseek-r1-distill-llama-8b", "--context", "8192")
    text = _run(*name, "--device", "jetson").stdout
    assert "--headless" in text
    assert "needs a machine" not in text
    assert "on jetson-orin-nano without a desktop" in _run(*name, "--device", "jetson", "--headless").stdout
    shown = _json(*name, "--device", "jetson", "--headless")
    assert (shown["headless"], shown["fits"]) == (True, True)
    table = " ".join(_run("--device", "jetson", "--context", "8192").stdout.split())
    assert "more without a desktop (--headless). Recommended" in table
    everything = _run("--device", "jetson", "--context", "8192", "--headless").stdout
    assert "more without a desktop" not in everything
    assert "usable without a desktop" in everything
    assert " --device jetson --context 8192 --headless\n" in everything


def test_headless_is_refused_where_nothing_is_known_except_in_a_table_of_all_devices() -> None:
    assert isinstance(_run("smollm2-135m", "--device", "laptop", "--headless").exception, UsageError)
    assert isinstance(_run("--device", "laptop", "--headless").exception, UsageError)
    plans = _json("deepseek-r1-distill-llama-8b", "--all-devices", "--headless")["plans"]
    assert {plan["device"]: plan["headless"] for plan in plans}["laptop-16gb"] is False
    assert {plan["device"]: plan["headless"] for plan in plans}["jetson-orin-nano"] is True


def test_the_users_budget() -> None:
    base = ("deepseek-r1-distill-qwen-7b", "--device", "pi")
    text = _run(*base, "--min-decode", "10 tok/s", "--max-ttft", "300ms").stdout
    assert "too slow for the requested budget" in text
    assert "times too slow" in text
    shown = _json(*base, "--min-decode", "10", "--max-memory", "4.5GB")
    assert not shown["fits"]
    assert shown["usable_bytes"] == 4_500_000_000
    assert shown["budget"]["decode_tok_s"]["asked"] is True
    with_all = _run("--device", "pi", "--min-decode", "100000")
    assert isinstance(with_all.exception, BudgetError)
    assert "too slow" in with_all.stdout


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--min-decode", "5 parrots", "'5 parrots' is not a speed; write a number and one of tok/s, tokens/s, tok/min"),
        ("--max-ttft", "1 fortnight", "'1 fortnight' is not a duration; write a number and one of s, ms, min, h"),
        ("--max-memory", "2 gigs", "'2 gigs' is not a size"),
        ("--max-ttft", "0", "'0' must be above 0"),
        ("--kv-type", "int4", "'int4' is not one of"),
        ("--prompt-tokens", "0", "0 is not in the range"),
        ("--plot", "plan.gif", "plan.gif does not end in .svg, .png or .pdf"),
    ],
)
def test_invalid_units_and_values(option: str, value: str, words: str) -> None:
    result = _run("smollm2-135m", "--device", "pi", option, value)
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())


def test_engine_cache_and_power_mode_are_planned_for() -> None:
    native = _json("smollm2-135m", "--device", "pi")
    assert (native["engine"], native["kv_type"]) == ("native", "float16")
    assert _json("smollm2-135m", "--device", "pi", "--engine", "ort")["memory_bytes"]["repacking"] > 0
    halved = _json("smollm2-135m", "--device", "pi", "--kv-type", "int8")["memory_bytes"]["kv_cache"]
    assert halved == native["memory_bytes"]["kv_cache"] * (64 + 4) // (64 * 2)
    refused = _run("smollm2-135m", "--device", "pi", "--engine", "ort", "--kv-type", "int8").exception
    assert isinstance(refused, UnknownNameError)
    on_gpu = ("smollm2-135m", "--device", "jetson", "--engine", "webgpu")
    full, saving = (_json(*on_gpu, *more) for more in ((), ("--power-mode", "15W")))
    assert saving["decode_tok_s"]["mid"] < full["decode_tok_s"]["mid"]
    assert isinstance(_run("smollm2-135m", "--device", "jetson", "--power-mode", "1W").exception, UnknownNameError)


def test_one_model_on_every_device() -> None:
    text = _run("deepseek-r1-distill-qwen-7b", "--all-devices").stdout
    for name in device_names():
        assert name in text
    assert text.index("rtx-4090") < text.index("raspberry-pi-5-8gb") < text.index("raspberry-pi-4-4gb"), "by speed"
    shown = _json("deepseek-r1-distill-qwen-7b", "--all-devices")
    assert {plan["device"] for plan in shown["plans"]} == set(device_names())
    assert _run("--all-devices").exit_code == 2
    assert _run("smollm2-135m", "--all-devices", "--device", "pi").exit_code == 2


def test_what_is_too_large_is_told_its_class_of_machine() -> None:
    assert "This model needs a server with 512 GB of main memory" in _run("deepseek-r1-671b", "--device", "pi").stdout
    assert _json("deepseek-r1-distill-llama-70b", "--device", "pi")["needs"].startswith(
        "a machine with 64 GB of memory"
    )


def test_a_mean_of_bits() -> None:
    text = _run("deepseek-r1-distill-qwen-1.5b", "--device", "jetson", "--bits", "4.8").stdout
    assert (
        "int4 and int8 chosen by the error of each matrix, block 64 asymmetric in the layers, scaled; 4.80 bits" in text
    )
    table = _run("--device", "jetson", "--bits", "4.35").stdout  # SmolLM2's blocks of 32 take more
    assert re.search(r"smollm2-135m +cannot reach this mean of bits", table)
    assert "edgekit build deepseek-r1-distill-qwen-7b --device jetson --bits 4.35\n" in table, (
        "it fits the GPU's memory"
    )
    nowhere = _run("--device", "jetson", "--bits", "3.9").exception
    assert isinstance(nowhere, UsageError)
    assert "a mean of 3.9 bits per weight was requested" in nowhere.message


@pytest.mark.parametrize("width", [62, 80, 120])
def test_every_table_says_which_models_fit_at_any_width(width: int) -> None:
    text = CliRunner(env={"COLUMNS": str(width)}).invoke(command, ["--device", "jetson"]).stdout
    rows = {words[0]: line for line in text.splitlines() if (words := line.split()) and words[0] in LIBRARY.names()}
    assert set(rows) == set(LIBRARY.names())
    assert max(map(len, rows.values())) <= width
    for name, row in rows.items():
        size = load_recipe(name).parameters
        assert row.endswith("yes" if size < 5 * 10**9 else "slow" if size < 9 * 10**9 else "no")


def test_a_cache_in_int8_is_explained_with_its_cost() -> None:
    base = ("deepseek-r1-distill-llama-8b", "--device", "jetson")
    text = " ".join(_run(*base).stdout.split())
    assert re.search(r"KV cache int8: float16 would need 5\.\d\d GB, [\d.]+ .B more than is usable; it changes", text)
    assert "mean KL divergence of 0.0039 to 0.0065 for SmolLM2-135M" in text
    shown = _json(*base)
    assert shown["kv_type"] == "int8"
    assert shown["kv_because"].startswith("float16 would need 5.")
    assert "more than is usable" not in _run(*base, "--kv-type", "int8").stdout
    assert _json(*base, "--kv-type", "float16")["fits"] is False


def test_names_with_brackets_are_printed_unchanged(tmp_path: Path) -> None:
    recipe, device = tmp_path / "my[bold]model.toml", tmp_path / "board[0].toml"
    recipe.write_bytes((ROOT / "recipes/smollm2-135m.toml").read_bytes())
    device.write_bytes((ROOT / "devices/laptop-16gb.toml").read_bytes())
    assert "my[bold]model on board[0], context 4096 tokens" in _run(str(recipe), "--device", str(device)).stdout
