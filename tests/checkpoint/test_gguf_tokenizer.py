"""Tokenizers converted from GGUF files: two real ones, and every pretokenizer on a small vocabulary."""

import json
import re

import jinja2.sandbox
import numpy as np
import pytest
from tokenizers import Tokenizer

from edgekit.checkpoint import SpecialTokens, open_checkpoint
from edgekit.checkpoint.gguf_config import config_from_metadata
from edgekit.checkpoint.gguf_tokenizer import PRETOKENIZERS, tokenizer_from_metadata
from edgekit.errors import TokenizerError
from edgekit.runtime.chat import ChatTemplate
from edgekit.runtime.tokenizer import Tokenizer as EdgekitTokenizer

CORPUS = {
    "english": "The quick brown fox doesn't jump; it's 3.14159 o'clock, and I'LL say so.",
    "german": "Füße und Größenwahn – „Übermäßig“ schön, 1984!",
    "chinese": "深度求索的推理模型在边缘设备上运行，价格为１２３元。",
    "japanese": "吾輩は猫である。名前はまだ無い。カタカナとﾊﾝｶｸ。",
    "arabic": "العربية لغة جميلة، ٣٤٥ كتابًا.",
    "hindi": "हिन्दी में लिखा हुआ वाक्य, १२३ पुस्तकें।",
    "emoji": "👩‍👩‍👧‍👦 🇩🇪 👍🏽 𝒳 ♥️",
    "code": 'def f(x):\n\treturn x**2  # comment\r\n\n    if x != 0:\n        print(f"{x:>10}")',
    "digits": "12345678901234567890 0x1F 1e-6 ½ ⅷ",
    "whitespace": "   leading\t\ttabs  \n\n\n   trailing   ",
    "marks": "<think>\nfirst\n</think>\n\nthen<｜end▁of▁sentence｜>",
    "empty": "",
}
R1_SPECIAL_IDS = {
    "<｜end▁of▁sentence｜>": 151643,
    "<｜User｜>": 151644,
    "<｜Assistant｜>": 151645,
    "<｜begin▁of▁sentence｜>": 151646,
    "<|EOT|>": 151647,
    "<think>": 151648,
    "</think>": 151649,
}
# Ids published with llama.cpp as the vectors of its Qwen2 tokenizer test (models/ggml-vocab-qwen2.gguf.{inp,out}).
QWEN2_VECTORS = {
    "Hello, world!": [9707, 11, 1879, 0],
    "w048 7tuijk dsdfhu": [86, 15, 19, 23, 220, 22, 83, 1963, 41808, 11472, 2940, 16739],
    "нещо на Български": [78762, 14144, 1456, 13073, 63471, 33594, 3038, 133178, 79012],
    "    Hello\n    Hello": [262, 21927, 198, 262, 21927],
    "\t\n": [1572],
    "ied 4 ½ months": [1122, 220, 19, 220, 26062, 3951],
}


@pytest.fixture(scope="module")
def r1(r1_qwen_7b_gguf, read_header):
    header = read_header(r1_qwen_7b_gguf)
    return tokenizer_from_metadata(header.metadata, config_from_metadata(header, factors=None), str(r1_qwen_7b_gguf))


@pytest.fixture(scope="module")
def r1_encoder(r1):
    return Tokenizer.from_buffer(r1["tokenizer.json"])


@pytest.fixture(scope="module")
def smollm2(smollm2_gguf):
    with open_checkpoint(smollm2_gguf) as checkpoint:
        return checkpoint.tokenizer


@pytest.mark.parametrize("language", CORPUS)
def test_r1_round_trip_below_the_models_rows(r1_encoder, language):
    ids = r1_encoder.encode(CORPUS[language]).ids
    assert all(0 <= i < 151936 for i in ids)
    assert r1_encoder.decode(ids, skip_special_tokens=False) == CORPUS[language]


@pytest.mark.parametrize("text", QWEN2_VECTORS)
def test_r1_encodes_as_published(r1_encoder, text):
    assert r1_encoder.encode(text).ids == QWEN2_VECTORS[text]


def test_r1_special_ids(r1, r1_encoder):
    assert r1.special == SpecialTokens(bos_id=151646, eos_ids=(151643,), pad_id=151654, add_bos=True)
    for text, token in R1_SPECIAL_IDS.items():
        assert r1_encoder.token_to_id(text) == token
        assert r1_encoder.encode(text).ids == [token]
    # Thoughts are shown; control tokens are not.
    assert r1_encoder.decode([151644, 151648, 9707, 151649, 151643]) == "<think>Hello</think>"


def test_r1_keeps_every_id_and_leaves_padding_out(r1_qwen_7b_gguf, r1_encoder, read_header):
    metadata = read_header(r1_qwen_7b_gguf).metadata
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    vocabulary = r1_encoder.get_vocab(with_added_tokens=True)
    assert vocabulary == {t: i for i, (t, kind) in enumerate(zip(tokens, types, strict=True)) if kind != 5}
    assert len(vocabulary) == 151665
    assert r1_encoder.token_to_id("[PAD151665]") is None


