"""``prepare.py`` of the page for browsers: how it puts a model beside the page. The libraries need npm: test_web.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "web" / "prepare.py"


def link_model(web: Path, folder: Path) -> None:
    spec = importlib.util.spec_from_file_location("prepare_page", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.link_model(web, folder)


@pytest.fixture
def web(tmp_path: Path) -> Path:
    return web_folder(tmp_path / "smol-web", "{}")


def web_folder(folder: Path, manifest: str) -> Path:
    (folder / "onnx").mkdir(parents=True)
    (folder / "onnx" / "model.onnx").write_text("graph")
    (folder / "edgekit.json").write_text(manifest)
    return folder


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_the_folder_of_the_site_itself_is_left_alone(web: Path, tmp_path: Path) -> None:
    link_model(web, web)
    (tmp_path / "link").symlink_to(web)
    link_model(tmp_path / "link", web)
    link_model(web, tmp_path / "link")
    assert names(web) == {"edgekit.json", "onnx", "onnx/model.onnx"}


def test_what_was_there_is_replaced(web: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    other = web_folder(tmp_path / "other-web", "other")
    site.mkdir()
    (site / "model").symlink_to(other)
    for _ in range(2):
        link_model(web, site / "model")
        assert names(site) == {"model", *(f"model/{name}" for name in names(web))}
        assert (site / "model" / "edgekit.json").read_text() == "{}"
        assert not (site / "model").is_symlink()
    assert (other / "edgekit.json").read_text() == "other", "what a link leads to is not deleted"


def test_a_folder_of_another_kind_replaces_nothing(web: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="is not a web folder"):
        link_model(tmp_path / "empty", web)
    assert names(web) == {"edgekit.json", "onnx", "onnx/model.onnx"}
