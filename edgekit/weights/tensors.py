"""Compares a checkpoint's tensors with the model: each is used, known to change nothing, or a reason to refuse.

A tensor that the model has no place for falls under the first rule of ``tensor_rules.py`` that its name matches.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..checkpoint.base import Checkpoint
from ..errors import TensorMismatchError
from ..models.spec import ModelSpec, TensorRef
from .tensor_rules import LEFT_OUT, MASK, MERGE, REFUSED, SILENT

_NAMED = 5  # an error lists this many tensors and counts the others
_LAYER = re.compile(r"(?:model\.layers|blk)\.([0-9]{1,9})\.")

_OTHER = "edgekit refuses to leave a weight out, since that would change the model without notice"


def check_tensors(checkpoint: Checkpoint, spec: ModelSpec) -> tuple[str, ...]:
    """Check that a checkpoint holds the model: its tensors, their shapes and types, and nothing else that counts.

    Args:
        checkpoint: Open for reading. Of its tensors, only biases that the model lacks are read.
        spec: The model that its config describes.

    Returns:
        Notes that name the tensors that are not used.

    Raises:
        TensorMismatchError: Tensors are missing, have no place in the model, or have another shape than config.json
            implies.
        CheckpointError: A tensor's type cannot be read.
    """
    gguf = checkpoint.format == "gguf"
    where = checkpoint.files[0].parent if len(checkpoint.files) > 1 else checkpoint.files[0]
    needed = {stored_name(ref, gguf): ref for ref in spec.tensors()}
    missing = sorted(needed.keys() - checkpoint.tensors.keys())
    surplus = sorted(checkpoint.tensors.keys() - needed.keys())
    if missing:
        raise TensorMismatchError(
            f"{where} lacks {_listed(missing)} that a {spec.model_type} model needs{_beside(missing, surplus)}",
            hint=_why_missing(missing, surplus, spec),
        )
    notes = _surplus_notes(checkpoint, spec, surplus, str(where))
    for name, ref in needed.items():
        info = checkpoint.tensors[name]
        if tuple(info.shape) != ref.shape:
            raise TensorMismatchError(
                f"{name} has shape {list(info.shape)}; config.json implies {list(ref.shape)}",
                hint="config.json and the weights are of different models",
            )
        checkpoint.check_readable(info)
    return notes


def stored_name(ref: TensorRef, gguf: bool) -> str:
    """A tensor's name in the checkpoint.

    Args:
        ref: The tensor.
        gguf: Whether the checkpoint is a GGUF file.
    """
    return ref.gguf if gguf else ref.name


def _surplus_notes(checkpoint: Checkpoint, spec: ModelSpec, surplus: list[str], where: str) -> tuple[str, ...]:
    """The notes about tensors that the model has no place for, grouped; refuse those that change the function."""
    left_out: dict[str, list[str]] = {}
    beyond = _layers_beyond(surplus, spec)
    for name in surplus:
        if _silent(checkpoint, name) or (spec.tied_embeddings and name in ("lm_head.weight", "output.weight")):
            continue
        found = _LAYER.match(name)
        rule = next((rule for rule in LEFT_OUT if re.fullmatch(rule.names, name)), None)
        if found is not None and beyond.get(int(found[1])):
            rule = LEFT_OUT[0]  # its attention and MLP have the names of a layer's
        if rule is None and _zero_bias(checkpoint, name):
            left_out.setdefault("biases of zeros", []).append(name)
        elif rule is None:
            raise _refused([n for n in surplus if not _silent(checkpoint, n)], name, spec, where)
        else:
            left_out.setdefault(rule.what, []).append(name)
    return tuple(f"{_listed(names, 1)} not used: {what}" for what, names in left_out.items())


def _silent(checkpoint: Checkpoint, name: str) -> bool:
    mask = re.fullmatch(MASK, name) and len(checkpoint.tensors[name].shape) > 1
    return bool(mask or re.fullmatch(SILENT, name))


def _layers_beyond(surplus: Iterable[str], spec: ModelSpec) -> dict[int, bool]:
    """Layers beyond those of config.json, and whether each is a head that predicts several tokens."""
    beyond: dict[int, bool] = {}
    for name in surplus:
        found = _LAYER.match(name)
        if found is not None and int(found[1]) >= spec.num_layers:
            beyond[int(found[1])] = beyond.get(int(found[1]), False) or bool(re.fullmatch(LEFT_OUT[0].names, name))
    return beyond


def _refused(surplus: list[str], name: str, spec: ModelSpec, where: str) -> TensorMismatchError:
    """The error for tensors without a place in the model; ``name`` is the first of them."""
    found = _LAYER.match(name)
    rule = next((rule for rule in REFUSED if re.fullmatch(rule.names, name)), None)
    if rule is None and found is not None and int(found[1]) >= spec.num_layers:
        layers = 1 + max(int(match[1]) for match in map(_LAYER.match, surplus) if match)
        same = [n for n in surplus if (m := _LAYER.match(n)) and int(m[1]) >= spec.num_layers]
        return TensorMismatchError(
            f"{where} holds {layers} layers, but config.json says num_hidden_layers = {spec.num_layers}: "
            f"{_listed(same)} would be left out",
            hint="config.json is of another model; to cut a model, remove the layers from its weights as well",
        )
    if rule is None and name.endswith(".bias"):
        same = [n for n in surplus if n.endswith(".bias")]
        keys = "attention_bias or mlp_bias" if spec.model_type in ("llama", "qwen3") else ""
        return TensorMismatchError(
            f"{where} holds {_listed(same)} that a {spec.model_type} model with this config.json has no place for, and "
            "they are not zero",
            hint=f"set {keys} to true in config.json if the model was trained with them" if keys else _OTHER,
        )
    if rule is None:
        return TensorMismatchError(
            f"{where} holds {_listed(surplus)} that a {spec.model_type} model has no place for", hint=_OTHER
        )
    same = [n for n in surplus if re.fullmatch(rule.names, n)]
    return TensorMismatchError(
        f"{where} holds {_listed(same)} of {rule.what}, which a {spec.model_type} model has no place for",
        hint=rule.hint,
    )


def _zero_bias(checkpoint: Checkpoint, name: str) -> bool:
    """Whether the tensor is a bias of zeros: early versions of AutoGPTQ stored one for every linear."""
    info = checkpoint.tensors[name]
    if not name.endswith(".bias") or len(info.shape) != 1:
        return False
    return not checkpoint.rows(name, 0, info.shape[0]).any()


def _beside(missing: list[str], surplus: list[str]) -> str:
    """What the surplus tensors say about the missing ones, for the message."""
    prefix = _prefix(missing, surplus)
    if prefix:
        return f"; the names of its tensors begin with {prefix!r}"
    rule = next((rule for rule in REFUSED for name in surplus if re.fullmatch(rule.names, name)), None)
    return f"; it holds tensors of {rule.what}" if rule else ""


def _prefix(missing: list[str], surplus: list[str]) -> str:
    """What the tensors' names begin with where the missing names have nothing, if that is why they are missing."""
    first = missing[0]
    for name in surplus:
        if name.endswith(f".{first}"):
            return name.removesuffix(first)
    return ""


