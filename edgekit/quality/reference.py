"""Opens the float model that an artifact is compared with, and checks that the artifact was built from that model.

The manifest says which adapters were merged, and what the rotary embedding's attention factor is; a recipe may state
one that the checkpoint's files do not (``attn_factor``, see ``models/rope.py``).
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..artifact.manifest import Manifest
from ..checkpoint import Checkpoint, open_checkpoint
from ..checkpoint.lora import LoraAdapter
from ..errors import TensorMismatchError, UsageError
from ..models import ModelSpec, spec_from_config
from ..models.rope import Rope
from ..weights.merged import MergedCheckpoint

# What decides an adapter's change of the weights, as LoraAdapter.described() tells it.
_DECIDING = ("sha256", "alpha", "use_rslora", "use_dora", "alpha_pattern")
_HINT = "--reference takes the checkpoint the artifact was built from"


@contextmanager
def open_reference(
    reference: str | Path, lora: Sequence[str | Path], manifest: Manifest
) -> Iterator[tuple[Checkpoint, ModelSpec]]:
    """Open the checkpoint that an artifact was built from, with its adapters merged.

    Args:
        reference: A Hugging Face folder or a .gguf file.
        lora: The folders of the adapters, in the order of the build.
        manifest: The artifact's.

    Yields:
        The checkpoint, and its model with the artifact's attention factor.

    Raises:
        UsageError: The artifact was built with adapters, and others or none are given.
        TensorMismatchError: The checkpoint or an adapter is not what the artifact was built from.
        CheckpointError: One of them cannot be opened.
    """
    recorded = manifest.source.get("adapters") or []
    _check_count(lora, recorded, manifest.name)
    with ExitStack() as stack:
        adapters = []
        for name in lora:
            adapters.append(LoraAdapter(Path(name), str(name)))
            stack.callback(adapters[-1].close)
        for adapter, expected in zip(adapters, recorded, strict=True):
            _check_adapter(adapter, expected, manifest.name)
        opened: Checkpoint = stack.enter_context(open_checkpoint(Path(reference)))
        if adapters:
            opened = MergedCheckpoint(opened, adapters)
        spec = spec_from_config(opened.config)
        for name in ("model_type", "vocab_size", "num_layers", "parameters"):
            if getattr(spec, name) != manifest.model[name]:
                raise TensorMismatchError(
                    f"{name} of {reference} is {getattr(spec, name)}; the artifact {manifest.name} has "
                    f"{manifest.model[name]}",
                    hint=_HINT,
                )
        yield opened, replace(spec, rope=_as_built(spec.rope, manifest, reference))


def _check_count(lora: Sequence[str | Path], recorded: Sequence[Mapping[str, Any]], artifact: str) -> None:
    if len(lora) == len(recorded):
        return
    names = ", ".join(str(adapter.get("path")) for adapter in recorded)
    if not recorded:
        raise UsageError(
            f"--lora was given, but the artifact {artifact} was built without adapters", hint="leave --lora out"
        )
    given = f"{len(lora)} were given" if lora else "--lora was not given"
    words = " ".join(f"--lora {shlex.quote(str(adapter.get('path')))}" for adapter in recorded)
    raise UsageError(
        f"the artifact {artifact} was built with {len(recorded)} adapter{'s' if len(recorded) > 1 else ''} merged "
        f"({names}), and {given}: the reference would be another model",
        hint=f"give the adapters as in the build, in the same order: {words}; each has to be a folder on this machine",
    )


def _check_adapter(adapter: LoraAdapter, expected: Mapping[str, Any], artifact: str) -> None:
    found = adapter.described()
    for key in _DECIDING:
        if key in expected and found[key] != expected[key]:
            raise TensorMismatchError(
                f"{key} of the adapter {adapter.name} is {found[key]}; the artifact {artifact} was built with "
                f"{expected.get('path')}, whose {key} is {expected[key]}",
                hint="--lora takes the adapters that the artifact was built with, in the same order",
            )


def _as_built(found: Rope, manifest: Manifest, reference: str | Path) -> Rope:
    """The checkpoint's rotary embedding with the attention factor that the artifact was built with."""
    built = manifest.model.get("rope", {}).get("attention_factor")  # older artifacts do not record it
    if built is None or math.isclose(found.attention_factor, built, rel_tol=1e-6):
        return found
    if found.attn_factor is None and manifest.model["rope"].get("attn_factor") is not None:
        return replace(found, attention_factor=built)
    raise TensorMismatchError(
        f"the attention factor of {reference} is {found.attention_factor:.8g}; the artifact {manifest.name} has "
        f"{built:.8g}",
        hint=_HINT,
    )
