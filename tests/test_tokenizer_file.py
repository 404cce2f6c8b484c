"""A tokenizer.json of others: loaded, or refused with an error that names it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tiny_checkpoint import tokenizer
from tokenizers import Tokenizer, normalizers

from edgekit.errors import TokenizerError
from edgekit.runtime.tokenizer import Tokenizer as Encoder
from edgekit.tokenizer_file import definition, load_tokenizer


def changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(tokenizer().to_str()), **changes}).encode()


def replace(content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": "a"}, "content": content}


def test_a_tokenizer_is_loaded() -> None:
    assert load_tokenizer(changed(), "x").encode("the").ids == tokenizer().encode("the").ids
    usual = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace("▁▁")]}
    assert load_tokenizer(changed(normalizer=usual), "x").normalizer.normalize_str("a") == "▁▁▁"


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b"[" * 100_000, changed(model={"type": "none"})])
def test_what_the_library_rejects_is_an_error(content: bytes) -> None:
    with pytest.raises(TokenizerError, match=r"^folder/tokenizer\.json cannot be used: it is not a valid tokenizer"):
        load_tokenizer(content, "folder/tokenizer.json")


def test_a_failed_assertion_in_the_library_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        pass

    class Broken:
        @staticmethod
        def from_buffer(content: bytes) -> Tokenizer:
            raise PanicException("range end index 5 out of range\nfor slice")

    monkeypatch.setattr("tokenizers.Tokenizer", Broken)
    with pytest.raises(TokenizerError, match=r"not a valid tokenizer .range end index 5 out of range for slice"):
        load_tokenizer(b"", "x")


@pytest.mark.parametrize("part", ["normalizer", "decoder"])
def test_steps_that_make_much_text_of_little_are_refused(part: str) -> None:
    key = f"{part}s"
    for step in (replace("x" * 2000), {"type": "Sequence", key: [replace("a" * 40), replace("a" * 40)]}):
        with pytest.raises(TokenizerError, match=f"its {part}.* may make [0-9]+ characters of one; at most 1000"):
            load_tokenizer(changed(**{part: step}), "x")
    assert normalizers.Replace("a", "b").normalize_str("a") == "b"


def test_bytes_of_bytes_are_refused() -> None:
    """Each ByteLevel makes two characters of one that an earlier one has made of a byte."""
    bytes_of = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    chain = {"type": "Sequence", "pretokenizers": [bytes_of] * 30}
    with pytest.raises(TokenizerError, match=r"its normalizer and pre_tokenizer may make \d+ characters of one"):
        load_tokenizer(changed(pre_tokenizer=chain), "x")
    assert load_tokenizer(changed(pre_tokenizer={"type": "Sequence", "pretokenizers": [bytes_of]}), "x")


def test_an_id_that_no_model_has_a_row_for_is_refused_before_the_library_makes_room_for_it() -> None:
    assert definition(load_tokenizer(changed(), "x")) == tokenizer().to_str()
    model = json.loads(changed())["model"]
    model["vocab"] = {**model["vocab"], "much": 1 << 24}
    with pytest.raises(TokenizerError, match="a token with the id 16777216; allowed: 0 to 16777215"):
        definition(load_tokenizer(changed(model=model), "x"))


def test_what_the_library_raises_for_a_text_is_an_error() -> None:
    model = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "none"}
    backend = load_tokenizer(changed(model=model, added_tokens=[]), "x")
    with pytest.raises(TokenizerError, match=r"^the tokenizer cannot encode the text \("):
        Encoder(backend, bos=None, add_bos=False).encode("b")
