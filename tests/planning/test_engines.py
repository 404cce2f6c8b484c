"""One home per engine: a new engine is one file in planning/engines/ and one in runtime/, and nothing else changes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgekit.planning.engines
import edgekit.runtime
from edgekit.artifact.manifest import Manifest
from edgekit.devices import load_device
from edgekit.errors import UnknownNameError
from edgekit.planning.draft import memory_by_engine
from edgekit.planning.engines import all_engines, engine_names, engines_for, find_engine
from edgekit.planning.plan import PlanOptions
from edgekit.planning.planner import plan
from edgekit.recipes import load_recipe
from edgekit.runtime import engine as runtime

SMALL = load_recipe("smollm2-135m")
PLANNED = '''
"""An engine on the GPU that needs half the memory for its cache."""
from edgekit.planning.memory import MemoryPlan
from edgekit.planning.planned_engine import PlannedEngine

def has_gpu(device):
    return device.accelerator is not None and device.accelerator.kind == "gpu"

ENGINE = PlannedEngine(
    name="fake",
    preference=lambda device: 9 if has_gpu(device) else None,
    processor=lambda device: "mobile-gpu" if has_gpu(device) else "cpu",
    kv_types=lambda activation_type: ("float16", "int8"),
    memory=lambda dimensions, layout, weights, setup: MemoryPlan(weights.total, 0, setup.context, 1, 2, 3, 4),
    runtime_bytes=3,
    reads_weights_to_load=True,
    fitted_as="fake",
    shares=None,
)
'''
RUNS = """
from types import SimpleNamespace

class ENGINE:
    @staticmethod
    def can_run(manifest):
        return manifest.name == "for the fake"

    @staticmethod
    def preference(manifest):
        return 9

    @staticmethod
    def open(folder, manifest, options):
        return SimpleNamespace(name="fake", folder=folder)
"""


@pytest.fixture
def fake_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Adds the two files of an engine to the two packages."""
    for package, file, text in (
        (edgekit.planning.engines, "fake.py", PLANNED),
        (edgekit.runtime, "fake_engine.py", RUNS),
    ):
        folder = tmp_path / package.__name__
        folder.mkdir()
        (folder / file).write_text(text)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    yield
    for name in ("edgekit.planning.engines.fake", "edgekit.runtime.fake_engine"):
        sys.modules.pop(name, None)


def _manifest(name: str) -> Manifest:
    parts = {part: {"bits": 4} for part in ("linear", "embedding", "lm_head")}
    return Manifest(
        name=name, edgekit_version="", created="", model={}, source={}, recipe={}, device={}, plan={},
        quantization=parts, activation_type="float32", reasoning=False, sampling={}, tokens={}, bits_per_weight=0.0,
        quality=None, golden=None, files={},
    )  # fmt: skip


def test_every_engine_that_is_planned_can_be_opened() -> None:
    assert engine_names() == runtime.engines() == ("cuda", "native", "ort", "webgpu")
    assert tuple(engine.name for engine in all_engines()) == engine_names(), "the file's name is the engine's"


def test_an_unknown_engine_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="there is no engine 'nativ'; did you mean native"):
        find_engine("nativ")
    with pytest.raises(UnknownNameError, match="'orte'; did you mean ort"):
        PlanOptions("orte")


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("jetson", ["native", "webgpu", "cuda", "ort"]),
        ("rtx-3060", ["cuda", "webgpu", "native", "ort"]),
        ("pi", ["native", "ort"]),
    ],
)
def test_the_engines_of_a_device_by_preference(device: str, expected: list[str]) -> None:
    assert [engine.name for engine in engines_for(load_device(device))] == expected


def test_a_new_engine_is_planned_where_it_runs(fake_engine: None) -> None:
    jetson, pi = load_device("jetson"), load_device("pi")
    assert engine_names() == ("cuda", "fake", "native", "ort", "webgpu")
    planned = plan(SMALL, jetson, 1024)
    assert (planned.engine, planned.kv_type) == ("fake", "float16")
    assert planned.memory.kv_cache == 1024
    assert planned.predictor.hardware.processor == "mobile-gpu"
    assert planned.latency.decode_tok_s is not None
    assert set(memory_by_engine(SMALL, jetson, planned)) == {"cuda", "fake", "native", "ort", "webgpu"}

    on_pi = plan(SMALL, pi)
    assert on_pi.engine == "native"
    assert set(memory_by_engine(SMALL, pi, on_pi)) == {"native", "ort"}


def test_a_new_engines_cache_is_offered_in_its_smallest_type(fake_engine: None, tmp_path: Path) -> None:
    """The file's memory formula gives int8 the same size, so only a plan that fits can be offered."""
    text = PLANNED.replace("setup.context, 1, 2", "setup.context * (10**6 if setup.kv_type == 'float16' else 1), 1, 2")
    (tmp_path / "edgekit.planning.engines" / "fake.py").write_text(text)
    recipe, jetson = load_recipe("deepseek-r1-distill-qwen-1.5b"), load_device("jetson")
    planned = plan(recipe, jetson, 8192, options=PlanOptions("fake", "float16"))
    assert {offer.kind: offer.options for offer in planned.offers}["kv"] == ("--kv-type", "int8")
    taken = plan(recipe, jetson, 8192, options=PlanOptions("fake"))
    assert (taken.fits, taken.kv_type) == (True, "int8"), "without a request, it is taken"


def test_a_new_engine_is_an_option_of_the_command_line(fake_engine: None, tmp_path: Path) -> None:
    program = (
        "import sys, edgekit.planning.engines as engines; engines.__path__.append(sys.argv.pop(1));"
        "from edgekit.cli import main; main()"
    )
    words = ["plan", "smollm2-135m", "--device", "jetson", "--engine", "fake", "--json"]
    folder = str(tmp_path / "edgekit.planning.engines")
    done = subprocess.run([sys.executable, "-c", program, folder, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["engine"] == "fake"


def test_a_new_engine_is_chosen_and_opened(fake_engine: None, tmp_path: Path) -> None:
    assert runtime.choose_engine(_manifest("for the fake")) == "fake"
    assert runtime.choose_engine(_manifest("another")) == "native"
    opened = runtime.open_engine(tmp_path, _manifest("for the fake"), runtime.EngineOptions())
    assert opened.name == "fake"
    assert runtime.open_engine(tmp_path, _manifest("another"), runtime.EngineOptions(), "fake").name == "fake"
