"""``edgekit build``: from a request to a checked artifact.

    request -> recipe, device, checkpoint -> plan (refused if it does not fit)       model.py, inputs.py
    -> small files -> weights: as they are, rotated, scaled -> widths, and the plan again
    -> export -> golden test -> quality -> manifest; GPTQ checkpoint, web folder     steps.py
    -> the folder gets its name, or, if it misses a threshold, the name of a rejected one

The artifact is written under a temporary name (``artifact/writer.py``), so a failed build leaves no files behind. An
interrupted calibration can be resumed: run the same command again.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..artifact.manifest import FILE_NAME, Manifest, read_manifest
from ..artifact.signature import open_private_key
from ..artifact.signature import sign as sign_artifact
from ..artifact.writer import check_output, hash_files, hold_ready, whole_folder
from ..calibration.state import sweep_states
from ..checkpoint import Checkpoint, open_checkpoint
from ..checkpoint.gptq_config import FILE_NAME as GPTQ_FILE
from ..checkpoint.sources import sweep_cache
from ..devices.profile import DeviceProfile
from ..errors import EngineError, NativeLibraryError, OutputExistsError, UsageError
from ..host import peak_rss_bytes, physical_cores
from ..inspection.placement import slow_fallbacks
from ..leftovers import sweep
from ..models.spec import untied
from ..planning.choice import check_budget
from ..planning.draft import memory_by_engine, with_artifact
from ..planning.plan import Plan, PlanOptions
from ..planning.planner import plan
from ..progress import Progress, no_progress, phase
from ..recipes import all_recipes
from ..recipes.recipe import Recipe, source_kind
from ..runtime.template_budget import shared_budget
from ..scheme import QuantizationConfig, QuantizationOverrides
from ..weights.merged import MergedCheckpoint
from .adapters import merge
from .conversation import plan_conversation
from .inputs import BuildInputs, carried_quantization, fetch_checkpoint, notes_of, open_inputs
from .request import CALIBRATION_TOKENS, QUALITY_TOKENS, BuildRequest, BuildResult
from .same_model import checked_spec, stored_head
from .text_file import write_text_file

if TYPE_CHECKING:
    from .steps import Job

Planner = Callable[[QuantizationConfig], Plan]


def run_build(
    request: BuildRequest,
    progress: Progress = no_progress,
    on_plan: Callable[[Plan], None] = lambda planned: None,
    on_notes: Callable[[Sequence[str]], None] = lambda notes: None,
) -> BuildResult:
    """Build an artifact.

    Args:
        request: What to build.
        progress: Receives the progress of each phase.
        on_plan: Called with the plan before any weight is read, and again if the plan changes.
        on_notes: Called with the notes about the checkpoint, if there are any, before any weight is read.

    Returns:
        Where the artifact is, its manifest, and what the build took.

    Raises:
        QualityError: The artifact misses a threshold; it is kept as ``<out>.rejected``.
        BudgetError: The plan, or the finished artifact, does not fit the device or exceeds a limit of the request; the
            message lists options that fit.
        EdgekitError: Another class of ``errors.py``.
    """
    started = time.perf_counter()
    _created()  # what is not valid is refused before any work
    if request.sign is not None:
        open_private_key(request.sign)
    with shared_budget(), ExitStack() as stack:
        inputs = open_inputs(request, stack, progress)
        quantization, checkpoint = inputs.quantization, inputs.checkpoint
        described = checkpoint or inputs.preview
        if described is not None:
            inputs = _with_stored_head(inputs, described)
            quantization = carried_quantization(quantization, inputs.recipe.quantization, described)
        _check_calibration(request, quantization)
        target, emit_target, rejected = _outputs(request, inputs)
        sweep_states(target.parent, finished="")
        planner = partial(_plan, request, inputs, on_plan)
        planned = planner(quantization)
        if checkpoint is None:
            opened = stack.enter_context(open_checkpoint(fetch_checkpoint(request, inputs.recipe, progress)))
            checkpoint = merge(opened, inputs.adapters)
            fetched = _with_stored_head(inputs, checkpoint)
            carried = carried_quantization(inputs.quantization, inputs.recipe.quantization, checkpoint)
            if carried != quantization or fetched is not inputs:
                quantization, inputs = carried, fetched
                planner = partial(_plan, request, inputs, on_plan)
                planned = planner(quantization)
        spec = checked_spec(checkpoint, inputs.recipe, str(request.checkpoint or inputs.recipe.source))
        conversation = plan_conversation(request, inputs.recipe, checkpoint)
        planned = replace(planned, notes=(*inputs.notes, *notes_of(checkpoint), *conversation.notes))
        if planned.notes:
            on_notes(planned.notes)
        from .steps import Job, pass_gate

        emitted = None
        if emit_target is not None:  # it gets its name after the artifact, whose block is the inner one
            emitted = stack.enter_context(whole_folder(emit_target, request.force, _marker(request)))
        folder = stack.enter_context(whole_folder(target, request.force))
        job = Job(
            request=request,
            recipe=inputs.recipe,
            device=inputs.device,
            checkpoint=checkpoint,
            spec=spec,
            conversation=conversation,
            written=untied(spec) if quantization.rotate else spec,
            target=target,
            folder=folder,
            threads=request.threads or physical_cores(),
            progress=progress,
        )
        planned, manifest = _write(job, emitted, quantization, planned, planner, on_notes)
        pass_gate(manifest, folder, rejected, emit_target)
        if emitted is not None:
            hold_ready(emitted)
    sweep_states(target.parent, finished=target.name)
    return BuildResult(target, manifest, planned, time.perf_counter() - started, peak_rss_bytes(), emit_target)


def _with_stored_head(inputs: BuildInputs, opened: Checkpoint) -> BuildInputs:
    """The inputs with a recipe whose lm_head is the checkpoint's; unchanged if it is already."""
    recipe, notes = stored_head(inputs.recipe, opened)
    return inputs if recipe is inputs.recipe else replace(inputs, recipe=recipe, notes=(*inputs.notes, *notes))


