"""A checkpoint with LoRA adapters merged into it: its rows are changed as they are read.

    checkpoint, adapters -> **MergedCheckpoint** -> weights, calibration, quality: all see the merged model

A piece of a matrix needs the same rows of B and all of A, so memory is bounded by the piece and by one factor.
GGUF stores the rows of q and k interleaved; the rows of B are put into the same order.

The embedding and lm_head of a tied model are one table. An adapter changes only one of them, or each in its own way, so
the merged model gets a separate lm_head: that is the function that was trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checkpoint.base import Checkpoint, TensorInfo, TokenizerFiles
from ..checkpoint.lora import LoraAdapter, LowRank
from ..errors import NonFiniteWeightError, TensorMismatchError, UnsupportedModelError, nearest
from ..models import spec_from_config
from ..models.spec import ModelSpec, TensorRef, untied
from .tensors import stored_name

_TIED_KEY = "tie_word_embeddings"
_NAMED = 5

Array = NDArray[np.float32]


@dataclass(frozen=True)
class _Change:
    """What one adapter does to one tensor."""

    adapter: LoraAdapter
    low_rank: LowRank | None
    replaced: TensorInfo | None


class MergedCheckpoint(Checkpoint):
    """A checkpoint whose weights are changed by adapters, in their order.

    Args:
        base: Open for reading; closing the merged checkpoint leaves it open. It may be one without tensors, for a plan.
        adapters: Open for reading.

    Raises:
        TensorMismatchError: A tensor of an adapter has no place in the model or another shape.
        UnsupportedModelError: The base holds quantized codes, which are copied unchanged.
    """

    def __init__(self, base: Checkpoint, adapters: Sequence[LoraAdapter]) -> None:
        if base.holds_codes:
            raise UnsupportedModelError(
                f"{adapters[0].name} cannot be merged: the codes of this {base.format.upper()} checkpoint are copied "
                "unchanged, and an adapter would change them",
                hint="merge it into the float checkpoint that this one was quantized from",
            )
        self._base = base
        self.format, self.files, self.names, self.quantization = base.format, base.files, base.names, base.quantization
        spec = spec_from_config(base.config)
        self.config = merged_config(base.config, adapters)
        self.adapters = tuple(adapters)
        separate = untied(spec) if self.config != base.config else spec
        gguf = base.format == "gguf"
        self._changes: dict[str, list[_Change]] = {}
        self._refs = {stored_name(ref, gguf): ref for ref in separate.tensors()}
        for ref, change in _all_changes(separate, adapters):
            self._changes.setdefault(stored_name(ref, gguf), []).append(change)
        self.tensors = dict(base.tensors)
        self._copies: dict[str, str] = {}
        embedding, head = (stored_name(ref, gguf) for ref in (separate.embedding, separate.lm_head.weight))
        if separate is not spec and embedding in base.tensors:
            self.tensors[head] = replace(base.tensors[embedding], name=head)
            self._copies[head] = embedding
        for name, changes in self._changes.items():
            _check_added(base, name, changes)
        self.notes = (*base.notes, *_notes(base, adapters, separate is not spec))

    @property
    def tokenizer(self) -> TokenizerFiles:
        return self._base.tokenizer

    def check_readable(self, info: TensorInfo) -> None:
        """See :meth:`Checkpoint.check_readable`."""
        self._base.check_readable(self._base.tensors[self._copies.get(info.name, info.name)])

    def close(self) -> None:
        """The base and the adapters are closed by those who opened them."""

    def _read(self, info: TensorInfo, start: int, stop: int) -> NDArray[Any]:
        stored = self._base.rows(self._copies.get(info.name, info.name), start, stop)
        changes = self._changes.get(info.name)
        if not changes:
            return stored
        ref = self._refs[info.name]
        order = _stored_order(ref, start, stop) if self.format == "gguf" else np.arange(start, stop)
        merged: Array = stored.astype(np.float32)
        for change in changes:
            merged = _merged(change, ref, merged, order)
        return merged


def merged_config(config: Mapping[str, Any], adapters: Iterable[LoraAdapter]) -> dict[str, Any]:
    """The merged model's config: untied if an adapter changes the embedding or lm_head of a tied model."""
    spec = spec_from_config(config)
    tables = {"model.embed_tokens.weight", "lm_head.weight"}
    changed = {_full_name(name, tables) for adapter in adapters for name in (*adapter.low_rank, *adapter.replaced)}
    return {**config, _TIED_KEY: False} if spec.tied_embeddings and changed & tables else dict(config)


def check_adapters(config: Mapping[str, Any], adapters: Sequence[LoraAdapter]) -> None:
    """Check that adapters fit the model of a config.

    Raises:
        TensorMismatchError: A tensor of an adapter has no place in the model or another shape.
    """
    for _ in _all_changes(spec_from_config(merged_config(config, adapters)), adapters):
        pass


def _all_changes(spec: ModelSpec, adapters: Sequence[LoraAdapter]) -> Iterable[tuple[TensorRef, _Change]]:
    refs = {ref.name: ref for ref in spec.tensors()}
    for adapter in adapters:
        yield from _changes(adapter, refs)


