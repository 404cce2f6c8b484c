from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import ArtifactError, ContextLengthError, UsageError, VerificationError
from edgekit.runtime.engine import EngineOptions
from edgekit.serve.models import Models, named_artifacts
from edgekit.serve.options import ServeOptions
from edgekit.serve.request_error import RequestError
from edgekit.serve.served_model import ServedModel

OPTIONS = ServeOptions(engine_options=EngineOptions(context=64, threads=1))


def test_folders_have_names(tmp_path: Path) -> None:
    assert named_artifacts(["a/one", "two=b/one"]) == {"one": Path("a/one"), "two": Path("b/one")}
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert named_artifacts([str(loop)]) == {"loop": loop}  # opening it is an error
    with pytest.raises(UsageError, match=r"a/one and b/one have the same name 'one'"):
        named_artifacts(["a/one", "b/one"])


def test_a_model_is_opened_once_when_it_is_asked_for(built_artifact: Path) -> None:
    models = Models({"a": built_artifact, "b": built_artifact}, OPTIONS)
    assert models.opened() == []
    assert models.get("a") is models.get("a")
    assert [model.name for model in models.opened()] == ["a"]
    held = models.get("a")
    models.close()
    assert models.opened() == []
    with pytest.raises(RequestError, match="the server is shutting down"):
        models.hold(held)
    with pytest.raises(RequestError, match="the server is shutting down") as caught:
        models.get("a")
    assert caught.value.status == 503


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


def limited(folder: Path, share: float) -> Models:
    """Models of one artifact under two names, with memory for so many of them."""
    sizes = Models({"a": folder}, OPTIONS)
    needed = sizes.get("a").memory_bytes
    sizes.close()
    options = ServeOptions(engine_options=OPTIONS.engine_options, memory_bytes=round(share * needed))
    return Models({"a": folder, "b": folder}, options)


def test_the_artifact_that_was_not_used_for_the_longest_time_is_closed_for_another(built_artifact: Path) -> None:
    models = limited(built_artifact, 1.5)
    first = models.get("a")
    models.get("b")
    assert [model.name for model in models.opened()] == ["b"]
    assert models.get("a") is not first
    models.close()


def test_an_artifact_in_use_is_not_closed(built_artifact: Path) -> None:
    models = limited(built_artifact, 1.5)
    with models.use("a") as model:
        with pytest.raises(RequestError, match="there is no memory for b while a answers requests") as caught:
            models.get("b")
        assert models.opened() == [model]
    assert (caught.value.status, caught.value.headers) == (503, {"retry-after": "5"})
    assert models.get("b").name == "b"
    models.close()


def test_an_artifact_that_is_held_is_not_closed(built_artifact: Path) -> None:
    models = limited(built_artifact, 1.5)
    with models.use("a") as model:
        release = models.hold(model)
    with pytest.raises(RequestError, match="there is no memory for b"):
        models.get("b")
    release()
    assert models.get("b").name == "b"
    models.close()


def test_an_artifact_that_cannot_fit_is_refused(built_artifact: Path) -> None:
    models = limited(built_artifact, 0.5)
    with pytest.raises(RequestError, match=r"a needs .* with its KV caches; this server may use") as caught:
        models.get("a")
    assert (caught.value.status, caught.value.code) == (503, "insufficient_memory")
    assert models.opened() == []


def test_replaced_files_are_opened_by_the_next_request(
    built_artifact: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "artifact"
    shutil.copytree(built_artifact, folder)
    models = Models({"a": folder}, OPTIONS)
    with models.use("a") as old:
        shutil.rmtree(folder)
        assert models.get("a") is old, "nothing else is there"
        shutil.copytree(built_artifact, folder)
        new = models.get("a")
        assert new is not old
        assert models.opened() == [new, old], "an answer that has begun keeps the old files"
        assert f"the files of a ({folder}) were replaced" in caplog.text
    assert models.get("a") is new
    assert models.opened() == [new]
    models.close()


def test_a_context_that_an_artifact_does_not_hold_is_refused_at_the_start(built_artifact: Path) -> None:
    options = ServeOptions(engine_options=EngineOptions(context=100_000))
    with pytest.raises(
        ContextLengthError, match=r"100000 tokens was requested; a holds at most 700, b holds at most 700"
    ):
        Models({"a": built_artifact, "b": built_artifact}, options)


def test_a_folder_that_is_no_artifact_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        Models({"a": tmp_path}, OPTIONS)


def test_a_signature_can_be_demanded_also_of_files_that_replace_others(built_artifact: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from edgekit.artifact.manifest import read_manifest
    from edgekit.artifact.signature import make_keys, sign

    public = make_keys(tmp_path / "key")
    options = ServeOptions(engine_options=OPTIONS.engine_options, public_key=str(public))
    with pytest.raises(VerificationError, match="is not signed"):
        Models({"a": built_artifact}, options)
    folder = shutil.copytree(built_artifact, tmp_path / "artifact")
    sign(folder, str(read_manifest(folder).digest), tmp_path / "key")
    models = Models({"a": folder}, options)
    models.get("a")
    shutil.rmtree(folder)
    shutil.copytree(built_artifact, folder)
    with pytest.raises(VerificationError, match="is not signed"):
        models.get("a")
    models.close()


def test_files_that_replace_others_need_no_memory_beside_what_nobody_uses(built_artifact: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(built_artifact, tmp_path / "artifact")
    models = limited(folder, 1.5)
    old = models.get("a")
    shutil.rmtree(folder)
    shutil.copytree(built_artifact, folder)
    new = models.get("a")
    assert new is not old
    assert models.opened() == [new]
    models.close()


def test_what_was_replaced_is_closed_for_another_when_nobody_uses_it_any_more(
    built_artifact: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(built_artifact, tmp_path / "artifact")
    models = limited(folder, 2.5)
    with models.use("a"):
        shutil.rmtree(folder)
        shutil.copytree(built_artifact, folder)
        new = models.get("a")
        assert len(models.opened()) == 2
    assert models.get("b").name == "b"
    assert sorted(model.name for model in models.opened()) == ["a", "b"]
    assert new in models.opened()
    models.close()


@pytest.mark.parametrize("work", ["open", "close"])
def test_an_open_model_is_used_while_another_is_opened_or_closed(
    built_artifact: Path, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    models = Models({"a": built_artifact, "b": built_artifact, "c": built_artifact}, OPTIONS)
    if work == "close":
        models.get("b")
    model = models.get("a")
    if work == "close":
        total = sum(each.memory_bytes for each in models.opened())
        monkeypatch.setattr(models, "_options", replace(OPTIONS, memory_bytes=total))
    done = getattr(ServedModel, work)

    def slow(*arguments: Any) -> Any:
        begun.set()
        assert go_on.wait(30)
        return done(*arguments)

    monkeypatch.setattr(ServedModel, work, slow)
    other = threading.Thread(target=models.get, args=("c",))
    other.start()
    try:
        assert begun.wait(30)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(models.get, "a").result(30) is model
        assert not go_on.is_set()
    finally:
        go_on.set()
        other.join()
        models.close()
    assert models.opened() == []
