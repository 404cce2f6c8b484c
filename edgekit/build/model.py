"""What MODEL means: a recipe, a checkpoint on this machine, or a repository on the Hugging Face hub.

The first of these rules that applies decides:

    1. a web address, ``hf.co/owner/name``              a repository
    2. ``NAME.toml``                                    a recipe file
    3. ``./NAME``, ``../NAME``, ``/NAME``, ``~/NAME``   a folder or a file
    4. the name or alias of a recipe                    that recipe, even if a folder has the same name
    5. an existing folder or file                       that checkpoint, even if a repository has the same name
    6. ``owner/name``, with ``@revision`` or ``:FILE``  a repository; if it is the source of a recipe, that recipe

A repository's small files are fetched for the plan, and its weights when the build starts.
"""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CheckpointError, SourceError, UnknownNameError, nearest, shown_command
from ..host import expanded
from ..progress import Progress, no_progress
from ..recipes import FolderSource, HubSource, Recipe, all_recipes, load_recipe
from ..recipes.registry import LIBRARY

if TYPE_CHECKING:
    from ..checkpoint.base import Checkpoint
    from ..recipes.hub_name import HubName

ARTIFACT_FILE = "edgekit.json"
_FORMS = (
    "MODEL may be a recipe (edgekit recipes lists them), a recipe file (.toml), a checkpoint folder, a .gguf file or a "
    "Hugging Face repository (owner/name)"
)


@dataclass(frozen=True)
class Found:
    """What a name means.

    Args:
        what: A recipe, the path of a checkpoint, or a repository.
        notes: Sentences for the user about how the name was understood.
    """

    what: Recipe | Path | HubName
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class OpenedModel:
    """A model that can be planned.

    Args:
        recipe: Its recipe, or one made for its checkpoint.
        checkpoint: The open checkpoint, or the preview of one on the hub; None for a recipe whose source is remote.
        fetched: Whether ``checkpoint`` is the checkpoint itself, so that its weights can be read.
        notes: Sentences for the user.
    """

    recipe: Recipe
    checkpoint: Checkpoint | None = None
    fetched: bool = False
    notes: tuple[str, ...] = ()


def find_model(name: str | Path | Recipe) -> Found:
    """Find out what MODEL means; see the rules at the top of this module. Nothing is fetched.

    Raises:
        UnknownNameError: Nothing has this name; the message suggests similar ones.
        RecipeError: A recipe file is not valid.
        SourceError: The name is a web address, but not of a model on the hub.
        CheckpointError: There is no such file or folder.
    """
    if isinstance(name, Recipe):
        return Found(name)
    from ..recipes.hub_name import parse_hub_name

    text = str(name)
    is_path = isinstance(name, Path) or text.startswith(("./", "../", "/", "~", ".\\")) or text in (".", "..")
    if text.endswith(".toml"):
        return Found(load_recipe(expanded(text)))
    if not is_path and text.lower() in {*LIBRARY.names(), *LIBRARY.alias_names()}:
        recipe = load_recipe(text)
        hidden = f"{text} means the recipe {recipe.name}; for the folder of that name, write ./{text}"
        return Found(recipe, (hidden,) if _exists(Path(text)) else ())
    hub = None if is_path else parse_hub_name(text)
    path = expanded(text)
    if text and _exists(path):
        hidden = f"{text} means the folder or file of that name; for the Hugging Face repository, write hf.co/{text}"
        return Found(path, (hidden,) if hub is not None and "://" not in text else ())
    if is_path or (text.endswith(".gguf") and hub is None):
        raise CheckpointError(f"{text} does not exist", hint=_similar_paths(path) or _FORMS)
    if hub is not None:
        return _recipe_of_repository(hub)
    raise UnknownNameError(f"there is no model {text!r}; {_near_misses(text)}", hint=_FORMS)


def find_checkpoint(name: str | Path) -> Path | HubName:
    """Find out what --checkpoint means: a path, or a repository if there is no such path. Nothing is fetched.

    Raises:
        SourceError: The name is a web address, but not of a model on the hub.
    """
    from ..recipes.hub_name import parse_hub_name

    path = expanded(name)
    if isinstance(name, Path) or _exists(path) or str(name).startswith(("./", "../", "/", "~")):
        return path
    return parse_hub_name(str(name)) or path


def open_model(
    found: Found, stack: ExitStack, progress: Progress = no_progress, template: str | None = None
) -> OpenedModel:
    """Open what a name means, as far as a plan needs it. No weights are fetched.

    Args:
        found: From :func:`find_model`.
        stack: Closes the checkpoint.
        progress: Called with the bytes of the small files of a repository.
        template: The source of a chat template that replaces the checkpoint's.

    Raises:
        SourceError: The repository does not exist, holds no weights that edgekit reads, or holds several models.
        CheckpointError: The checkpoint cannot be used.
    """
    what = found.what
    if isinstance(what, Recipe):
        if isinstance(what.source, FolderSource) and Path(what.source.path).exists():
            return OpenedModel(what, stack.enter_context(_open_path(Path(what.source.path))), True, found.notes)
        return OpenedModel(what, notes=found.notes)
    from .inputs import recipe_from_checkpoint

    if isinstance(what, Path):
        opened = stack.enter_context(_open_path(what))
        return OpenedModel(recipe_from_checkpoint(opened, what, template), opened, True, found.notes)
    from ..checkpoint.preview import preview_hub

    source = hub_source(what)
    preview = preview_hub(source.repository, source.revision, source.file, progress)
    recipe = recipe_from_checkpoint(preview, Path(source.repository.rpartition("/")[2]), template)
    recipe = dataclasses.replace(recipe, title=source.repository, source=source)
    return OpenedModel(recipe, preview, notes=found.notes)


