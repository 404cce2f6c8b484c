"""The manifest of a finished artifact: what it holds, what it was made of, and how."""

from __future__ import annotations

import dataclasses
import os
from datetime import datetime, timezone
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ..artifact.manifest import Manifest, RuntimeFacts
from ..artifact.writer import hash_files
from ..errors import UsageError
from ..layout import DataLayout
from ..planning.draft import memory_by_engine
from ..planning.plan import Plan
from ..progress import phase
from ..recipes.recipe import source_kind
from ..weights.merged import MergedCheckpoint

if TYPE_CHECKING:
    from .steps import Job


def artifact_manifest(
    job: Job,
    facts: RuntimeFacts,
    planned: Plan,
    layout: DataLayout,
    *,
    golden: dict[str, Any],
    quality: dict[str, Any] | None,
    source_files: dict[str, Any],
) -> Manifest:
    """Describe the artifact in the job's folder, after all its other files are written.

    Args:
        job: The build.
        facts: What engines and sessions need.
        planned: The plan, with real sizes.
        layout: Where every weight is in the weight file.
        golden: The artifact's own answer, for the smoke test.
        quality: The comparison with the float model; None if the gate is off.
        source_files: Size and digest of each file of the checkpoint.

    Raises:
        UsageError: As for :func:`time_of_build`.
    """
    return Manifest(
        name=facts.name,
        edgekit_version=version("edgekit-llm"),
        created=time_of_build(),
        model=facts.model,
        source=_source(job, source_files),
        recipe={"name": job.recipe.name, "title": job.recipe.title, "licence": job.recipe.licence},
        device={"name": job.device.name, "title": job.device.title},
        plan=_lasting(planned) | {"engine_bytes": memory_by_engine(job.recipe, job.device, planned)},
        quantization=facts.quantization,
        activation_type=facts.activation_type,
        reasoning=facts.reasoning,
        reasoning_signs=facts.reasoning_signs,
        sampling=facts.sampling,
        tokens=facts.tokens,
        stop_texts=facts.stop_texts,
        bits_per_weight=round(layout.weight_bytes * 8 / job.spec.parameters, 4),
        quality=quality,
        notes=list(planned.notes),
        golden=golden,
        files=hash_files(sorted(job.folder.iterdir()), phase(job.progress, "hashing files")),
    )


def time_of_build() -> str:
    """The time of the build; SOURCE_DATE_EPOCH can set it (https://reproducible-builds.org/specs/source-date-epoch/).

    Raises:
        UsageError: The variable is not a number of seconds.
    """
    given = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        moment = datetime.now(timezone.utc) if not given else datetime.fromtimestamp(int(given), timezone.utc)
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"SOURCE_DATE_EPOCH is {given!r}; it must be a number of seconds since 1970") from None
    return moment.isoformat(timespec="seconds")


def _source(job: Job, files: dict[str, Any]) -> dict[str, Any]:
    """The manifest's ``source``."""
    source = {"kind": source_kind(job.recipe.source), **dataclasses.asdict(job.recipe.source)}
    source.pop("path", None)  # a path on the builder's disk means nothing elsewhere
    if job.checkpoint.quantization:
        source |= {"format": job.checkpoint.format, "quantize_config": dict(job.checkpoint.quantization)}
    if isinstance(job.checkpoint, MergedCheckpoint):
        source["adapters"] = [adapter.described() for adapter in job.checkpoint.adapters]
    return source | {"files": files}


def _lasting(planned: Plan) -> dict[str, Any]:
    """The plan as JSON, without the memory that this host happened to have free, and without the manifest's notes."""
    left_out = ("usable_bytes", "usable_source", "notes")
    return {key: value for key, value in planned.to_json().items() if key not in left_out}
