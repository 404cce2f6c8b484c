"""What MODEL means: recipes, checkpoints on this machine, repositories on a stand-in for the hub."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from local_hub import COMMIT, Hub, serving
from shared_models import SharedModels
from tiny_checkpoint import write_checkpoint

import edgekit
from edgekit.build.model import Found, find_checkpoint, find_model, hub_source, open_model
from edgekit.checkpoint import hub as hub_module
from edgekit.checkpoint.hub import HubFiles
from edgekit.errors import CheckpointError, SourceError, UnknownNameError
from edgekit.recipes import FolderSource, HubSource, Recipe, load_recipe
from edgekit.recipes.hub_name import HubName

R1 = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"
TINY = "someone/tiny"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["r1-1.5b", "deepseek-r1-distill-qwen-1.5b", "R1-1.5B"])
def test_a_recipe_by_its_names(name: str) -> None:
    assert find_model(name) == Found(load_recipe("deepseek-r1-distill-qwen-1.5b"))


@pytest.mark.parametrize(
    "name",
    [R1, R1.lower(), f"https://huggingface.co/{R1}", f"hf.co/{R1}", f"https://huggingface.co/{R1}/discussions/1"],
)
def test_the_repository_of_a_recipe_means_the_recipe(name: str) -> None:
    found = find_model(name)
    assert found.what == load_recipe("r1-1.5b")
    assert len(found.notes) == 1
    assert "source of the recipe deepseek-r1-distill-qwen-1.5b" in found.notes[0]
    assert "pins revision ad9f0ae0864d" in found.notes[0]


def test_a_revision_of_the_repository_of_a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe("r1-1.5b")
    assert find_model(f"{R1}@ad9f0ae0864d").what == recipe
    monkeypatch.setattr(hub_module, "list_hub", lambda *_: HubFiles(R1, COMMIT, ("config.json", "model.safetensors")))
    found = find_model(f"{R1}@main")
    assert isinstance(found.what, Recipe)
    assert found.what.source == HubSource(R1, COMMIT)
    assert found.what.quantization == recipe.quantization
    assert "with the weights of main" in found.notes[0]


def test_a_name_of_two_things(here: Path) -> None:
    (here / "r1-7b").mkdir()
    found = find_model("r1-7b")
    assert found.what == load_recipe("r1-7b")
    assert "for the folder of that name, write ./r1-7b" in found.notes[0]
    assert find_model("./r1-7b") == Found(Path("r1-7b"))
    assert find_model(Path("r1-7b")) == Found(Path("r1-7b"))
    (here / R1).mkdir(parents=True)
    found = find_model(R1)
    assert found.what == Path(R1)
    assert f"for the Hugging Face repository, write hf.co/{R1}" in found.notes[0]
    assert find_model(f"hf.co/{R1}").what == load_recipe("r1-1.5b")


def test_paths(here: Path) -> None:
    (here / "models").mkdir()
    (here / "models" / "a.gguf").write_bytes(b"GGUF")
    for name in ("models", "models/a.gguf", str(here / "models"), "."):
        assert find_model(name) == Found(Path(name))
    with pytest.raises(CheckpointError, match=r"models/b\.gguf does not exist") as caught:
        find_model("models/b.gguf")
    assert "did you mean models/a.gguf" in caught.value.hint
    with pytest.raises(CheckpointError, match="does not exist"):
        find_model(str(here / "nowhere"))


def test_a_recipe_file(here: Path) -> None:
    shutil.copy(Path(__file__).parents[2] / "recipes" / "smollm2-135m.toml", here / "mine.toml")
    for name in ("mine.toml", "./mine.toml", here / "mine.toml"):
        found = find_model(name).what
        assert isinstance(found, Recipe)
        assert found.name == "mine"
    recipe = load_recipe("r1-7b")
    assert find_model(recipe) == Found(recipe)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("r1-15b", "r1-1.5b"),
        ("smolm2-135m", "smollm2-135m"),
        ("DeepSeek-R1-Distil-Qwen-7B", "deepseek-r1-distill-qwen-7b"),
        ("my-finetun", "my-finetune"),
        ("mymodel.ggu", "mymodel.gguf"),
        ("llama", "r1-llama-8b"),
        ("zzz", "known: "),
        ("x" * 5000, "known: "),
        ("a\0b", "known: "),
        ("", "known: "),
    ],
)
def test_near_misses_of_every_kind(here: Path, name: str, words: str) -> None:
    (here / "my-finetune").mkdir()
    (here / "mymodel.gguf").write_bytes(b"GGUF")
    with pytest.raises(UnknownNameError) as caught:
        find_model(name)
    assert words in caught.value.message
    assert "Hugging Face repository (owner/name)" in caught.value.hint


def test_what_checkpoint_means(here: Path) -> None:
    assert find_checkpoint("nowhere") == Path("nowhere")
    assert find_checkpoint("./a/b") == Path("a/b")
    assert find_checkpoint(TINY) == HubName(TINY)
    (here / TINY).mkdir(parents=True)
    assert find_checkpoint(TINY) == Path(TINY)
    assert find_checkpoint(Path("b/c")) == Path("b/c")


def test_a_folder_is_opened(models: SharedModels) -> None:
    with ExitStack() as stack:
        opened = open_model(find_model(str(models.checkpoint())), stack)
        assert opened.fetched
        assert opened.checkpoint is not None
        assert opened.recipe.source == FolderSource(str(models.checkpoint()))


def test_an_artifact_is_no_checkpoint(here: Path) -> None:
    (here / "edgekit.json").write_text("{}")
    with ExitStack() as stack, pytest.raises(CheckpointError, match="built artifact") as caught:
        open_model(find_model("."), stack)
    assert "edgekit run" in caught.value.hint


GGUFS = ("README.md", "m-Q4_K_M.gguf", "m-Q8_0.gguf")


@pytest.mark.parametrize(
    ("names", "file", "expected"),
    [
        (("config.json", "model.safetensors"), "", ""),
        (("config.json", "model.safetensors", "m-Q4_K_M.gguf"), "", ""),
        (("config.json", "model.safetensors", "m-Q4_K_M.gguf"), "q4_k_m", "m-Q4_K_M.gguf"),
        (("only.gguf",), "", "only.gguf"),
        (GGUFS, "Q8_0", "m-Q8_0.gguf"),
    ],
)
def test_what_a_repository_holds(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], file: str, expected: str
) -> None:
    monkeypatch.setattr(hub_module, "list_hub", lambda *_: HubFiles(TINY, COMMIT, names))
    assert hub_source(HubName(TINY, None, file)) == HubSource(TINY, COMMIT, expected)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (GGUFS, r"holds 2 GGUF models: m-Q4_K_M.gguf, m-Q8_0.gguf"),
        (("config.json", "pytorch_model.bin"), r"pickled weights only \(pytorch_model.bin\)"),
        (("adapter_config.json", "adapter_model.safetensors"), "is an adapter, not a model"),
        (("config.json", "onnx/model.onnx", "flax_model.msgpack"), "no weights that edgekit reads; found: config.json"),
        ((), "found: no files"),
    ],
)
def test_a_repository_without_usable_weights(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], words: str
) -> None:
    monkeypatch.setattr(hub_module, "list_hub", lambda *_: HubFiles(TINY, COMMIT, names))
    with pytest.raises(SourceError, match=words):
        hub_source(HubName(TINY))


def test_a_repository_that_does_not_exist_suggests_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> HubFiles:
        raise SourceError("does not exist", "check the name")

    monkeypatch.setattr(hub_module, "list_hub", missing)
    with pytest.raises(SourceError) as caught:
        hub_source(HubName("deepseek-ai/DeepSeek-R1-Distil-Qwen-7B"))
    assert caught.value.hint.startswith("check the name; there is no file or folder of this name either; did you mean")
    assert "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B" in caught.value.hint


def command(hub: Hub, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "edgekit.cli", *map(str, arguments)]
    environment = hub.environment(folder / "hf") | {"PYTHONPATH": str(Path(edgekit.__file__).parents[1])}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_repository_is_planned_without_its_weights_and_then_built(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "qwen2")
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    (tmp_path / "run").mkdir()
    with serving(files) as hub:
        planned = command(hub, tmp_path / "run", "plan", TINY, "--device", "cpu", "--json")
        assert planned.returncode == 0, planned.stderr
        assert hub.fetched(".safetensors") == []
        local = command(hub, tmp_path / "run", "plan", checkpoint, "--device", "cpu", "--json")
        assert json.loads(planned.stdout)["memory_bytes"] == json.loads(local.stdout)["memory_bytes"]
        done = command(
            hub, tmp_path / "run", "build", f"{hub.url}/{TINY}/tree/main", "--device", "cpu", "--no-gate", "--json",
            "--out", "one",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        assert len(hub.fetched(".safetensors")) == 1
        with_other_weights = command(
            hub, tmp_path / "run", "build", checkpoint, "--checkpoint", f"{TINY}@{COMMIT}", "--device", "cpu",
            "--no-gate", "--json", "--out", "other",
        )  # fmt: skip
        assert with_other_weights.returncode == 0, with_other_weights.stdout
        missing = command(hub, tmp_path / "run", "plan", "someone/tinny", "--device", "cpu", "--json")
        assert missing.returncode == 20
    manifest = json.loads((tmp_path / "run" / "one" / "edgekit.json").read_text())
    assert manifest["source"]["kind"] == "hub"
    assert (manifest["source"]["repository"], manifest["source"]["revision"]) == (TINY, COMMIT)
    assert json.loads((tmp_path / "run" / "other" / "edgekit.json").read_text())["source"]["repository"] == TINY
