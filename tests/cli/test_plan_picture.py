"""The picture of a plan: its texts, its dashed lines, and that the same plan gives the same bytes."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from edgekit.cli._plan_picture import _curve
from edgekit.cli.plan import command
from edgekit.devices import load_device
from edgekit.errors import BudgetError, EdgekitError
from edgekit.planning.draft import draft
from edgekit.planning.plan import PlanOptions
from edgekit.recipes import load_recipe

pytestmark = pytest.mark.slow  # drawing takes seconds

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def _plot(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, [*arguments, "--plot", str(path)])


def _texts(path: Path) -> list[str]:
    """Every text of a picture, as a reader sees it."""
    root = ElementTree.parse(path).getroot()  # noqa: S314  our own file
    return ["".join(element.itertext()).strip() for element in root.iter(f"{SVG}text")]


def _dashed(path: Path) -> int:
    """How many lines are dashed, the legend's included."""
    return len(re.findall("stroke-dasharray: 7.2,3.6", path.read_text(encoding="utf-8")))


def test_a_picture_names_everything(tmp_path: Path) -> None:
    path = tmp_path / "plan.svg"
    result = _plot(path, "--device", "pi")
    assert result.exit_code == 0
    assert f"picture written to {path}" in result.stderr
    texts = _texts(path)
    assert any(text.startswith("Raspberry Pi 5, 8 GB: 8 of ") for text in texts)
    for words in (
        "Decode speed",
        "tokens per second (log scale)",
        "Time to the first token",
        "seconds (log scale)",
        "prompt, tokens (log scale)",
        "Memory",
        "GB (log scale)",
        "usable 7.20 GB",
        "budget 5 tok/s",
        "budget 5.0 s",
        "planned prompt 128",
        "80 % prediction interval",
        "does not fit",
    ):
        assert words in texts
    assert texts.count("context, tokens") == texts.count("planned context 4096") == 2
    for label in ("smollm2-135m", "deepseek-r1-distill-qwen-1.5b", "qwen3-8b"):
        assert texts.count(label) == 1


def test_one_model_has_linear_axes_where_its_values_are_close(tmp_path: Path) -> None:
    path = tmp_path / "plan.svg"
    _plot(path, "deepseek-r1-distill-qwen-1.5b", "--device", "jetson", "--min-decode", "70", "--context", "2048")
    texts = _texts(path)
    assert "DeepSeek-R1-Distill-Qwen-1.5B on NVIDIA Jetson Orin Nano 8GB (Super)" in texts
    assert "tokens per second" in texts
    assert "GB" in texts
    assert "budget 70 tok/s" in texts
    assert texts.count("planned context 2048") == 2
    assert "does not fit" not in texts
    assert _dashed(path) == 0


def test_what_does_not_fit_is_dashed(tmp_path: Path) -> None:
    path = tmp_path / "plan.svg"
    _plot(path, "deepseek-r1-distill-qwen-7b", "--device", "jetson")
    assert _dashed(path) == 3 + 1, "a line in each panel, and the legend"
    assert "does not fit" in _texts(path)


def test_a_curve_keeps_the_planned_engine() -> None:
    """At longer contexts only the native engine fits, and auto would take that."""
    recipe, device = load_recipe("qwen3-4b"), load_device("jetson")
    curve = _curve(recipe, device, "a name", "black", None, PlanOptions())
    assert {plan.engine for plan in curve.plans} == {curve.planned.engine} == {"webgpu"}
    assert draft(recipe, device, recipe.max_context // 2).engine == "native"


def test_a_device_that_nothing_fits_is_drawn_too(tmp_path: Path) -> None:
    path = tmp_path / "plan.svg"
    result = _plot(path, "--device", "iphone-13", "--context", "131072", "--bits", "8")
    assert isinstance(result.exception, BudgetError)
    assert "planned context 131072" in _texts(path)


def test_memory_alone_where_no_speed_is_known(tmp_path: Path) -> None:
    path = tmp_path / "plan.svg"
    _plot(path, "smollm2-135m", "--device", "cpu")
    texts = _texts(path)
    assert "Memory" in texts
    assert "Decode speed" not in texts


def test_of_many_devices_eight_are_drawn_from_the_fastest_to_the_slowest(tmp_path: Path) -> None:
    path = tmp_path / "plan.svg"
    _plot(path, "deepseek-r1-distill-qwen-1.5b", "--all-devices")
    texts = _texts(path)
    assert re.search(r"on 8 of \d+ devices", " ".join(texts))
    assert "rtx-4090" in texts
    assert "raspberry-pi-4-4gb" in texts


def test_of_many_models_on_a_device_eight_are_drawn(tmp_path: Path) -> None:
    path = tmp_path / "plan.svg"
    _plot(path, "--device", "jetson")
    assert re.search(r"Orin Nano .*: 8 of \d+ models", " ".join(_texts(path)))


def test_no_text_is_outside_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "plan.svg"
    _plot(path, "deepseek-r1-distill-llama-8b", "--device", "pi", "--min-decode", "50")
    root = ElementTree.parse(path).getroot()  # noqa: S314  our own file
    width, height = (float(size) for size in root.attrib["viewBox"].split()[2:])
    for place in re.findall(r"translate\(([\d.-]+) ([\d.-]+)\)", path.read_text(encoding="utf-8")):
        x, y = map(float, place)
        assert 0 < x < width
        assert 0 < y < height


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_the_suffix_chooses_the_format_and_the_bytes_are_the_same_again(
    tmp_path: Path, suffix: str, magic: bytes
) -> None:
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    for path in (first, second):
        assert _plot(path, "smollm2-135m", "--device", "pi").exit_code == 0
    assert first.read_bytes().startswith(magic)
    assert first.read_bytes() == second.read_bytes()


def test_a_picture_needs_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = _plot(tmp_path / "plan.png", "smollm2-135m", "--device", "pi")
    assert isinstance(result.exception, EdgekitError)
    assert result.exception.hint == 'install the extra plot: pip install "edgekit-llm[plot]"'
    assert result.stdout == ""


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    result = _plot(tmp_path / "nowhere" / "plan.svg", "smollm2-135m", "--device", "pi")
    assert result.exit_code == 2, "it is refused before any work"
    assert "cannot write" in result.output


def test_the_documentation_shows_the_current_plan(tmp_path: Path) -> None:
    path = tmp_path / "plan.svg"
    _plot(path, "--device", "jetson")
    assert _texts(ROOT / "docs" / "plan.svg") == _texts(path), "run: edgekit plan --device jetson --plot docs/plan.svg"
