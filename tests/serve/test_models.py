from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import ArtifactError, UsageError
from edgekit.runtime.engine import EngineOptions
from edgekit.serve.models import Models, named_artifacts
from edgekit.serve.options import ServeOptions
from edgekit.serve.request_error import RequestError

OPTIONS = ServeOptions(engine_options=EngineOptions(context=64, threads=1))


def test_folders_have_names() -> None:
    assert named_artifacts(["a/one", "two=b/one"]) == {"one": Path("a/one"), "two": Path("b/one")}
    with pytest.raises(UsageError, match=r"a/one and b/one have the same name 'one'"):
        named_artifacts(["a/one", "b/one"])


def test_a_model_is_opened_once_when_it_is_asked_for(built_artifact: Path) -> None:
    models = Models({"a": built_artifact, "b": built_artifact}, OPTIONS)
    assert models.opened() == []
    assert models.get("a") is models.get("a")
    assert [model.name for model in models.opened()] == ["a"]
    models.close()
    assert models.opened() == []


def test_a_name_is_found(built_artifact: Path) -> None:
    one, two = Models({"a": built_artifact}, OPTIONS), Models({"a": built_artifact, "b": built_artifact}, OPTIONS)
    assert (one.find(None), one.find("a"), two.names) == ("a", "a", ("a", "b"))
    with pytest.raises(RequestError, match="model is missing; this server has: a, b"):
        two.find(None)
    with pytest.raises(RequestError, match="there is no model 'c'") as caught:
        two.find("c")
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")


def test_a_description(built_artifact: Path) -> None:
    found = Models({"a": built_artifact}, OPTIONS).describe("a")
    assert found["created"] > 1_700_000_000
    assert (found["id"], found["object"], found["owned_by"]) == ("a", "model", "edgekit")
    assert found["reasoning"] is False


def test_a_folder_that_is_no_artifact_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        Models({"a": tmp_path}, OPTIONS)
