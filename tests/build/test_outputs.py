"""The folders that a build writes: names, what stands there already, and what killed builds have left."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from build_outputs import leftovers
from tiny_checkpoint import write_checkpoint

from edgekit.artifact.verify import verify
from edgekit.build.inputs import recipe_from_checkpoint
from edgekit.build.pipeline import build
from edgekit.checkpoint import open_checkpoint
from edgekit.errors import BuildError, EdgekitError, OutputExistsError, UsageError
from edgekit.leftovers import new_name
from edgekit.recipes import FolderSource


def test_a_build_sweeps_what_killed_ones_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the output, in the temporary folder and in the cache of downloads."""
    temporary, package = tmp_path / "tmp", tmp_path / "cache" / "packages" / "model-1.0-0123456789ab"
    left = [
        tmp_path / new_name(".another.partial-"),
        temporary / new_name("edgekit-probe-"),
        package / new_name(".fetch-"),
    ]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / "file").write_text("")
    (package / "model.gguf").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    build(None, "cpu", checkpoint=write_checkpoint(tmp_path / "tiny"), out=tmp_path / "out", gate=False)
    assert not [folder for folder in left if folder.exists()]
    assert [path.name for path in package.iterdir()] == ["model.gguf"]


def test_an_artifact_that_a_killed_build_left_without_its_name_is_not_replaced_without_force(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "tiny")
    build(None, "cpu", checkpoint=checkpoint, out=tmp_path / "out", gate=False)
    (tmp_path / "out").rename(tmp_path / new_name(".out.replaced-"))
    with pytest.raises(OutputExistsError, match="it is back in its place"):
        build(None, "cpu", checkpoint=checkpoint, out=tmp_path / "out", gate=False)
    verify(tmp_path / "out")


def test_an_existing_folder_is_kept_unless_forced(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "llama")
    first = build(None, "cpu", checkpoint=folder, out=tmp_path / "out", gate=False)
    with pytest.raises(OutputExistsError, match="already exists"):
        build(None, "cpu", checkpoint=folder, out=tmp_path / "out")
    second = build(None, "cpu", checkpoint=folder, out=tmp_path / "out", force=True, gate=False)
    assert first.artifact == second.artifact
    assert leftovers(tmp_path) == ["out"]


def test_force_deletes_only_artifacts(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "llama")
    precious = tmp_path / "out"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputExistsError, match="is not an artifact"):
        build(None, "cpu", checkpoint=folder, out=precious, force=True)
    assert (precious / "thesis.tex").read_text() == "years of work"


def test_what_is_being_read_is_not_replaced(tmp_path: Path) -> None:
    made = build(
        None, "cpu", checkpoint=write_checkpoint(tmp_path / "tiny"), out=tmp_path / "m", emit="gptq_v2", gate=False
    )
    assert made.emitted is not None
    inside = made.emitted.rename(made.artifact / "inside")
    with pytest.raises(OutputExistsError, match=r"m would be replaced, and the build reads .*inside"):
        build(None, "cpu", checkpoint=inside, out=made.artifact, force=True, gate=False)
    beside = inside.rename(tmp_path / "new-gptq_v2")
    with pytest.raises(OutputExistsError, match="new-gptq_v2 would be replaced"):
        build(None, "cpu", checkpoint=beside, out=tmp_path / "new", emit="gptq_v2", force=True, gate=False)
    assert (beside / "model.safetensors").is_file()


def test_a_recipe_whose_folder_is_gone(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "tiny")
    build(None, "cpu", checkpoint=checkpoint, out=tmp_path / "out", gate=False)
    with open_checkpoint(checkpoint) as opened:
        recipe = recipe_from_checkpoint(opened, checkpoint)
    gone = replace(recipe, source=FolderSource(str(tmp_path / "gone" / "model")))
    with pytest.raises(EdgekitError, match="model does not exist"):
        build(gone, "cpu", out=tmp_path / "out", force=True, gate=False)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", "llama")
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildError, match="cannot create the folder"):
        build(None, "cpu", checkpoint=folder, out=tmp_path / "file" / "out")


@pytest.mark.parametrize("name", ["", ".", "..", "a/..", "\udcff bytes", "a\0b"])
def test_an_output_folder_needs_a_name(tmp_path: Path, name: str) -> None:
    folder = write_checkpoint(tmp_path / "tiny")
    with pytest.raises(UsageError, match="the output folder"):
        build(None, "cpu", checkpoint=folder, out=name, gate=False)
