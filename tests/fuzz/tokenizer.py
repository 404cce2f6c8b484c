"""tokenizer.json: loaded, used, made into llguidance's tokenizer and into the native library's tables."""

import contextlib
import json

import fuzz_changes
import numpy as np
from fuzz_files import checkpoint

from edgekit.build.text_tables import UnsupportedTokenizerError, tokenizer_tables
from edgekit.errors import EdgekitError, TokenizerError
from edgekit.runtime.constraint import Constraints
from edgekit.runtime.response_format import Grammar
from edgekit.runtime.tokenizer import Tokenizer
from edgekit.tokenizer_file import load_tokenizer

ALLOWED = (EdgekitError, UnsupportedTokenizerError)
_ROWS = 400
_ZEROS = np.zeros(_ROWS, np.float32)
_STEPS = (
    {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Prepend", "prepend": "_"}]},
    {"type": "Replace", "pattern": {"String": " "}, "content": "_"},
    {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True},
     {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]},
    {"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "Isolated", "invert": False},
    {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}],
     "pair": [], "special_tokens": {}},
)  # fmt: skip


def seeds() -> list[bytes]:
    content = json.loads((checkpoint("tokenizer-seed") / "tokenizer.json").read_bytes())
    vocabulary = content["model"]["vocab"]
    kept = dict(list(vocabulary.items())[:20])
    small = {**content, "model": {**content["model"], "vocab": kept, "merges": []}, "added_tokens": []}
    first = {**small, "normalizer": _STEPS[0], "pre_tokenizer": _STEPS[2], "post_processor": _STEPS[4]}
    second = {**small, "normalizer": _STEPS[1], "pre_tokenizer": _STEPS[3]}
    return [json.dumps(each).encode() for each in (content, small, first, second)]


def change(choose, data):
    return fuzz_changes.json_change(choose, data, seeds()[1:])


def read(data: bytes) -> None:
    backend = load_tokenizer(data, "tokenizer.json")
    tokenizer = Tokenizer(backend, bos=None, add_bos=False)
    tokenizer.decode(tokenizer.encode("Is 3 > 2? <|eos|> é\n"))
    with contextlib.suppress(TokenizerError):  # llguidance knows fewer tokenizers
        Constraints(tokenizer, _ROWS, [1]).start(Grammar(regex="[a-z]+"), after_thought=False).apply(_ZEROS.copy())
    tokenizer_tables(backend, (), ())