def _check_calibration(request: BuildRequest, quantization: QuantizationConfig) -> None:
    needed = quantization.method == "gptq" or quantization.mean_bits is not None or quantization.scale
    if request.calibration is not None and not needed:
        raise UsageError(
            f"a calibration text is given, but the method {quantization.method} does not use one",
            hint="add --method gptq, --scale, or --bits with a mean such as 4.8",
        )


def _outputs(request: BuildRequest, inputs: BuildInputs) -> tuple[Path, Path | None, Path]:
    """The folders of the artifact, of what is emitted and of a rejected artifact, which can all be written."""
    target = Path(request.out) if request.out is not None else Path(f"{inputs.recipe.name}-{inputs.device.name}")
    _check_name(target)
    emit_target = None if request.emit is None else target.with_name(f"{target.name}-{request.emit}")
    rejected = target.with_name(f"{target.name}.rejected")
    if target in _sweep(target.parent) and not request.force:
        raise OutputExistsError(
            f"{target} already exists: an interrupted build with --force had moved it, and it is back in its place",
            hint="--force replaces it, --out chooses another folder",
        )
    check_output(target, request.force)
    if emit_target is not None:
        check_output(emit_target, request.force, _marker(request))
    if request.gate:
        check_output(rejected, force=True)
    return target, emit_target, rejected


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


def _marker(request: BuildRequest) -> str:
    """The file that tells what is emitted from an unrelated folder."""
    return GPTQ_FILE if request.emits_gptq else FILE_NAME


def _sweep(parent: Path) -> list[Path]:
    """Remove what killed builds left behind; returns the artifacts whose replacement was interrupted, now restored."""
    with suppress(OSError):  # there is none
        sweep(Path(tempfile.gettempdir()))
    sweep_cache()
    return sweep(parent)


def _plan(
    request: BuildRequest, inputs: BuildInputs, on_plan: Callable[[Plan], None], quantization: QuantizationConfig
) -> Plan:
    """Plan these formats, show the plan, and refuse it if it does not fit."""
    options = request.plan_options
    planned = plan(inputs.recipe, inputs.device, request.context, quantization, all_recipes(), options=options)
    on_plan(planned)
    if not request.anyway:
        check_budget(planned)
    return planned


def _write(
    job: Job,
    emitted: Path | None,
    quantization: QuantizationConfig,
    planned: Plan,
    planner: Planner,
    on_notes: Callable[[Sequence[str]], None],
) -> tuple[Plan, Manifest]:
    """Write the artifact into the job's folder; return the plan with real sizes, and the manifest."""
    from . import steps

    if emitted is not None and job.request.emits_gptq:
        steps.check_emit(job, quantization, job.max_context(planned))
    described: dict[str, Any] = {}
    with steps.background_hashes(job.checkpoint.files) as source_files, steps.resumable(job.resume_path("widths")):
        files = steps.write_small_files(job, planned)
        weights = steps.open_weights(job, quantization.rotate)
        facts = job.facts(quantization, planned)
        if quantization.scale:
            weights, described["scaling"] = steps.scale_weights(job, weights, quantization, facts)
        if quantization.mean_bits is not None:
            quantization, described["widths"] = steps.choose_widths(job, weights, quantization, facts)
            planned = replace(planner(quantization), notes=planned.notes)
            facts = job.facts(quantization, planned)
        job, weights, shrunk, note = steps.fit_float16(job, weights, facts)
        planned = _noted(planned, () if note is None else (note,), on_notes)
        if shrunk:
            facts = replace(facts, quantization=facts.quantization | {"activation_scale": shrunk})
        with steps.layer_quantizer(job, weights, quantization, facts, files) as (layers, calibration):
            layout = steps.export(job, weights, quantization, job.max_context(planned), layers)
            if emitted is not None and job.request.emits_gptq:
                planned = _noted(planned, steps.emit_gptq(job, emitted, layout, weights, files), on_notes)
            planned = with_artifact(planned, layout.size_bytes, len(files["tokenizer.json"]))
            if not job.request.anyway:
                check_budget(planned)
        weights.release()
        planned = _noted(planned, write_text_file(job.folder, facts), on_notes)
        golden = steps.record_answer(job, facts, layout.size_bytes)
        quality = steps.measure_quality(job, facts, layout.size_bytes)
        report = phase(job.progress, "hashing files")
        manifest = Manifest(
            name=facts.name,
            edgekit_version=version("edgekit-llm"),
            created=_created(),
            model=facts.model,
            source=_described_source(job, source_files()),
            recipe={"name": job.recipe.name, "title": job.recipe.title, "licence": job.recipe.licence},
            device={"name": job.device.name, "title": job.device.title},
            plan=_lasting(planned) | {"engine_bytes": memory_by_engine(job.recipe, job.device, planned)},
            quantization=facts.quantization | described | calibration,
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
            files=hash_files(sorted(job.folder.iterdir()), report),
        )
        manifest = manifest.write(job.folder)
        _sign(job, job.folder, manifest)
    if emitted is not None and job.request.emit == "web":
        planned = _noted(planned, steps.emit_web(job, emitted, manifest), on_notes)
        _sign(job, emitted, read_manifest(emitted))
    return _noted(planned, _fallbacks(job, manifest, planned), on_notes), manifest