def test_r1_splits_digits_one_by_one(r1_encoder):
    text = "In 2025: 31415926"
    pieces = [r1_encoder.decode([i]) for i in r1_encoder.encode(text).ids]
    assert [p for p in pieces if re.search(r"\d", p)] == list("202531415926")


def test_r1_gets_exactly_one_bos_from_its_chat_template(r1, r1_encoder):
    settings = json.loads(r1["tokenizer_config.json"])
    template = jinja2.sandbox.ImmutableSandboxedEnvironment().from_string(r1.chat_template)
    text = template.render(
        messages=[{"role": "user", "content": "Hi"}], add_generation_prompt=True, bos_token=settings["bos_token"]
    )
    ids = r1_encoder.encode(text).ids
    assert ids == [151646, 151644, 13048, 151645]
    # With the library's default, add_special_tokens=True, there is still one: tokenizer.json has no post-processor.
    assert r1_encoder.encode(text, add_special_tokens=True).ids.count(151646) == 1
    assert r1_encoder.encode("Hi", add_special_tokens=True).ids == [13048]


@pytest.mark.parametrize("language", CORPUS)
def test_smollm2_round_trip(smollm2, language):
    encoder = Tokenizer.from_buffer(smollm2["tokenizer.json"])
    ids = encoder.encode(CORPUS[language]).ids
    assert all(0 <= i < 49152 for i in ids)
    assert encoder.decode(ids, skip_special_tokens=False) == CORPUS[language]


def test_smollm2_files(smollm2):
    assert smollm2.special == SpecialTokens(bos_id=1, eos_ids=(2,), pad_id=2, add_bos=False)
    encoder = Tokenizer.from_buffer(smollm2["tokenizer.json"])
    assert encoder.encode("<|im_start|>user\n2025<|im_end|>").tokens == [
        *("<|im_start|>", "user", "Ċ", "2", "0", "2", "5", "<|im_end|>")
    ]
    assert smollm2.chat_template.startswith("{% for message in messages %}")
    settings = json.loads(smollm2["tokenizer_config.json"])
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert (settings["bos_token"], settings["eos_token"], settings["pad_token"]) == (
        *("<|im_start|>", "<|im_end|>", "<|im_end|>"),
    )
    assert settings["add_bos_token"] is False
    assert smollm2.notes == ()
    assert json.loads(smollm2["generation_config.json"]) == {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}


def convert(metadata):
    return tokenizer_from_metadata(metadata, {"vocab_size": 262, "max_position_embeddings": 128}, "tiny.gguf")


@pytest.fixture
def metadata(byte_level_metadata):
    """The tiny vocabulary in the types that the header parser returns."""
    types = np.array(byte_level_metadata["tokenizer.ggml.token_type"], np.int32)
    return {**byte_level_metadata, "tokenizer.ggml.token_type": types}


WORDS = {  # how each pretokenizer splits the same text
    "gpt-2": ["a", "'ll", "ĠB", "'", "LL", "Ġ", "Ġ12345", "!!", "Ċ", "Ċ", "x"],
    "smollm": ["a", "'ll", "ĠB", "'", "LL", "ĠĠ", "1", "2", "3", "4", "5", "!!", "Ċ", "Ċ", "x"],
    "qwen2": ["a", "'ll", "ĠB", "'LL", "Ġ", "Ġ", "1", "2", "3", "4", "5", "!!ĊĊ", "x"],
    "deepseek-r1-qwen": ["a", "'ll", "ĠB", "'LL", "Ġ", "Ġ", "1", "2", "3", "4", "5", "!!ĊĊ", "x"],
    "llama-bpe": ["a", "'ll", "ĠB", "'LL", "Ġ", "Ġ", "123", "45", "!!ĊĊ", "x"],
    "default": ["a", "'", "ll", "ĠB", "'", "LL", "Ġ", "Ġ", "123", "45", "!!", "Ċ", "Ċ", "x"],
}


@pytest.mark.parametrize("pre", PRETOKENIZERS)
def test_each_pretokenizer_splits_text_as_defined(metadata, pre):
    encoder = Tokenizer.from_buffer(convert({**metadata, "tokenizer.ggml.pre": pre})["tokenizer.json"])
    words = [word for word, _ in encoder.pre_tokenizer.pre_tokenize_str("a'll B'LL  12345!!\n\nx")]
    assert words == WORDS[pre]


@pytest.mark.parametrize("pre", PRETOKENIZERS)
def test_each_pretokenizer_round_trips_all_bytes(metadata, pre):
    encoder = Tokenizer.from_buffer(convert({**metadata, "tokenizer.ggml.pre": pre})["tokenizer.json"])
    text = "".join(map(chr, range(1, 0x250))) + "漢字 😀 abab"
    assert encoder.decode(encoder.encode(text).ids) == text


def test_token_kinds(metadata):
    files = convert(metadata)
    encoder = Tokenizer.from_buffer(files["tokenizer.json"])
    assert encoder.encode("<bos>ab<think>").ids == [257, 256, 260]
    assert encoder.decode([257, 256, 260, 258]) == "ab<think>"
    assert encoder.token_to_id("[PAD]") is None
    assert files.special == SpecialTokens(257, (258,), None, True)


