"""A draft model guesses tokens for another one. Answers stay the same, and other vocabularies are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from shared_models import SharedModels
from tiny_artifact import rewrite_manifest

from edgekit.artifact.signature import make_keys, sign
from edgekit.artifact.verify import verified
from edgekit.errors import ArtifactError, EngineError, VerificationError
from edgekit.runtime.draft import check_vocabulary
from edgekit.runtime.loading import load
from edgekit.runtime.native_engine import NativeEngine
from edgekit.sampling import Sampling


@pytest.fixture(scope="module")
def large(models: SharedModels) -> Path:
    return models.artifact("llama", "int4 block 32", num_hidden_layers=8)


@pytest.fixture(scope="module")
def small(models: SharedModels) -> Path:
    return models.artifact("llama", "int4 block 32", num_hidden_layers=1)


@pytest.mark.every_isa
@pytest.mark.parametrize("temperature", [0, 0.7])
def test_answers_are_the_same(large: Path, small: Path, temperature: float) -> None:
    def answer(draft: Path | None) -> list[int]:
        with load(large, engine="native", threads=2, context=200, draft=draft) as session:
            sampling = Sampling(temperature=temperature)
            found = [session.generate(text, max_tokens=40, sampling=sampling, seed=4).complete() for text in "ab"]
            return [token for each in found for token in each.tokens]

    assert answer(small) == answer(None)


def test_the_draft_model_reads_along_and_is_closed_with_the_engine(large: Path, small: Path) -> None:
    with load(large, engine="native", threads=1, context=200, draft=small) as session:
        engine = session.engine
        assert isinstance(engine, NativeEngine)
        draft = engine._draft
        assert draft is not None
        session.generate("some words", max_tokens=8, seed=1).complete()
        assert draft._library.ek_session_position(draft._session) > 0
        with pytest.raises(EngineError, match="has a draft model already"):
            engine.use_draft(draft)
    assert not draft._session


def test_what_is_no_draft_model_is_refused(large: Path, small: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="a draft model needs the engine native, not ort"):
        load(large, engine="ort", draft=small)
    with pytest.raises(ValueError, match="speculate=False turns off"):
        load(large, draft=small, speculate=False)
    with pytest.raises(ArtifactError):
        load(large, draft=tmp_path)


def test_a_draft_model_needs_the_same_signature(large: Path, small: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    signed, draft = shutil.copytree(large, tmp_path / "large"), shutil.copytree(small, tmp_path / "small")
    public = make_keys(tmp_path / "key")
    sign(signed, verified(signed).digest, tmp_path / "key")
    with pytest.raises(VerificationError, match="small"):
        load(signed, engine="native", draft=draft, public_key=public)
    sign(draft, verified(draft).digest, tmp_path / "key")
    load(signed, engine="native", draft=draft, public_key=public).close()


def test_another_vocabulary_is_refused_by_its_first_difference(large: Path, small: Path, tmp_path: Path) -> None:
    check_vocabulary(large, small)
    other = shutil.copytree(small, tmp_path / "other")
    path = other / "tokenizer.json"
    changed = json.loads(path.read_text(encoding="utf-8"))
    changed["added_tokens"][0]["normalized"] = not changed["added_tokens"][0]["normalized"]
    path.write_text(json.dumps(changed), encoding="utf-8")
    rewrite_manifest(other)
    check_vocabulary(large, other)  # another file, but ids mean the same
    vocabulary = changed["model"]["vocab"]
    first, second = sorted(vocabulary, key=vocabulary.__getitem__)[40:42]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    path.write_text(json.dumps(changed), encoding="utf-8")
    rewrite_manifest(other)
    with pytest.raises(EngineError) as refused:
        check_vocabulary(large, other)
    message = f"the vocabularies differ in 2 token ids; 40 is {first!r} and {second!r}"
    assert message in refused.value.message
    assert "the same vocabulary" in str(refused.value.hint)