def _sign(job: Job, folder: Path, manifest: Manifest) -> None:
    """Sign a finished artifact, if that was requested."""
    if job.request.sign is not None and manifest.digest is not None:
        sign_artifact(folder, manifest.digest, job.request.sign)


def _created() -> str:
    """The time of the build; SOURCE_DATE_EPOCH can set it (https://reproducible-builds.org/specs/source-date-epoch/).

    Raises:
        UsageError: The variable is not a number of seconds.
    """
    given = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        time_of_build = datetime.now(timezone.utc) if not given else datetime.fromtimestamp(int(given), timezone.utc)
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"SOURCE_DATE_EPOCH is {given!r}; it must be a number of seconds since 1970") from None
    return time_of_build.isoformat(timespec="seconds")


def _fallbacks(job: Job, manifest: Manifest, planned: Plan) -> tuple[str, ...]:
    """Notes on parts that the planned engine runs slowly on the device. A model that does not fit is not opened."""
    if not planned.fits:
        return ()
    try:
        return slow_fallbacks(job.folder, manifest, planned.engine, job.device)
    except (EngineError, NativeLibraryError) as error:
        return (f"where the engine {planned.engine} runs each node is unknown: {error.message}",)


def _noted(planned: Plan, notes: Sequence[str], on_notes: Callable[[Sequence[str]], None]) -> Plan:
    """Report notes, if there are any, and return the plan with them."""
    if not notes:
        return planned
    on_notes(notes)
    return replace(planned, notes=(*planned.notes, *notes))


def _described_source(job: Job, files: dict[str, Any]) -> dict[str, Any]:
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


def build(
    model: str | Path | Recipe | None = None,
    device: str | Path | DeviceProfile = "cpu",
    *,
    checkpoint: str | Path | None = None,
    lora: Sequence[str | Path] = (),
    context: int | None = None,
    quantization: QuantizationConfig | QuantizationOverrides | None = None,
    out: str | Path | None = None,
    emit: str | None = None,
    force: bool = False,
    calibration: str | Path | None = None,
    calibration_tokens: int = CALIBRATION_TOKENS,
    reasoning: bool | None = None,
    chat_template: str | Path | None = None,
    stop: Sequence[str] = (),
    gate: bool = True,
    quality_tokens: int = QUALITY_TOKENS,
    threads: int | None = None,
    plan_options: PlanOptions | None = None,
    anyway: bool = False,
    sign: str | Path | None = None,
    progress: Progress = no_progress,
    on_plan: Callable[[Plan], None] = lambda planned: None,
    on_notes: Callable[[Sequence[str]], None] = lambda notes: None,
) -> BuildResult:
    """Build an artifact: :func:`run_build` with the fields of a :class:`BuildRequest` as arguments.

        edgekit.build("smollm2-135m", "jetson")
        edgekit.build(device="pi", checkpoint="my-finetune", quantization=QuantizationOverrides(method="gptq"))

    Args, return value and exceptions are those of :class:`BuildRequest` and :func:`run_build`.
    """
    request = BuildRequest(
        model=model, device=device, checkpoint=checkpoint, lora=tuple(lora), context=context,
        quantization=quantization, out=out, emit=emit, force=force, calibration=calibration,
        calibration_tokens=calibration_tokens,
        reasoning=reasoning, chat_template=chat_template, stop=tuple(stop), gate=gate,
        quality_tokens=quality_tokens, threads=threads, plan_options=plan_options, anyway=anyway, sign=sign,
    )  # fmt: skip
    return run_build(request, progress, on_plan, on_notes)