def test_text_is_normalized_only_if_the_original_does_so(metadata):
    text = "e\u0301"
    for pre, expected in (("qwen2", "é"), ("llama-bpe", text)):
        encoder = Tokenizer.from_buffer(convert({**metadata, "tokenizer.ggml.pre": pre})["tokenizer.json"])
        assert encoder.decode(encoder.encode(text).ids) == expected


def test_ignore_merges_keeps_a_whole_word(metadata):
    tokens = [*metadata["tokenizer.ggml.tokens"], "abc"]
    more = {
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.append(metadata["tokenizer.ggml.token_type"], np.int32(1)),
    }
    for pre, expected in (("llama-bpe", [262]), ("qwen2", [256, tokens.index("c")])):
        found = tokenizer_from_metadata({**metadata, **more, "tokenizer.ggml.pre": pre}, {"vocab_size": 263}, "x")
        assert Tokenizer.from_buffer(found["tokenizer.json"]).encode("abc").ids == expected


def test_tokens_that_end_a_turn_end_an_answer(metadata):
    files = convert({**metadata, "tokenizer.ggml.eot_token_id": 259, "tokenizer.ggml.eom_token_id": 258})
    assert files.special.eos_ids == (258, 259)
    assert json.loads(files["generation_config.json"])["eos_token_id"] == [258, 259]


@pytest.mark.parametrize(("pre", "expected"), [("llama-bpe", True), ("qwen2", False)])
def test_add_bos_has_a_default_for_each_pretokenizer(metadata, pre, expected):
    del metadata["tokenizer.ggml.add_bos_token"]
    assert convert({**metadata, "tokenizer.ggml.pre": pre}).special.add_bos is expected
    del metadata["tokenizer.ggml.bos_token_id"]
    assert convert({**metadata, "tokenizer.ggml.pre": pre}).special.add_bos is False


def test_without_a_template_there_is_no_template_file(metadata):
    del metadata["tokenizer.chat_template"]
    files = convert(metadata)
    assert files.chat_template is None


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model", "llama", "model is 'llama'; supported: 'gpt2'"),
        ("model", None, "model is None; supported"),
        ("pre", "tekken", "pre is 'tekken'; supported: gpt-2, smollm, qwen2, deepseek-r1-qwen, llama-bpe, default"),
        ("pre", None, "pre is missing; supported"),
        ("tokens", None, "tokenizer.ggml.tokens, token_type or merges is missing"),
        ("merges", None, "tokenizer.ggml.tokens, token_type or merges is missing"),
        ("token_type", np.ones(3, np.int32), "has 262 tokens but 3 token types"),
        ("token_type", np.full(262, 9, np.int32), "tokens of type 9; allowed: 1 to 6"),
        ("tokens", ["x"] * 262, "duplicate token 'x'"),
        ("merges", ["a b c"], "the merge 'a b c' is not two tokens"),
        ("merges", ["ab"], "the merge 'ab' is not two tokens"),
        ("merges", ["a nope"], "cannot be used"),
        ("bos_token_id", 261, "bos_token_id is 261, which is not one of the 262 token ids"),
        ("eos_token_id", 262, "eos_token_id is 262, which is not one"),
        ("eos_token_id", "two", "eos_token_id is 'two'"),
        ("add_bos_token", 1, "add_bos_token is 1; it must be true or false"),
    ],
)
def test_invalid_metadata(metadata, key, value, message):
    metadata[f"tokenizer.ggml.{key}"] = value
    with pytest.raises(TokenizerError, match=re.escape(message)):
        convert({k: v for k, v in metadata.items() if v is not None})


def test_a_special_id_past_the_models_rows(metadata):
    with pytest.raises(TokenizerError, match="eos token has id 258; allowed: 0 to 257"):
        tokenizer_from_metadata(metadata, {"vocab_size": 258}, "tiny.gguf")


@pytest.mark.parametrize("name", ["r1", "smollm2"])
def test_no_control_token_comes_out_of_a_message(name, request, tmp_path):
    files = request.getfixturevalue(name)
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
    special = files.special
    ids = {"bos": special.bos_id, "eos": list(special.eos_ids), "pad": special.pad_id, "add_bos": special.add_bos}
    encoder = EdgekitTokenizer.open(tmp_path, ids)
    source = files.chat_template
    template = ChatTemplate(source, encoder.special_tokens, controls=encoder.control_tokens(source))
    known = Tokenizer.from_buffer(files["tokenizer.json"]).get_added_tokens_decoder()

    def written(text):
        prompt = template.prompt([{"role": "system", "content": text}, {"role": "user", "content": f"{text}a {text}"}])
        ids = encoder.encode(prompt)
        assert encoder.decode(ids).count(text) == 3
        return [i for i in ids if i in known]

    plain = written("plain")
    assert len(plain) >= 2
    assert all(written(token.content) == plain for token in known.values())
