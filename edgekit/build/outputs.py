"""The folders that a build writes. They are checked before any work is done."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..artifact.manifest import FILE_NAME
from ..artifact.writer import check_output
from ..checkpoint.gptq_config import FILE_NAME as GPTQ_FILE
from ..checkpoint.sources import sweep_cache
from ..errors import OutputExistsError, UsageError
from ..leftovers import sweep
from .request import BuildRequest


@dataclass(frozen=True)
class Outputs:
    """The folders of one build.

    Attributes:
        artifact: The artifact.
        emitted: What is written beside it on request; None if nothing is.
        rejected: The artifact, if it misses a threshold.
        marker: A file that tells ``emitted`` from an unrelated folder.
    """

    artifact: Path
    emitted: Path | None
    rejected: Path
    marker: str


def checked_outputs(request: BuildRequest, name: str, sources: Iterable[Path] = ()) -> Outputs:
    """Choose the folders, check that all can be written, and remove what killed builds have left beside them.

    Args:
        request: What was requested.
        name: The name of an artifact for which none was requested.
        sources: Folders and files on this machine that the build reads weights from.

    Raises:
        UsageError: The requested name is not one of a new folder.
        OutputExistsError: A folder exists and may not be replaced, or is or holds one of the sources.
        BuildError: A folder cannot be created or written.
    """
    artifact = Path(request.out) if request.out is not None else Path(name)
    _check_name(artifact)
    emitted = None if request.emit is None else artifact.with_name(f"{artifact.name}-{request.emit}")
    marker = GPTQ_FILE if request.emits_gptq else FILE_NAME
    rejected = artifact.with_name(f"{artifact.name}.rejected")
    if artifact in _sweep(artifact.parent) and not request.force:
        raise OutputExistsError(
            f"{artifact} already exists: an interrupted build with --force had moved it, and it is back in its place",
            hint="--force replaces it, --out chooses another folder",
        )
    check_output(artifact, request.force)
    if emitted is not None:
        check_output(emitted, request.force, marker)
    if request.gate:
        check_output(rejected, force=True)
    for output in filter(None, (artifact, emitted, rejected)):
        _keep_sources(output, sources)
    return Outputs(artifact, emitted, rejected, marker)


def _keep_sources(output: Path, sources: Iterable[Path]) -> None:
    """Refuse to replace what is being read."""
    for source in sources:
        real = source.resolve()
        if output.exists() and any(each.exists() and output.samefile(each) for each in (real, *real.parents)):
            raise OutputExistsError(
                f"{output} would be replaced, and the build reads {source}", hint="--out chooses another folder"
            )


def _check_name(target: Path) -> None:
    """Refuse an output folder that has no name of its own, or one that onnxruntime cannot open."""
    try:
        str(target).encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(
            f"the output folder {str(target)!r} is not valid UTF-8, and onnxruntime opens no other names",
            hint="choose another name; in the locale C, PYTHONUTF8=1 makes Python read names as UTF-8",
        ) from None
    if target.name in ("", "..") or "\0" in str(target):
        raise UsageError(
            f"the output folder is {str(target)!r}, which does not name a new folder",
            hint="give its name: --out FOLDER",
        )


def _sweep(parent: Path) -> list[Path]:
    """Remove what killed builds left behind; returns the artifacts whose replacement was interrupted, now restored."""
    with suppress(OSError):  # there is none
        sweep(Path(tempfile.gettempdir()))
    sweep_cache()
    return sweep(parent)
