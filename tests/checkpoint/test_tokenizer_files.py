"""The tokenizer of a Hugging Face folder: files byte for byte, the template, and which file decides the ids."""

import json
from dataclasses import replace

import pytest

from edgekit.checkpoint import SpecialTokens, open_checkpoint
from edgekit.errors import CorruptFileError, TokenizerError


@pytest.fixture
def special_of(tiny_folder, tiny_config):
    """Write the config files and read the special ids back."""

    def read(tokenizer_config=None, generation_config=None, config=None, special_tokens_map=None):
        (tiny_folder / "config.json").write_text(json.dumps({**tiny_config, **(config or {})}))
        for name, content in (
            ("tokenizer_config.json", tokenizer_config),
            ("generation_config.json", generation_config),
            ("special_tokens_map.json", special_tokens_map),
        ):
            if content is not None:
                (tiny_folder / name).write_text(json.dumps(content))
        with open_checkpoint(tiny_folder) as checkpoint:
            return checkpoint.tokenizer.special

    return read


def test_files_are_copied_byte_for_byte(tiny_folder):
    contents = {
        "tokenizer_config.json": b'{ "bos_token":"<bos>",\n\n"eos_token":"<eos>" }',
        "generation_config.json": b'{"temperature": 0.60}\n',
    }
    for name, content in contents.items():
        (tiny_folder / name).write_bytes(content)
    (tiny_folder / "chat_template.jinja").write_bytes("{{ bos_token }}héllo".encode())
    (tiny_folder / "vocab.json").write_text("{}")
    with open_checkpoint(tiny_folder) as checkpoint:
        assert dict(checkpoint.tokenizer) == contents | {
            "tokenizer.json": (tiny_folder / "tokenizer.json").read_bytes()
        }
        assert checkpoint.tokenizer.chat_template == "{{ bos_token }}héllo"


def test_tokenizer_json_alone_is_enough(special_of):
    assert special_of() == SpecialTokens(bos_id=257, eos_ids=(258,), pad_id=None, add_bos=False)


def test_tokenizer_config_overrules_a_wrong_bos(special_of):
    special = special_of(
        {"bos_token": {"__type": "AddedToken", "content": "<bos>"}, "eos_token": "<eos>", "add_bos_token": True},
        config={"bos_token_id": 258},
    )
    assert special == SpecialTokens(bos_id=257, eos_ids=(258,), pad_id=None, add_bos=True)


def test_a_null_bos_means_no_bos(special_of):
    assert special_of({"bos_token": None, "eos_token": "<eos>", "add_bos_token": True}).bos_id is None


def test_eos_lists_are_joined_with_the_tokenizers_own(special_of):
    special = special_of({"eos_token": "<eot>", "pad_token": "<eos>"}, {"eos_token_id": [258, 260, 258]})
    assert special.eos_ids == (259, 258, 260), "its own comes first"
    assert special.pad_id == 258


def test_generation_config_comes_before_config(special_of):
    assert special_of(None, {"eos_token_id": 259}, {"eos_token_id": 258}).eos_ids == (259,)


def test_a_post_processor_that_adds_bos_is_detected(tiny_folder, special_of):
    path = tiny_folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<bos>": {"id": "<bos>", "ids": [257], "tokens": ["<bos>"]}},
    }
    path.write_text(json.dumps(content))
    assert special_of({"bos_token": "<bos>"}).add_bos is True
    assert special_of({"bos_token": "<bos>", "add_bos_token": False}).add_bos is False


def test_a_padding_token_that_cannot_be_used_is_dropped_with_a_note(special_of, tiny_folder):
    for settings, config, words in (
        ({}, {"pad_token_id": 262}, "the padding token has id 262, which is outside the vocabulary of 262 tokens"),
        ({"pad_token": "<unheard of>"}, {}, "the padding token '<unheard of>' is not in tokenizer.json"),
    ):
        assert special_of(settings, {}, config).pad_id is None
        with open_checkpoint(tiny_folder) as checkpoint:
            (note,) = checkpoint.tokenizer.notes
        assert note.startswith(words)
        assert note.endswith("; it is not used")


