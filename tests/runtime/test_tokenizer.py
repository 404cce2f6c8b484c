"""The artifact's tokenizer: beginning-of-sequence tokens, special tokens and invalid files."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from control_vocabularies import VOCABULARIES
from tiny_artifact import BOS, EOS, SPECIAL, write_tiny_artifact
from tiny_checkpoint import tokenizer as tiny_tokenizer

from edgekit.artifact.manifest import read_manifest
from edgekit.errors import TokenizerError
from edgekit.runtime.prompt import Prompt
from edgekit.runtime.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(artifact: Path) -> Tokenizer:
    return Tokenizer.open(artifact, read_manifest(artifact).tokens)


@pytest.mark.parametrize("text", ["Paris", f"{SPECIAL[BOS]}Paris", f"{SPECIAL[BOS]}{SPECIAL[BOS]}Paris", ""])
@pytest.mark.parametrize("add_bos", [True, None])
def test_there_is_exactly_one_bos_whatever_the_text_starts_with(
    tokenizer: Tokenizer, text: str, add_bos: bool | None
) -> None:
    ids = tokenizer.encode(text, add_bos)
    assert ids.count(BOS) == 1
    assert ids[0] == BOS


def test_without_add_bos_only_the_texts_own_bos_is_kept(tokenizer: Tokenizer) -> None:
    assert BOS not in tokenizer.encode("Paris", add_bos=False)
    assert tokenizer.encode(f"{SPECIAL[BOS]}{SPECIAL[BOS]}Paris", add_bos=False).count(BOS) == 1


def test_a_model_without_bos_gets_none() -> None:
    tokenizer = Tokenizer(tiny_tokenizer(), bos=None, add_bos=True)
    assert BOS not in tokenizer.encode("Paris", add_bos=True)


@pytest.mark.parametrize("text", [*"\n\n  spaces\t", "\0"])
def test_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_lone_surrogate_is_an_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="lone surrogate at position 1"):
        tokenizer.encode("a\ud83d")


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_concurrent_tokenizer_has_the_same_ids_and_texts(name: str) -> None:
    backend, mark = VOCABULARIES[name], "\U000f0000"
    alone = Tokenizer(backend, bos=None, add_bos=False)
    concurrent = Tokenizer(backend, bos=None, add_bos=False, concurrent=True)
    token = next(iter(backend.get_added_tokens_decoder().values())).content
    text = f"the user {token}  é🙂\n{token[0]}{mark}{token[1:]} they said " * 200
    for prompt in (text, Prompt(text, mark, frozenset([token]))):
        ids = alone.encode(prompt)
        assert concurrent.encode(prompt) == ids
        assert concurrent.decode(ids) == alone.decode(ids)


def test_other_threads_run_while_a_concurrent_tokenizer_encodes() -> None:
    """Where the library keeps Python's lock, no other thread gets further before it has encoded the whole text."""
    concurrent = Tokenizer(VOCABULARIES["SmolLM2"], bos=None, add_bos=False, concurrent=True)
    steps, ended = [0], threading.Event()

    def step() -> None:
        while not ended.wait(0.001):
            steps[0] += 1

    other = threading.Thread(target=step)
    other.start()
    try:
        text = "the user said that they were there. " * 20_000
        before = steps[0]
        concurrent.encode(text)
        assert steps[0] - before > 10
    finally:
        ended.set()
        other.join()


def test_special_tokens_and_ids_without_a_token_are_not_decoded(tokenizer: Tokenizer, artifact: Path) -> None:
    beyond = int(read_manifest(artifact).model["vocab_size"]) - 1
    ids = [BOS, *tokenizer.encode("Rome", add_bos=False), beyond, EOS]
    assert tokenizer.decode(ids) == "Rome"
    assert [i for i in ids if tokenizer.is_silent(i)] == [BOS, beyond, EOS]
    assert tokenizer.token(beyond) is None
    assert tokenizer.token_id("</think>") is not None


def test_special_tokens_of_the_configuration_are_named_for_templates(tokenizer: Tokenizer) -> None:
    assert tokenizer.special_tokens == {"bos_token": SPECIAL[BOS], "eos_token": SPECIAL[EOS]}


def test_without_a_configuration_the_manifest_names_them(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "a")
    (folder / "tokenizer_config.json").unlink()
    found = Tokenizer.open(folder, read_manifest(folder).tokens)
    assert found.special_tokens == {"bos_token": SPECIAL[BOS], "eos_token": SPECIAL[EOS]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", None, "has no tokenizer.json"),
        ("tokenizer.json", b"{}", "is not a valid tokenizer"),
        ("tokenizer_config.json", b"{", "is not valid JSON"),
        ("tokenizer_config.json", b"\xff", "is not valid JSON"),
        ("tokenizer_config.json", b"[]", "is not a JSON object"),
    ],
)
def test_unusable_files_are_errors(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    folder = write_tiny_artifact(tmp_path / "a")
    manifest = read_manifest(folder)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(TokenizerError, match=message):
        Tokenizer.open(folder, manifest.tokens)
