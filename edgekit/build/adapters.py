"""``--lora``: finds and opens adapters, and merges them into the checkpoint that a build or a plan reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ..checkpoint.base import Checkpoint
from ..checkpoint.hub import fetch_hub, list_hub
from ..checkpoint.lora import CONFIG_FILE, WEIGHTS_FILE, LoraAdapter
from ..errors import CheckpointError, SourceError, told_paths
from ..models import spec_from_config
from ..progress import Progress, no_progress
from ..recipes import Recipe
from ..weights.merged import MergedCheckpoint, check_adapters, merged_config
from .model import find_checkpoint


@told_paths()
def open_adapters(
    names: Sequence[str | Path], stack: ExitStack, progress: Progress = no_progress
) -> tuple[LoraAdapter, ...]:
    """Open adapters.

    Args:
        names: Folders, or repositories on the hub, which are fetched.
        stack: Closes them.
        progress: Called with the bytes of a download.

    Raises:
        CheckpointError: A folder is not an adapter that edgekit can merge.
        SourceError: A repository cannot be fetched or holds no adapter.
    """
    adapters = []
    for name in names:
        adapter = LoraAdapter(_folder(name, progress), str(name))
        stack.callback(adapter.close)
        adapters.append(adapter)
    return tuple(adapters)


def merge(checkpoint: Checkpoint, adapters: Sequence[LoraAdapter]) -> Checkpoint:
    """The checkpoint with adapters merged into it; the checkpoint itself if there are none."""
    return MergedCheckpoint(checkpoint, adapters) if adapters else checkpoint


def adapted(recipe: Recipe, adapters: Sequence[LoraAdapter]) -> Recipe:
    """The recipe of the merged model.

    Raises:
        TensorMismatchError: An adapter does not fit the recipe's model.
    """
    if not adapters:
        return recipe
    check_adapters(recipe.config, adapters)
    config = merged_config(recipe.config, adapters)
    return dataclasses.replace(recipe, config=config, parameters=spec_from_config(config).parameters)


def _folder(name: str | Path, progress: Progress) -> Path:
    found = find_checkpoint(name)
    if isinstance(found, Path):
        if found.is_file() and found.name in (CONFIG_FILE, WEIGHTS_FILE):
            return found.parent
        if not found.is_dir():
            what = "is not a folder" if found.exists() else "does not exist"
            hint = f"--lora takes a folder with {CONFIG_FILE} and {WEIGHTS_FILE}"
            raise CheckpointError(f"{found} {what}", hint=hint)
        return found
    listed = list_hub(found.repository, found.revision or "main")
    if CONFIG_FILE not in listed.names:
        raise SourceError(
            f"{found} is not a LoRA adapter: it has no {CONFIG_FILE}",
            hint="there is no folder of that name either; --lora takes an adapter, and MODEL the model",
        )
    return fetch_hub(listed.repository, listed.commit, progress)