def hub_source(name: HubName) -> HubSource:
    """Look up a repository's commit, and the GGUF file that is meant.

    Raises:
        SourceError: The repository does not exist, holds no weights that edgekit reads, or holds several models.
        NetworkError: The hub cannot be reached.
    """
    from ..checkpoint.hub import list_hub
    from ..recipes.hub_name import HubName, choose_gguf, gguf_files

    try:
        listed = list_hub(name.repository, name.revision or "main")
    except SourceError as error:
        close = nearest(
            name.repository, [r.source.repository for r in all_recipes() if isinstance(r.source, HubSource)]
        )
        more = ["there is no file or folder of this name either"] if name == HubName(name.repository) else []
        more += [] if close.startswith("known") else [close]
        raise type(error)(error.message, "; ".join([*filter(None, [error.hint]), *more])) from error
    top = [n for n in listed.names if "/" not in n]
    if name.file:
        return HubSource(listed.repository, listed.commit, choose_gguf(name.repository, listed.names, name.file))
    if any(n.endswith(".safetensors") for n in top) and "config.json" in top:
        return HubSource(listed.repository, listed.commit)
    if gguf_files(listed.names):
        return HubSource(listed.repository, listed.commit, choose_gguf(name.repository, listed.names, ""))
    raise _unusable_repository(name.repository, top)


def _unusable_repository(repository: str, names: list[str]) -> SourceError:
    if "adapter_config.json" in names:
        return SourceError(
            f"{repository} is an adapter, not a model: it has adapter_config.json and no config.json",
            hint=f"build the model that it was trained on with --lora {repository}",
        )
    pickled = [n for n in names if n.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    if pickled:
        return SourceError(
            f"{repository} holds PyTorch's pickled weights only ({pickled[0]}), which edgekit does not read, because "
            "loading them runs code",
            hint="look for a revision or a copy with safetensors, or convert it with transformers: "
            f'AutoModelForCausalLM.from_pretrained("{repository}").save_pretrained(FOLDER)',
        )
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return SourceError(
        f"{repository} holds no weights that edgekit reads; found: {shown or 'no files'}",
        hint="edgekit reads config.json with .safetensors files, and .gguf files",
    )


def _recipe_of_repository(hub: HubName) -> Found:
    """The recipe whose source is a repository, otherwise the repository itself."""
    for recipe in all_recipes():
        source = recipe.source
        if not isinstance(source, HubSource) or hub.file or source.repository.lower() != hub.repository.lower():
            continue
        said = f"{source.repository} is the source of the recipe {recipe.name}, whose settings are used"
        if hub.revision is None:
            return Found(recipe, (f"{said}; the recipe pins revision {source.revision[:12]}",))
        if source.revision.startswith(hub.revision) and len(hub.revision) >= 7:
            return Found(recipe, (said,))
        moved = hub_source(hub)
        return Found(dataclasses.replace(recipe, source=moved), (f"{said}, with the weights of {hub.revision}",))
    return Found(hub)


def _open_path(path: Path) -> Checkpoint:
    if (path / ARTIFACT_FILE).is_file():
        raise CheckpointError(
            f"{path} is a built artifact, not a checkpoint",
            hint=f"{shown_command('run', path)} talks to it; build from its source",
        )
    from ..checkpoint import open_checkpoint

    return open_checkpoint(path)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a path, or with a null byte
        return False


def _near_misses(text: str) -> str:
    """A phrase that suggests recipes, their repositories, and files and folders with similar names."""
    known = {*LIBRARY.names(), *LIBRARY.alias_names()}
    paths = _siblings(Path(text))
    close = nearest(text.lower(), {*known, *paths})
    if close.startswith("known"):
        repositories = {r.source.repository for r in all_recipes() if isinstance(r.source, HubSource)}
        named = {repository.rpartition("/")[2]: repository for repository in repositories}
        close = nearest(text, named)
    return nearest(text, known) if close.startswith("known") else close


def _similar_paths(path: Path) -> str:
    names = _siblings(path)
    close = nearest(str(path), names) if names else ""
    return "" if close.startswith("known") else close


def _siblings(path: Path) -> list[str]:
    """The checkpoints and recipe files beside a path, written as the path is."""
    try:
        inside = list(expanded(path).parent.iterdir())
    except (OSError, ValueError):
        return []
    return [str(path.parent / p.name) for p in inside if p.is_dir() or p.suffix in (".gguf", ".toml")]
