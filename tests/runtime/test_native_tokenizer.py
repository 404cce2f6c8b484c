"""The tokenizer without the tokenizers library gives the ids and texts of the one with it."""

from __future__ import annotations

import importlib.util
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from text_corpus import texts
from text_vocabularies import ADDED, KINDS, SPECIAL, facts, native_text, vocabulary

from edgekit.errors import MissingPackageError, TokenizerError
from edgekit.runtime import tokenizer as module
from edgekit.runtime.chat import TEMPLATE_FILE, ChatTemplate
from edgekit.runtime.native_tokenizer import TEXT_FILE, NativeTokenizer
from edgekit.runtime.text_stream import TextStream
from edgekit.runtime.tokenizer import Tokenizer

TOKENS = {"bos": 0, "eos": [1], "pad": None, "add_bos": False}
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<both> <think>\n{% endif %}"
)
USERS = (
    "Hello", "a <|im_end|> b", "<|im_end|>", "<|im_<|im_end|>end|>", "x <both> y", "</think>", "<left> <right>  ",
    "  <left>  <left><both>   <both> <left> ",
    "alone edgekit cafe\u0301 caf\u00e9", "<tool_call>", "\u212aelvin <\uff5cim_end|>", "", " \n\n  ",
)  # fmt: skip


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (tmp_path / TEMPLATE_FILE).write_text(TEMPLATE)
    native_text(tmp_path, vocabulary(request.param), facts(tokens=TOKENS)).close()
    return tmp_path


@pytest.fixture
def both(folder: Path) -> tuple[Tokenizer, NativeTokenizer]:
    return Tokenizer.open(folder, TOKENS), NativeTokenizer.open(folder, TOKENS)


def test_texts_have_the_same_ids_and_back(both: tuple[Tokenizer, NativeTokenizer]) -> None:
    library, native = both
    for text in texts(100, seed=11, special=(*SPECIAL, *ADDED)):
        ids = library.encode(text)
        assert native.encode(text) == ids
        assert native.encode(text, add_bos=True) == library.encode(text, add_bos=True)
        assert native.decode(ids) == library.decode(ids)


def test_prompts_have_the_same_ids(both: tuple[Tokenizer, NativeTokenizer]) -> None:
    prompts = []
    for tokenizer in both:
        controls = tokenizer.control_tokens(TEMPLATE)
        template = ChatTemplate(TEMPLATE, tokenizer.special_tokens, controls=controls)
        prompts.append([tokenizer.encode(template.prompt([{"role": "user", "content": user}])) for user in USERS])
    assert prompts[1] == prompts[0]


def test_a_long_run_of_white_space_does_not_slow_encoding_down(folder: Path) -> None:
    native = NativeTokenizer.open(folder, TOKENS)
    template = ChatTemplate.open(folder, native)
    assert template is not None
    space = " " * 100_000  # took minutes
    text = template.prompt([{"role": "user", "content": f"<|im_end|>{space}x"}])
    assert native.decode(native.encode(text)).endswith("<think>\n")


def test_tokens_have_the_same_spellings(both: tuple[Tokenizer, NativeTokenizer]) -> None:
    library, native = both
    assert native.special_tokens == library.special_tokens
    for index in range(1400):
        token = library.token(index)
        found = native.token(index)
        # For a token that is looked for after normalization, the library has the normalized spelling only.
        assert found == token or (found and unicodedata.normalize("NFC", found) == token)
        assert native.is_silent(index) == library.is_silent(index)
        assert found is None or native.token_id(found) == index
    assert native.token_id("no such token") is None


def test_streams_are_the_same(both: tuple[Tokenizer, NativeTokenizer]) -> None:
    ids = both[0].encode("na\u00efve \U0001f600 <|im_end|> \u4e2d\u6587")
    pieces = []
    for tokenizer in both:
        stream = TextStream(tokenizer)
        pieces.append([*(stream.push(i) for i in ids), stream.flush()])
    assert pieces[1] == pieces[0]


def test_it_is_chosen_where_the_library_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str) -> Any:
        return None if name == "tokenizers" else importlib.util.find_spec(name)

    assert not isinstance(Tokenizer.open(folder, TOKENS), NativeTokenizer)
    monkeypatch.setattr(module, "find_spec", find_spec)
    assert isinstance(Tokenizer.open(folder, TOKENS), NativeTokenizer)
    (folder / TEXT_FILE).unlink()
    with pytest.raises(MissingPackageError, match="tokenizers") as raised:
        Tokenizer.open(folder, TOKENS)
    assert 'pip install "edgekit-llm[build]"' in raised.value.hint


@pytest.mark.parametrize("content", ["[]", "{}", '{"added_tokens": [], "model": []}', "{"])
def test_a_damaged_description_is_an_error(tmp_path: Path, content: str) -> None:
    native_text(tmp_path, vocabulary("gpt2"), facts(tokens=TOKENS)).close()
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError):
        NativeTokenizer.open(tmp_path, TOKENS)


def test_damaged_tables_are_an_error(tmp_path: Path) -> None:
    native_text(tmp_path, vocabulary("gpt2"), facts(tokens=TOKENS)).close()
    (tmp_path / TEXT_FILE).write_bytes(b"EKTEXT\r\n")
    with pytest.raises(TokenizerError):
        NativeTokenizer.open(tmp_path, TOKENS)
