"""Answers that are held to a format, by models that would write something else."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from scripted_engine import scripted
from tiny_artifact import EOS, write_tiny_artifact

import edgekit
from edgekit import Choice, Regex
from edgekit.artifact.manifest import read_manifest
from edgekit.errors import EngineError, FormatError, MissingPackageError, TokenizerError
from edgekit.runtime import constraint as module
from edgekit.runtime.constraint import Constraint, Constraints
from edgekit.runtime.native_tokenizer import NativeTokenizer
from edgekit.runtime.response_format import Grammar, grammar_of
from edgekit.runtime.tokenizer import Tokenizer
from edgekit.tokenizer_file import load_tokenizer

QUESTION = [{"role": "user", "content": "What is 2 + 2?"}]
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["a", "b/c"]}, "count": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["kind", "count"],
    "additionalProperties": False,
}


@dataclass
class Found:
    kind: Literal["a", "b/c"]
    sure: bool


def test_a_copy_goes_its_own_way(built_artifact: Path) -> None:
    tokenizer = Tokenizer.open(built_artifact, read_manifest(built_artifact).tokens)
    first = Constraints(tokenizer, 400, [EOS]).start(Grammar(regex="ab|ac"), after_thought=False)
    first.accept(tokenizer.encode("a")[-1])
    second = first.copy()
    first.accept(tokenizer.encode("b")[-1])
    second.accept(tokenizer.encode("c")[-1])
    assert first.is_complete
    assert second.is_complete


def test_a_grammar_has_a_longest_size(built_artifact: Path) -> None:
    tokenizer = Tokenizer.open(built_artifact, read_manifest(built_artifact).tokens)
    with pytest.raises(ValueError, match="characters; allowed: 131072"):
        Constraints(tokenizer, 400, [EOS]).start(Grammar(schema={"enum": ["x" * 140_000]}), after_thought=False)


@pytest.mark.parametrize(
    ("response_format", "expected"),
    [
        (SCHEMA, None),
        (Choice(("yes", "no / maybe?")), r"yes|no / maybe\?"),
        (Choice(("one\ntwo\n", "three\\n")), "one\ntwo\n|three\\\\n"),
        (Regex("[a-c]{3}/[0-9]"), "[a-c]{3}/[0-9]"),
    ],
)
def test_random_answers_keep_to_the_format(built_artifact: Path, response_format: Any, expected: str | None) -> None:
    with edgekit.load(built_artifact, context=200) as session:
        for seed in range(4):
            done = session.chat(QUESTION, temperature=2.0, seed=seed, response_format=response_format).complete()
            assert done.finish_reason == "stop"
            if expected:
                assert re.fullmatch(expected, done.answer)
            else:
                found = json.loads(done.answer)
                assert found["kind"] in ("a", "b/c")
                assert 0 <= found["count"] <= 99


def test_a_thought_is_free_and_its_answer_held(reasoning_artifact: Path) -> None:
    with edgekit.load(reasoning_artifact) as session:
        done = session.chat(QUESTION, temperature=1.5, seed=3, think_tokens=4, response_format=Found).complete()
    assert len(done.thought) > 20
    assert isinstance(done.parse(Found), Found)


def test_an_answer_that_was_cut_is_not_parsed(built_artifact: Path) -> None:
    with edgekit.load(built_artifact, context=200) as session:
        done = session.chat(QUESTION, max_tokens=2, response_format=Found).complete()
    assert done.finish_reason == "length"
    with pytest.raises(EngineError, match="finish_reason is 'length'"):
        done.parse(Found)


def test_a_model_that_thinks_by_itself_may_open_a_thought(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "a", reasoning=True)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8").replace("<think>\n", ""), encoding="utf-8")
    with edgekit.load(folder, context=250) as session:
        opening = session.tokenizer.token_id("<think>")
        answer = session.chat(QUESTION, response_format=Choice(("yes", "no")))._answer
        logits = np.zeros(session.engine.vocab_size, np.float32)
        logits[opening] = 9.0
        answer.choose(logits)
        assert answer.tokens == [opening]


@pytest.mark.parametrize("response_format", [Choice(("yes", "no")), Regex("yes|no")])
def test_an_answer_without_a_thought_is_held_from_its_first_character(tmp_path: Path, response_format: Any) -> None:
    folder = write_tiny_artifact(tmp_path / "a", reasoning=True)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8").replace("<think>\n", ""), encoding="utf-8")
    session, _ = scripted(folder, "\n\nyes")
    done = session.chat(QUESTION, temperature=0, response_format=response_format, logprobs=0).complete()
    assert (done.thought, done.answer, done.text) == ("", "yes", "\n\nyes")


@pytest.mark.parametrize(
    ("response_format", "expected"),
    [
        (Choice(("<|eos|>",)), "<|eos|>"),
        (Choice(("</think>",)), "</think>"),
        (Regex("[a-b]<think>!</think><|user|>?".replace("|", "[|]")), None),
        ({"enum": ["x <|user|> y"]}, '"x <|user|> y"'),
        ({"const": {"<think>": None}}, None),
    ],
)
def test_a_format_may_demand_the_spelling_of_a_control_token(
    built_artifact: Path, response_format: Any, expected: str | None
) -> None:
    for folder_tokenizer in (Tokenizer, NativeTokenizer):
        manifest = read_manifest(built_artifact)
        tokenizer = folder_tokenizer.open(built_artifact, manifest.tokens)
        grammar = grammar_of(response_format)
        assert grammar is not None
        constraint = Constraints(tokenizer, 400, [EOS]).start(grammar, after_thought=False)
        random, ids = np.random.default_rng(3), list[int]()
        while not constraint.is_complete and len(ids) < 60:
            logits = random.random(400).astype(np.float32)
            constraint.apply(logits)
            ids.append(int(logits.argmax()))
            constraint.accept(ids[-1])
        assert constraint.is_complete
        text = tokenizer.decode(ids)
        assert expected is None or text == expected
        if isinstance(response_format, Regex):
            assert re.fullmatch(response_format.pattern, text)


@pytest.mark.parametrize("kind", ["unigram", "merged", "unknown"])
def test_control_tokens_keep_their_ids(kind: str) -> None:
    token = {"id": 1, "content": "<a>", "special": True}
    models: dict[str, dict[str, Any]] = {
        "unigram": {"vocab": [["x", 0.0], ["<a>", -1.0]]},
        "merged": {"vocab": {"<a>": 1, "<": 2, "a>": 3}, "merges": [["<", "a>"]]},
        "unknown": {"vocab": {"<a>": 1}, "unk_token": "<a>"},
    }
    text = {"id": 2, "content": "[b]", "special": False}
    described = {"model": models[kind], "added_tokens": [token, text, {"id": 3, "content": "", "special": True}]}
    before = json.loads(json.dumps(described))
    module._hide_control_tokens(described)
    if kind == "merged":  # the merge needs the name
        assert described == before
        return
    name = token["content"]
    assert "\ufdd0" in str(name)
    assert described["added_tokens"][1:] == before["added_tokens"][1:]
    assert models[kind]["vocab"] == ([["x", 0.0], [name, -1.0]] if kind == "unigram" else {name: 1})
    assert models[kind].get("unk_token") in (None, name)


def test_what_cannot_be_held_to_is_refused(built_artifact: Path) -> None:
    with edgekit.load(built_artifact, context=96) as session:
        for given in (Regex("(a"), {"type": "strin"}, {"not": {"type": "string"}}):
            with pytest.raises(ValueError, match="cannot be held to this response_format"):
                session.chat(QUESTION, response_format=given)  # type: ignore[arg-type]


def test_a_missing_package_names_the_extra(built_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with edgekit.load(built_artifact, context=96) as session, pytest.raises(MissingPackageError) as caught:
        session.chat(QUESTION, response_format=SCHEMA)
    assert "edgekit-llm[structured]" in caught.value.hint


def test_both_tokenizers_allow_the_same_tokens(built_artifact: Path) -> None:
    manifest = read_manifest(built_artifact)
    size = int(manifest.model["vocab_size"]) + 3  # a padded vocabulary
    rows = []
    for tokenizer in (
        Tokenizer.open(built_artifact, manifest.tokens),
        NativeTokenizer.open(built_artifact, manifest.tokens),
    ):
        found = Constraints(tokenizer, size, [EOS]).start(Grammar(regex="(ab)?"), after_thought=False)
        row = np.ones(size, np.float32)
        found.apply(row, also=[size - 1])
        rows.append(row)
        spelled = {tokenizer.token(int(i)) for i in np.flatnonzero(np.isfinite(row[:-3]))}
        assert {"a"} <= spelled <= {"a", "ab", tokenizer.token(EOS)}
        assert np.isfinite(row[-1])
        assert not np.isfinite(row[-3:-1]).any()
        with pytest.raises(FormatError, match="cannot hold the answer to its format"):
            found.accept(5 if tokenizer.token(5) not in spelled else 6)
    np.testing.assert_array_equal(*rows)


@pytest.mark.parametrize("where", ["vocab", "added_tokens"])
def test_a_token_that_is_too_long_is_refused(built_artifact: Path, where: str) -> None:
    tokenizer = Tokenizer.open(built_artifact, read_manifest(built_artifact).tokens)
    for length, message in ((1000, None), (1001, "it has a token of 1001 characters; allowed: 1000")):
        content = json.loads(tokenizer.definition())
        if where == "vocab":
            content["model"]["vocab"]["x" * length] = 399
        else:
            content["added_tokens"].append({**content["added_tokens"][0], "id": 399, "content": "x" * length})
        long = Tokenizer(load_tokenizer(json.dumps(content).encode(), "tokenizer.json"), bos=None, add_bos=False)
        constraints = Constraints(long, 400, [EOS])
        with nullcontext() if message is None else pytest.raises(TokenizerError, match=message):
            constraints.start(Grammar(regex="a"), after_thought=False)


def test_failures_of_llguidance_are_told(built_artifact: Path) -> None:
    class PanicException(BaseException):
        """As libraries in Rust raise them."""

    class Matcher:
        def consume_token(self, token: int) -> bool:
            raise PanicException("index out of bounds")

    with pytest.raises(FormatError, match=r"cannot hold the answer to its format \(index out of bounds\)"):
        Constraint(Matcher(), 5).accept(1)
