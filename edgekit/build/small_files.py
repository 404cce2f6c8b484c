"""The configuration files of an artifact, all written from one set of values, so that no two contradict each other.

The source's files say different things to different programs: bos in ``config.json`` and another in
``tokenizer_config.json``, an eos list in one file and a single eos in the next. And transformers 5 writes a
``tokenizer_config.json`` that transformers 4, which optimum needs, cannot open.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from ..checkpoint.base import TokenizerFiles
from ..checkpoint.chat_templates import TEMPLATE_FILE
from ..checkpoint.generation_config import FILE_NAME as GENERATION_FILE
from ..checkpoint.generation_config import GENERATION_KEYS
from ..errors import BuildError
from ..json_file import parse_json_object
from ..json_text import json_text
from .conversation import Conversation
from .turns import SETTINGS_FILE, added_past, settings_of

# Base classes that exist only in transformers 5. A tokenizer.json is whole, so the generic class reads it all the same.
_CLASSES_OF_5 = ("TokenizersBackend", "SentencePieceBackend", "PythonBackend")
_GENERIC_CLASS = "PreTrainedTokenizerFast"
# Keys that only transformers 5 writes, or that describe a file which the artifact does not hold.
_LEFT_OUT = ("auto_map", "backend", "chat_template", "is_local", "local_files_only", "name_or_path", "tokenizer_file")
_QUANTIZATION = "quantization_config"


def tokenizer_files(tokenizer: TokenizerFiles, conversation: Conversation, vocab_size: int) -> dict[str, bytes]:
    """``tokenizer.json``, ``tokenizer_config.json``, ``chat_template.jinja`` and ``generation_config.json``.

    Args:
        tokenizer: The source's files.
        conversation: How the artifact converses.
        vocab_size: Rows of the embedding. Added tokens past the last one are left out.
    """
    settings = _tokenizer_config(settings_of(tokenizer), conversation)
    content = tokenizer["tokenizer.json"]
    if past := added_past(tokenizer, vocab_size):
        content = _without(content, past)
        if isinstance(decoder := settings.get("added_tokens_decoder"), dict):
            settings["added_tokens_decoder"] = {k: v for k, v in decoder.items() if k not in map(str, past)}
    known = set(tokenizer.backend.get_vocab()) - set(past.values())
    files = {
        "tokenizer.json": content,
        SETTINGS_FILE: json_bytes(_with_known_tokens(settings, known)),
        GENERATION_FILE: json_bytes(_generation_config(conversation)),
    }
    if conversation.template is not None:
        files[TEMPLATE_FILE] = conversation.template.encode("utf-8")
    return files


def model_config(config: Mapping[str, Any], conversation: Conversation) -> dict[str, Any]:
    """``config.json``: the source's, with the artifact's ids and without settings that have a file of their own."""
    left_out = (*GENERATION_KEYS, "bos_token_id", "eos_token_id", "pad_token_id", _QUANTIZATION)
    return {k: v for k, v in config.items() if k not in left_out} | _ids(conversation)


def _ids(conversation: Conversation) -> dict[str, int | list[int]]:
    """The special ids under the keys of Hugging Face's files."""
    special = conversation.special
    eos: int | list[int] | None = list(special.eos_ids)
    if len(special.eos_ids) < 2:
        eos = next(iter(special.eos_ids), None)
    ids = {"bos_token_id": special.bos_id, "eos_token_id": eos, "pad_token_id": special.pad_id}
    return {key: value for key, value in ids.items() if value is not None}


def _generation_config(conversation: Conversation) -> dict[str, Any]:
    """All settings are written, because transformers has defaults of its own for the others, such as a top_k of 50."""
    sampling = conversation.sampling
    content: dict[str, Any] = {**_ids(conversation), "do_sample": sampling.temperature > 0}
    if sampling.temperature > 0:
        content |= {key: value for key, value in asdict(sampling).items() if key != "min_p" or value > 0}
    else:
        content["repetition_penalty"] = sampling.repetition_penalty
    return content


def _tokenizer_config(settings: Mapping[str, Any], conversation: Conversation) -> dict[str, Any]:
    """``tokenizer_config.json`` in the form of transformers 4, which transformers 5 reads, too."""
    content = {key: value for key, value in settings.items() if key not in _LEFT_OUT}
    extra = content.get("extra_special_tokens")
    if _is_of_5(settings):
        content = {key: value for key, value in content.items() if value is not None or key.endswith("_token")}
        content["tokenizer_class"] = _GENERIC_CLASS
        content.setdefault("clean_up_tokenization_spaces", False)
    if isinstance(extra, list):
        del content["extra_special_tokens"]
        content["additional_special_tokens"] = [*(content.get("additional_special_tokens") or ()), *extra]
    for role, token in _roles(conversation).items():
        content[role] = _respelled(content.get(role), token)
    if conversation.template is not None:
        content["chat_template"] = conversation.template
    return content


def _is_of_5(settings: Mapping[str, Any]) -> bool:
    """Whether transformers 4 cannot open the file as it is, or would open it as something else."""
    name = settings.get("tokenizer_class")
    marked = "backend" in settings or isinstance(settings.get("extra_special_tokens"), list)
    return marked or name is None or name in _CLASSES_OF_5 or "auto_map" in settings


def _roles(conversation: Conversation) -> dict[str, str | None]:
    """``bos_token``, ``eos_token`` and ``pad_token`` by their text."""
    names, special = conversation.names, conversation.special
    pad = names.get("pad_token")
    if special.pad_id is not None and special.pad_id == next(iter(special.eos_ids), None):
        pad = names.get("eos_token")
    bos = names.get("bos_token") if special.bos_id is not None else None
    return {"bos_token": bos, "eos_token": names.get("eos_token"), "pad_token": pad}


def _respelled(old: Any, token: str | None) -> Any:
    """The token in the form that the source uses: text, or an object with the token's properties."""
    return old if isinstance(old, dict) and old.get("content") == token else token


def _with_known_tokens(settings: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """The settings without tokens that ``tokenizer.json`` lacks; transformers would add each as a new id."""

    def is_known(token: Any) -> bool:
        text = token.get("content") if isinstance(token, dict) else token
        return not isinstance(text, str) or text in known

    kept = {k: v for k, v in settings.items() if not k.endswith("_token") or is_known(v)}
    if isinstance(more := kept.get("additional_special_tokens"), list):
        kept["additional_special_tokens"] = [token for token in more if is_known(token)]
    return kept


def _without(content: bytes, past: Mapping[int, str]) -> bytes:
    """``tokenizer.json`` without these added tokens."""
    tokenizer = parse_json_object(content, "tokenizer.json")
    added = [token for token in tokenizer["added_tokens"] if token["id"] not in past]
    return json_text({**tokenizer, "added_tokens": added}).encode("utf-8")


def json_bytes(value: Any) -> bytes:
    """A configuration file's content.

    Raises:
        BuildError: A value cannot be written as JSON.
    """
    try:
        text = json_text(value, indent=2, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise BuildError(f"a configuration file cannot be written as JSON: {error}") from None
    return (text + "\n").encode()
