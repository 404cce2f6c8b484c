"""Symbolic links in folders that others have written: none may lead out of its folder.

A folder may come from anywhere, and what it holds is copied into artifacts and bundles. A link to a file outside would
copy that file, whatever it is. The one exception is the cache of the Hugging Face hub, whose snapshots are folders of
links into ``blobs`` of the same repository:

    models--OWNER--NAME/blobs/1f0c...                                 the files
    models--OWNER--NAME/snapshots/COMMIT/config.json -> ../../blobs/1f0c...

Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path


def find_links(folder: Path) -> Iterator[tuple[str, str]]:
    """The links in a folder that must not be followed, and everything else that is neither a file nor a folder.

    Args:
        folder: The folder, which may be a link itself: somebody has named it.

    Yields:
        The path from the folder, and what is wrong: ``is a link to /etc/passwd, which is outside the folder``.
    """
    for root, folders, files in os.walk(folder):
        for name in sorted((*folders, *files)):
            path = Path(root, name)
            problem = bad_link(path, folder)
            if problem is None and not path.is_dir() and not path.is_file():
                problem = "is neither a file nor a folder"
            if problem is not None:
                yield path.relative_to(folder).as_posix(), problem


def bad_link(path: Path, folder: Path) -> str | None:
    """What is wrong with a path that is, or goes through, a link; None if nothing is.

    Args:
        path: A path in the folder. It need not exist if it is no link.
        folder: The folder that the path must not leave, however it is spelled.

    Returns:
        A phrase that follows the path's name.
    """
    try:
        target = os.readlink(path) if stat.S_ISLNK(os.lstat(path).st_mode) else None
    except OSError:  # it does not exist
        return None
    try:
        real = Path(os.path.realpath(path, strict=True))
    except FileNotFoundError:
        return f"is a link to {target}, which does not exist"
    except OSError:
        return f"is a link to {target}, which leads back to itself"
    home = Path(os.path.realpath(folder))
    if any(real.is_relative_to(allowed) for allowed in (home, *_blobs(home))):
        return None
    if target is None:
        return f"is reached through a link to {real.parent}, which is outside the folder"
    return f"is a link to {target}, which is outside the folder"


def _blobs(home: Path) -> Iterator[Path]:
    """Where the links of a folder in the cache of the Hugging Face hub lead."""
    for parent in home.parents:
        if parent.name == "snapshots" and parent.parent.name.startswith(("models--", "datasets--")):
            yield parent.parent / "blobs"
