"""The tokenizer of a Hugging Face folder: its files byte for byte, the chat template, the special ids.

Where files disagree about an id, the tokenizer's own word counts first: ``config.json`` of DeepSeek-R1-Distill-Qwen
gives 151643 as bos, which is its eos; ``tokenizer_config.json`` names the right token, 151646.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TokenizerError
from .base import SpecialTokens, TokenizerFiles
from .files import parse_json_object, read_bounded

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_TAKEN_OVER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


def read_tokenizer_files(folder: Path, config: Mapping[str, Any]) -> TokenizerFiles:
    """Read the tokenizer of a Hugging Face folder.

    Args:
        folder: Holds ``tokenizer.json`` and its companions.
        config: The content of ``config.json``.

    Returns:
        The files as they are; ``chat_template.jinja`` is made from ``tokenizer_config.json`` where it is only there.

    Raises:
        TokenizerError: No ``tokenizer.json``, one that does not load, or ids that make no sense.
    """
    files = {name: read_bounded(folder / name) for name in _TAKEN_OVER if (folder / name).is_file()}
    if "tokenizer.json" not in files:
        found = ", ".join(sorted(p.name for p in folder.glob("*token*"))) or "no tokenizer file at all"
        raise TokenizerError(
            f"{folder} has no tokenizer.json; found: {found}",
            hint="transformers writes one: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)",
        )
    tokenizer = load_tokenizer(files["tokenizer.json"], str(folder / "tokenizer.json"))
    settings = _parse(folder, files, "tokenizer_config.json")
    generation = _parse(folder, files, "generation_config.json")
    if "chat_template.jinja" not in files and (template := _template(folder, settings)) is not None:
        files["chat_template.jinja"] = template.encode("utf-8")
    special = _special_tokens(folder, tokenizer, settings, generation, config)
    check_ids(special, config.get("vocab_size"), str(folder))
    return TokenizerFiles(files, special)


def load_tokenizer(content: bytes, what: str) -> Tokenizer:
    """Load a ``tokenizer.json`` with the library that will use it.

    Raises:
        TokenizerError: The library refuses it.
    """
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(f"{what} cannot be used: {error}") from None


def check_ids(special: SpecialTokens, vocab_size: Any, what: str) -> None:
    """Check that each special id is one of the model's rows.

    Raises:
        TokenizerError: An id outside the vocabulary.
    """
    size = vocab_size if isinstance(vocab_size, int) else 2**31
    named = [("bos", special.bos_id), *(("eos", i) for i in special.eos_ids), ("pad", special.pad_id)]
    for name, token in named:
        if token is not None and not 0 <= token < size:
            raise TokenizerError(f"{what}: the {name} token has id {token}; the model's ids are 0 to {size - 1}")


def _parse(folder: Path, files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    return parse_json_object(files[name], str(folder / name)) if name in files else {}


def _template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """``chat_template`` of ``tokenizer_config.json``: a string, or a list of named ones of which "default" counts."""
    template = settings.get("chat_template")
    if template is None or isinstance(template, str):
        return template
    try:
        named = {entry["name"]: entry["template"] for entry in template}
    except (TypeError, KeyError):
        named = {}
    if not isinstance(named.get("default"), str):
        raise TokenizerError(
            f"{folder / 'tokenizer_config.json'}: chat_template is neither a string nor a list of named templates "
            f"with one named 'default'; names found: {', '.join(map(repr, named)) or 'none'}"
        )
    default: str = named["default"]
    return default


def _special_tokens(
    folder: Path,
    tokenizer: Tokenizer,
    settings: Mapping[str, Any],
    generation: Mapping[str, Any],
    config: Mapping[str, Any],
) -> SpecialTokens:
    """Decide the ids: the tokenizer's own word first, then ``generation_config.json``, then ``config.json``."""

    def own(role: str) -> int | None:
        """Id of the token ``tokenizer_config.json`` names for a role, or None where it names none."""
        token = settings.get(f"{role}_token")
        text = token.get("content") if isinstance(token, dict) else token
        if text is None:
            return None
        found = tokenizer.token_to_id(text) if isinstance(text, str) else None
        if found is None:
            raise TokenizerError(
                f"{folder}: tokenizer_config.json names {text!r} as {role}_token, which tokenizer.json does not hold"
            )
        return int(found)

    def listed(role: str) -> tuple[int, ...]:
        """Ids the two config files give for a role, the generation config's first."""
        for file, values in (("generation_config.json", generation), ("config.json", config)):
            value = values.get(f"{role}_token_id")
            if value is not None:
                return _ids(value, f"{folder / file}: {role}_token_id")
        return ()

    def single(role: str) -> int | None:
        # A tokenizer_config.json that says "bos_token": null means none (Qwen2.5), whatever config.json claims.
        if f"{role}_token" in settings:
            return own(role)
        return next(iter(listed(role)), None)

    bos = single("bos")
    eos = listed("eos")
    own_eos = own("eos")
    if own_eos is not None and own_eos not in eos:
        eos = (*eos, own_eos)
    return SpecialTokens(bos, eos, single("pad"), _adds_bos(tokenizer, bos, settings))


def _ids(value: Any, what: str) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    if not all(type(i) is int for i in values):
        raise TokenizerError(f"{what} is {value!r}; it must be a whole number or a list of them")
    return tuple(dict.fromkeys(values))


def _adds_bos(tokenizer: Tokenizer, bos: int | None, settings: Mapping[str, Any]) -> bool:
    """Whether encoding raw text puts bos first: what ``add_bos_token`` says, else what ``tokenizer.json`` does."""
    if bos is None:
        return False
    said = settings.get("add_bos_token")
    if isinstance(said, bool):
        return said
    added: list[int] = tokenizer.encode("").ids
    return added[:1] == [bos]