def _why_missing(missing: list[str], surplus: list[str], spec: ModelSpec) -> str:
    prefix = _prefix(missing, surplus)
    if missing in (["lm_head.weight"], ["output.weight"]):
        return (
            "config.json says tie_word_embeddings = false, and transformers would draw a missing lm_head at random. If "
            "lm_head is the embedding, set it to true; otherwise fetch the weights again"
        )
    if any("language_model." in name for name in surplus):
        return "this is a model for text and images; edgekit supports models for text"
    if "base_model" in prefix or any(re.fullmatch(REFUSED[0].names, name) for name in surplus):
        return MERGE
    if prefix:
        return f"save the model that is inside: its names do not begin with {prefix!r}"
    if any(name == m.removeprefix("model.") for m in missing[:_NAMED] for name in surplus):
        return "this is a base model without lm_head, as for embeddings; edgekit supports models that write text"
    if any(name.startswith(("layers.0.attention.", "transformer.h.", "gpt_neox.")) for name in surplus):
        return "the tensors have the names of another format; convert them to Hugging Face's format of this model"
    found = [int(match[1]) for match in map(_LAYER.match, missing) if match]
    if found and min(found) > 0 and len(set(found)) == spec.num_layers - min(found):
        return f"the weights hold {min(found)} layers, config.json says {spec.num_layers}: they are of different models"
    return "the weights are incomplete, or config.json is of another model; fetch both again"


def _listed(names: list[str], limit: int = _NAMED) -> str:
    shown = ", ".join(names[:limit])
    return f"{len(names)} tensor{'s' * (len(names) > 1)} ({shown}{', ...' if len(names) > limit else ''})"
