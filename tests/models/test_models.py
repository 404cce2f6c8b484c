"""The registry of model families: the files of the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgekit.models
from edgekit.errors import CheckpointError, UnsupportedModelError
from edgekit.models import families, family, spec_from_config


def test_every_family_file_is_a_family() -> None:
    files = {p.stem for p in Path(edgekit.models.__path__[0]).glob("*.py")} - {
        "__init__",
        "kinds",
        "options",
        "rope",
        "spec",
    }
    assert set(families()) == files == {"llama", "qwen2", "qwen3"}
    for name in families():
        assert family(name).model_type == name


@pytest.mark.parametrize("name", ["gpt2", "spec", "rope", "kinds", "__init__", "llama.x", "", "Llama"])
def test_other_families_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedModelError, match="supported: llama, qwen2, qwen3"):
        family(name)


def test_an_import_error_inside_a_family_is_not_taken_for_an_unknown_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("import a_module_nobody_has")
    monkeypatch.setattr(edgekit.models, "__path__", [*edgekit.models.__path__, str(tmp_path)])
    with pytest.raises(ModuleNotFoundError, match="a_module_nobody_has"):
        family("broken")


@pytest.mark.parametrize("config", [{}, {"model_type": None}, {"model_type": 7}])
def test_a_config_without_a_family(config: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="lacks model_type"):
        spec_from_config(config)


def test_a_misspelled_family_is_corrected() -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        spec_from_config({"model_type": "qwen"})
    assert caught.value.hint == "did you mean qwen3 or qwen2?"