def _notes(base: Checkpoint, adapters: Sequence[LoraAdapter], separate: bool) -> Iterable[str]:
    known = {_short(name) for name in (*base.names, str(base.config.get("_name_or_path", ""))) if name}
    for adapter in adapters:
        yield f"{adapter.name} is merged into {len(adapter.low_rank) + len(adapter.replaced)} tensors"
        if adapter.base and known and _short(adapter.base) not in known:
            yield f"{adapter.name} was trained on {adapter.base}; it is merged into {base.names[0]}"
        template = adapter.chat_template
        if template is not None and template.strip() != (base.tokenizer.chat_template or "").strip():
            said = f"{adapter.name} has a chat template of its own"
            yield f"{said}; the model's is used, and --chat-template FILE replaces it"
    if separate:
        yield "the embedding and lm_head were one table; the adapter changes them separately, so both are stored"


def _short(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].lower()


def _full_name(name: str, refs: Iterable[str]) -> str:
    """A tensor's name in the model; adapters that were trained without the head lack the first ``model.``."""
    return name if name in refs or f"model.{name}" not in refs else f"model.{name}"


def _changes(adapter: LoraAdapter, refs: dict[str, TensorRef]) -> Iterable[tuple[TensorRef, _Change]]:
    """What an adapter changes; check that each tensor fits."""
    names = dict.fromkeys((*adapter.low_rank, *adapter.replaced))
    unknown = [name for name in names if _full_name(name, refs) not in refs]
    if unknown:
        close = nearest(unknown[0], refs)
        shown = ", ".join(unknown[:_NAMED]) + (", ..." if len(unknown) > _NAMED else "")
        raise TensorMismatchError(
            f"{adapter.name} changes {len(unknown)} tensor{'s' * (len(unknown) > 1)} that the model does not have: "
            f"{shown}{_trained_on(adapter)}",
            hint="" if close.startswith("known") else close,
        )
    for name in names:
        ref = refs[_full_name(name, refs)]
        low_rank, replaced = adapter.low_rank.get(name), adapter.replaced.get(name)
        for shape in [tuple(replaced.shape)] if replaced else []:
            if shape != ref.shape:
                raise _misfit(adapter, name, shape, ref)
        if low_rank is not None and low_rank.shape != ref.shape:
            raise _misfit(adapter, name, low_rank.shape, ref)
        yield ref, _Change(adapter, low_rank, replaced)


def _misfit(adapter: LoraAdapter, name: str, shape: Sequence[int], ref: TensorRef) -> TensorMismatchError:
    return TensorMismatchError(
        f"{adapter.name} changes {name} with shape {list(shape)}; the model's has {list(ref.shape)}"
        f"{_trained_on(adapter)}",
        hint="an adapter fits the model that it was trained on only",
    )


def _trained_on(adapter: LoraAdapter) -> str:
    return f"; the adapter was trained on {adapter.base}" if adapter.base else ""


def _check_added(base: Checkpoint, name: str, changes: Sequence[_Change]) -> None:
    """Check that a checkpoint whose tensors are known has what is changed; its own lm_head may be the embedding."""
    if base.tensors and name not in base.tensors and name not in ("lm_head.weight", "output.weight"):
        raise TensorMismatchError(f"{changes[0].adapter.name} changes {name}, which the checkpoint does not have")


def _stored_order(ref: TensorRef, start: int, stop: int) -> NDArray[np.int64]:
    """The Hugging Face row of each GGUF row: GGUF row (head, pair, half) is Hugging Face row (head, half, pair)."""
    rows = np.arange(start, stop)
    if not ref.interleaved_heads:
        return rows
    size = ref.shape[0] // ref.interleaved_heads
    inside = rows % size
    return rows - inside + inside % 2 * (size // 2) + inside // 2


def _merged(change: _Change, ref: TensorRef, stored: Array, order: NDArray[np.int64]) -> Array:
    """Apply a change to rows of a tensor; ``order`` holds the rows' numbers in Hugging Face's order."""
    adapter, pair = change.adapter, change.low_rank
    first, last = (int(order.min()), int(order.max()) + 1) if len(order) else (0, 0)
    picked = order - first
    w = stored
    if change.replaced is not None:
        w = adapter.rows(change.replaced, first, last)[picked]
    if pair is not None and len(order):
        with np.errstate(all="ignore"):  # reported below
            if pair.embedding:
                w = w + np.float32(pair.scale) * (adapter.rows(pair.a)[:, order].T @ adapter.rows(pair.b).T)
            else:
                w = w + np.float32(pair.scale) * (adapter.rows(pair.b, first, last)[picked] @ adapter.rows(pair.a))
            if pair.magnitude is not None:
                lengths = adapter.rows(pair.magnitude).reshape(-1)[order]
                w = w * (lengths / np.linalg.norm(w, axis=1))[:, None]
    if (change.replaced is not None or pair is not None) and not np.isfinite(w).all():
        bad = tuple(map(int, np.argwhere(~np.isfinite(w))[0]))
        raise NonFiniteWeightError(
            f"{ref.name} with {adapter.name} merged holds {w[bad]:g} at {[int(order[bad[0]]), *bad[1:]]}: weights must "
            "be finite",
            hint="the adapter or the checkpoint is damaged: fetch it again",
        )
    result: Array = np.ascontiguousarray(w, np.float32)
    return result
