"""Reads the tokenizer of a Hugging Face folder: its files, byte for byte, the chat templates and the special ids.

If files disagree about an id, the tokenizer's own configuration has priority. For example, ``config.json`` of
DeepSeek-R1-Distill-Qwen gives 151643 as bos, which is its eos; ``tokenizer_config.json`` names the right token, 151646.
Older folders name the tokens in ``special_tokens_map.json`` alone, which transformers reads as well. An id of -1 means
that there is no such token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TokenizerError
from ..json_file import MAX_JSON_BYTES, MAX_SETTINGS_BYTES, is_there, parse_json_object, read_bounded
from ..schema.tokenizer import check_generation, check_settings
from ..tokenizer_file import library_errors, load_tokenizer
from .base import SpecialTokens, TokenizerFiles
from .chat_templates import folder_templates
from .generation_config import FILE_NAME as GENERATION_FILE
from .generation_config import generation_defaults

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_MAP_FILE = "special_tokens_map.json"
_ROLES = ("bos_token", "eos_token", "pad_token")
_NONE = -1  # an id that some files give for a token that the model does not have
_READ = {
    "tokenizer.json": MAX_JSON_BYTES,
    "tokenizer_config.json": MAX_SETTINGS_BYTES,
    GENERATION_FILE: MAX_SETTINGS_BYTES,
}


def read_tokenizer_files(folder: Path, config: Mapping[str, Any]) -> TokenizerFiles:
    """Read the tokenizer of a Hugging Face folder.

    Args:
        folder: Holds ``tokenizer.json`` and its companions.
        config: The content of ``config.json``.

    Returns:
        The files, unchanged, and what they say.

    Raises:
        TokenizerError: ``tokenizer.json`` is missing or does not load, or a special id is not valid.
    """
    files = {name: read_bounded(folder / name, limit) for name, limit in _READ.items() if is_there(folder / name)}
    if "tokenizer.json" not in files:
        found = ", ".join(sorted(p.name for p in folder.glob("*token*"))) or "no tokenizer files"
        raise TokenizerError(
            f"{folder} has no tokenizer.json; found: {found}",
            hint="create one with transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)",
        )
    tokenizer = load_tokenizer(files["tokenizer.json"], str(folder / "tokenizer.json"))
    settings = _parse(folder, files, "tokenizer_config.json")
    generation = _parse(folder, files, GENERATION_FILE)
    check_settings(settings, str(folder / "tokenizer_config.json"))
    if "added_tokens_decoder" not in settings:  # as in transformers: newer settings name all special tokens
        settings = _mapped(folder) | settings
    check_generation(generation, str(folder / GENERATION_FILE))
    check_generation(config, f"{folder / 'config.json'}")
    templates = folder_templates(folder, settings)
    named, notes = _special_tokens(folder, tokenizer, settings, generation, config)
    special, dropped = usable_ids(named, config.get("vocab_size"), str(folder))
    if GENERATION_FILE in files:
        defaults = generation_defaults(generation, GENERATION_FILE)
    else:
        defaults = generation_defaults(config, "config.json")
    return TokenizerFiles(files, special, templates, defaults, (*notes, *dropped))


def usable_ids(special: SpecialTokens, vocab_size: Any, what: str) -> tuple[SpecialTokens, tuple[str, ...]]:
    """Check that each special id is below the model's vocabulary size, and drop a padding token that is not.

    Generation of one text needs no padding, so an id past the embedding's last row does no harm.

    Returns:
        The ids that can be used, and notes on what was dropped.

    Raises:
        TokenizerError: The bos token or an eos token is outside the vocabulary.
    """
    size = vocab_size if isinstance(vocab_size, int) else 2**31
    for name, token in (("bos", special.bos_id), *(("eos", i) for i in special.eos_ids)):
        if token is not None and not 0 <= token < size:
            raise TokenizerError(
                f"{what}: the {name} token has id {token}; allowed: 0 to {size - 1}, the rows of the model's embedding",
                hint="the tokenizer has tokens that the model lacks; use the files that the model was published with",
            )
    if special.pad_id is None or 0 <= special.pad_id < size:
        return special, ()
    note = (
        f"the padding token has id {special.pad_id}, which is outside the vocabulary of {size} tokens; it is not used"
    )
    return replace(special, pad_id=None), (note,)


def _parse(folder: Path, files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    return parse_json_object(files[name], str(folder / name)) if name in files else {}


def _mapped(folder: Path) -> dict[str, Any]:
    """The tokens that ``special_tokens_map.json`` names; empty if there is no such file."""
    path = folder / _MAP_FILE
    if not is_there(path):
        return {}
    content = parse_json_object(read_bounded(path, MAX_SETTINGS_BYTES), str(path))
    named = {role: content[role] for role in _ROLES if content.get(role) is not None}
    check_settings(named, str(path))
    return named


def _special_tokens(
    folder: Path,
    tokenizer: Tokenizer,
    settings: Mapping[str, Any],
    generation: Mapping[str, Any],
    config: Mapping[str, Any],
) -> tuple[SpecialTokens, tuple[str, ...]]:
    """Choose the ids: first the settings of the tokenizer, then ``generation_config.json``, then ``config.json``.

    Returns:
        The ids, and notes on what is not used.
    """
    notes: list[str] = []

    def named(role: str) -> int | None:
        """The id of the token that the settings name for a role, or None if they name no token."""
        token = settings.get(f"{role}_token")
        text = token.get("content") if isinstance(token, dict) else token
        if text is None:
            return None
        found = tokenizer.token_to_id(text) if isinstance(text, str) else None
        if found is None and role == "pad":
            notes.append(f"the padding token {text!r} is not in tokenizer.json; it is not used")
            return None
        if found is None:
            raise TokenizerError(
                f"{folder}: tokenizer_config.json or {_MAP_FILE} names {text!r} as {role}_token, but tokenizer.json "
                "does not have it"
            )
        return int(found)

    def listed(role: str) -> tuple[int, ...]:
        """The ids that ``generation_config.json``, or else ``config.json``, gives for a role."""
        for values in (generation, config):
            value = values.get(f"{role}_token_id")
            ids = tuple(dict.fromkeys(value if isinstance(value, list) else [value]))
            if found := tuple(i for i in ids if i not in (None, _NONE)):
                return found
        return ()

    def single(role: str) -> int | None:
        # "bos_token": null in tokenizer_config.json means that there is no bos (Qwen2.5), whatever config.json says.
        if f"{role}_token" in settings:
            return named(role)
        return next(iter(listed(role)), None)

    bos, eos, named_eos = single("bos"), listed("eos"), named("eos")
    if named_eos is not None:
        eos = tuple(dict.fromkeys((named_eos, *eos)))
    pad = single("pad")
    return SpecialTokens(bos, eos, pad, _adds_bos(tokenizer, bos, settings)), tuple(notes)


def _adds_bos(tokenizer: Tokenizer, bos: int | None, settings: Mapping[str, Any]) -> bool:
    """Whether encoding raw text puts bos first: by ``add_bos_token``, otherwise by what ``tokenizer.json`` does."""
    if bos is None:
        return False
    add_bos = settings.get("add_bos_token")
    if isinstance(add_bos, bool):
        return add_bos
    with library_errors("tokenizer.json cannot be used"):
        added: list[int] = tokenizer.encode("").ids
    return added[:1] == [bos]