@pytest.mark.parametrize("role", ["bos", "eos", "pad"])
@pytest.mark.parametrize("none", [-1, [-1], []])
def test_an_id_of_minus_1_means_that_there_is_none(special_of, tiny_folder, role, none):
    key = f"{role}_token_id"
    absent = SpecialTokens(257, (258,), None, False)
    absent = replace(absent, eos_ids=()) if role == "eos" else replace(absent, **{f"{role}_id": None})
    assert special_of(None, {key: none}, {key: None}) == absent
    assert special_of({}, {}, {key: none}) == absent
    with open_checkpoint(tiny_folder) as checkpoint:
        assert checkpoint.tokenizer.notes == ()
    found = special_of({}, {key: none}, {key: 259})
    assert found == replace(absent, **({"eos_ids": (259,)} if role == "eos" else {f"{role}_id": 259}))
    assert special_of({}, {"eos_token_id": [-1, 259]}).eos_ids == (259,)


def test_tokens_that_only_the_map_names(special_of):
    named = {"bos_token": "<bos>", "eos_token": {"content": "<eot>", "lstrip": False}, "pad_token": "<eos>"}
    nothing = {"bos_token_id": None, "eos_token_id": None}
    found = SpecialTokens(257, (259,), 258, False)
    assert special_of(None, None, nothing, named) == found
    assert special_of({"tokenizer_class": "PreTrainedTokenizerFast"}, {}, nothing, named) == found
    assert special_of({"eos_token": "<eos>"}, {}, nothing).eos_ids == (258,), "tokenizer_config.json comes first"
    assert special_of({"bos_token": None}, {}, nothing).bos_id is None
    newer = {"added_tokens_decoder": {}, "eos_token": "<eos>"}  # transformers reads no map beside it
    assert special_of(newer, {}, nothing, {"eos_token": "<nope>", "bos_token": "<bos>"}).bos_id is None
    with pytest.raises(TokenizerError, match=r"special_tokens_map\.json: eos_token is 3"):
        special_of({}, {}, nothing, {"eos_token": 3})
    with pytest.raises(TokenizerError, match=r"special_tokens_map\.json names '<nope>' as eos_token"):
        special_of({}, {}, nothing, {"eos_token": "<nope>"})


def test_the_sources_sampling_and_stop_texts(tiny_folder, tiny_config):
    (tiny_folder / "config.json").write_text(json.dumps({**tiny_config, "temperature": 0.5}))
    with open_checkpoint(tiny_folder) as checkpoint:
        assert checkpoint.tokenizer.generation.sampling.temperature == 0.5
    (tiny_folder / "generation_config.json").write_text('{"temperature": 0.25, "stop_strings": "END"}')
    with open_checkpoint(tiny_folder) as checkpoint:
        assert checkpoint.tokenizer.generation.sampling.temperature == 0.25
        assert checkpoint.tokenizer.generation.stop_texts == ("END",)


def test_no_tokenizer_json(tiny_folder):
    (tiny_folder / "tokenizer.json").unlink()
    (tiny_folder / "tokenizer.model").write_bytes(b"")
    with open_checkpoint(tiny_folder) as checkpoint:
        assert checkpoint.rows("single", 0, 1).shape == (1, 32)  # the weights can still be read
        with pytest.raises(TokenizerError, match=r"no tokenizer\.json; found: tokenizer\.model"):
            _ = checkpoint.tokenizer


@pytest.mark.parametrize("content", [b"{}", b"\xff\xfe", b'{"model": {"type": "BPE"}}'])
def test_broken_tokenizer_json(tiny_folder, content):
    (tiny_folder / "tokenizer.json").write_bytes(content)
    with open_checkpoint(tiny_folder) as checkpoint, pytest.raises(TokenizerError, match=r"tokenizer\.json cannot be"):
        _ = checkpoint.tokenizer


def test_broken_generation_config(tiny_folder):
    (tiny_folder / "generation_config.json").write_text("{")
    with open_checkpoint(tiny_folder) as checkpoint, pytest.raises(CorruptFileError, match=r"generation_config\.json"):
        _ = checkpoint.tokenizer


def test_invalid_ids(special_of):
    with pytest.raises(TokenizerError, match="eos token has id 262; allowed: 0 to 261"):
        special_of(None, {"eos_token_id": [258, 262]})
    with pytest.raises(TokenizerError, match="eos_token_id is 'two'"):
        special_of(None, {"eos_token_id": "two"})
    with pytest.raises(TokenizerError, match="'<nope>' as bos_token"):
        special_of({"bos_token": "<nope>"}, {})
