"""Reads the tokenizer of a Hugging Face folder: its files, byte for byte, the chat template and the special ids.

If files disagree about an id, the tokenizer's own configuration has priority. For example, ``config.json`` of
DeepSeek-R1-Distill-Qwen gives 151643 as bos, which is its eos; ``tokenizer_config.json`` names the right token, 151646.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TokenizerError
from ..json_file import parse_json_object, read_bounded
from .base import SpecialTokens, TokenizerFiles

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_COPIED = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


def read_tokenizer_files(folder: Path, config: Mapping[str, Any]) -> TokenizerFiles:
    """Read the tokenizer of a Hugging Face folder.

    Args:
        folder: Holds ``tokenizer.json`` and its companions.
        config: The content of ``config.json``.

    Returns:
        The files, unchanged. ``chat_template.jinja`` is made from ``tokenizer_config.json`` if the template is there.

    Raises:
        TokenizerError: ``tokenizer.json`` is missing or does not load, or a special id is not valid.
    """
    files = {name: read_bounded(folder / name) for name in _COPIED if (folder / name).is_file()}
    if "tokenizer.json" not in files:
        found = ", ".join(sorted(p.name for p in folder.glob("*token*"))) or "no tokenizer files"
        raise TokenizerError(
            f"{folder} has no tokenizer.json; found: {found}",
            hint="create one with transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)",
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
    """Load a ``tokenizer.json`` with the tokenizers library.

    Raises:
        TokenizerError: The library rejects it.
    """
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(f"{what} cannot be used: {error}") from None


def check_ids(special: SpecialTokens, vocab_size: Any, what: str) -> None:
    """Check that each special id is below the model's vocabulary size.

    Raises:
        TokenizerError: An id is outside the vocabulary.
    """
    size = vocab_size if isinstance(vocab_size, int) else 2**31
    named = [("bos", special.bos_id), *(("eos", i) for i in special.eos_ids), ("pad", special.pad_id)]
    for name, token in named:
        if token is not None and not 0 <= token < size:
            raise TokenizerError(f"{what}: the {name} token has id {token}; allowed: 0 to {size - 1}")


def _parse(folder: Path, files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    return parse_json_object(files[name], str(folder / name)) if name in files else {}


def _template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """``chat_template`` of ``tokenizer_config.json``: a string, or the "default" entry of a list of named templates."""
    template = settings.get("chat_template")
    if template is None or isinstance(template, str):
        return template
    try:
        named = {entry["name"]: entry["template"] for entry in template}
    except (TypeError, KeyError):
        named = {}
    if not isinstance(named.get("default"), str):
        raise TokenizerError(
            f"{folder / 'tokenizer_config.json'}: chat_template must be a string, or a list of named templates with "
            f"one named 'default'; names found: {', '.join(map(repr, named)) or 'none'}"
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
    """Choose the ids: first ``tokenizer_config.json``, then ``generation_config.json``, then ``config.json``."""

    def named(role: str) -> int | None:
        """The id of the token that ``tokenizer_config.json`` names for a role, or None if it names no token."""
        token = settings.get(f"{role}_token")
        text = token.get("content") if isinstance(token, dict) else token
        if text is None:
            return None
        found = tokenizer.token_to_id(text) if isinstance(text, str) else None
        if found is None:
            raise TokenizerError(
                f"{folder}: tokenizer_config.json names {text!r} as {role}_token, but tokenizer.json does not have it"
            )
        return int(found)

    def listed(role: str) -> tuple[int, ...]:
        """The ids that ``generation_config.json``, or else ``config.json``, gives for a role."""
        for file, values in (("generation_config.json", generation), ("config.json", config)):
            value = values.get(f"{role}_token_id")
            if value is not None:
                return _ids(value, f"{folder / file}: {role}_token_id")
        return ()

    def single(role: str) -> int | None:
        # "bos_token": null in tokenizer_config.json means that there is no bos (Qwen2.5), whatever config.json says.
        if f"{role}_token" in settings:
            return named(role)
        return next(iter(listed(role)), None)

    bos = single("bos")
    eos = listed("eos")
    named_eos = named("eos")
    if named_eos is not None and named_eos not in eos:
        eos = (*eos, named_eos)
    return SpecialTokens(bos, eos, single("pad"), _adds_bos(tokenizer, bos, settings))


def _ids(value: Any, what: str) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    if not all(type(i) is int for i in values):
        raise TokenizerError(f"{what} is {value!r}; it must be a whole number or a list of them")
    return tuple(dict.fromkeys(values))


def _adds_bos(tokenizer: Tokenizer, bos: int | None, settings: Mapping[str, Any]) -> bool:
    """Whether encoding raw text puts bos first: by ``add_bos_token``, otherwise by what ``tokenizer.json`` does."""
    if bos is None:
        return False
    add_bos = settings.get("add_bos_token")
    if isinstance(add_bos, bool):
        return add_bos
    added: list[int] = tokenizer.encode("").ids
    return added[:1] == [bos]
