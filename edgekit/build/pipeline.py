"""``edgekit build``: from a request to a checked artifact.

    request -> recipe, device, checkpoint -> plan (refused if it does not fit)       model.py, inputs.py
    -> small files -> weights: as they are, rotated, scaled -> widths, and the plan again
    -> export -> golden test -> quality -> manifest; GPTQ checkpoint, web folder     steps.py
    -> the folder gets its name, or, if it misses a threshold, the name of a rejected one

The artifact is written under a temporary name (``artifact/writer.py``), so a failed build leaves no files behind. An
interrupted calibration can be resumed: run the same command again. The work of a calibration is also kept if the
artifact then misses the budget or cannot be emitted, because other options may use it (``calibration/gptq.py``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments import one_or_several
from ..artifact.manifest import Manifest, read_manifest
from ..artifact.signature import open_private_key
from ..artifact.signature import sign as sign_artifact
from ..artifact.writer import hold_ready, whole_folder
from ..calibration.state import sweep_states
from ..checkpoint import Checkpoint, open_checkpoint
from ..devices.profile import DeviceProfile
from ..errors import EngineError, NativeLibraryError, UsageError, told_paths
from ..host import peak_rss_bytes, physical_cores
from ..inspection.placement import slow_fallbacks
from ..layout import check_matrices, plan_layout
from ..models.spec import untied
from ..planning.choice import as_requested, check_budget
from ..planning.draft import with_artifact
from ..planning.plan import Plan, PlanOptions
from ..planning.planner import plan
from ..progress import Progress, no_progress
from ..recipes import all_recipes
from ..recipes.recipe import Recipe
from ..runtime.template_budget import shared_budget
from ..scheme import IMPORTED, QuantizationConfig, QuantizationOverrides
from .adapters import merge
from .conversation import plan_conversation
from .inputs import BuildInputs, carried_quantization, fetch_checkpoint, notes_of, open_inputs
from .manifest import artifact_manifest, time_of_build
from .outputs import checked_outputs
from .request import BuildRequest, BuildResult
from .same_model import checked_spec, stored_head
from .source_files import source_files
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
    time_of_build()  # what is not valid is refused before any work
    if request.sign is not None:
        open_private_key(request.sign)
    with told_paths(), shared_budget(), ExitStack() as stack:
        inputs = open_inputs(request, stack, progress)
        quantization, checkpoint = inputs.quantization, inputs.checkpoint
        described = checkpoint or inputs.preview
        if described is not None:
            inputs, quantization = _as_stored(request, inputs, described)
        _check_calibration(request, quantization)
        outputs = checked_outputs(request, f"{inputs.recipe.name}-{inputs.device.name}", inputs.local_files)
        sweep_states(outputs.artifact.parent, finished="")
        planner = partial(_plan, request, inputs, on_plan)
        planned = planner(quantization)
        if checkpoint is None:
            opened = stack.enter_context(open_checkpoint(fetch_checkpoint(request, inputs.recipe, progress)))
            checkpoint = merge(opened, inputs.adapters)
            fetched, carried = _as_stored(request, inputs, checkpoint)
            _check_calibration(request, carried)
            if carried != quantization or fetched is not inputs:
                quantization, inputs = carried, fetched
                planner = partial(_plan, request, inputs, on_plan)
                planned = planner(quantization)
        spec = checked_spec(checkpoint, inputs.recipe, str(request.checkpoint or inputs.recipe.source))
        check_matrices(plan_layout(spec, quantization, inputs.device.activation_type, 1), quantization)
        conversation = plan_conversation(request, inputs.recipe, checkpoint)
        found = (*inputs.notes, *notes_of(checkpoint), *conversation.notes, *planned.caveats)
        planned = replace(planned, notes=found)
        if planned.notes:
            on_notes(planned.notes)
        from .steps import Job, pass_gate

        emitted = None
        if outputs.emitted is not None:  # it gets its name after the artifact, whose block is the inner one
            emitted = stack.enter_context(whole_folder(outputs.emitted, request.force, outputs.marker))
        folder = stack.enter_context(whole_folder(outputs.artifact, request.force))
        job = Job(
            request=request,
            recipe=inputs.recipe,
            device=inputs.device,
            checkpoint=checkpoint,
            spec=spec,
            conversation=conversation,
            written=untied(spec) if quantization.rotate else spec,
            target=outputs.artifact,
            folder=folder,
            threads=request.threads or physical_cores(),
            progress=progress,
        )
        planned, manifest = _write(job, emitted, quantization, planned, planner, on_notes)
        pass_gate(manifest, folder, outputs.rejected, outputs.emitted)
        if emitted is not None:
            hold_ready(emitted)
    sweep_states(outputs.artifact.parent, finished=outputs.artifact.name)
    seconds = time.perf_counter() - started
    return BuildResult(outputs.artifact, manifest, planned, seconds, peak_rss_bytes(), outputs.emitted)


def _as_stored(
    request: BuildRequest, inputs: BuildInputs, opened: Checkpoint
) -> tuple[BuildInputs, QuantizationConfig]:
    """The inputs with the checkpoint's kind of lm_head, unchanged if they have it, and the formats of the artifact."""
    recipe, notes = stored_head(inputs.recipe, opened)
    if recipe is not inputs.recipe:
        inputs = replace(inputs, recipe=recipe, notes=(*inputs.notes, *notes))
    return inputs, carried_quantization(inputs.quantization, request.quantization, recipe.quantization, opened)


def _check_calibration(request: BuildRequest, quantization: QuantizationConfig) -> None:
    """Refuse a calibration text and a number of tokens that nothing reads."""
    if request.calibration_tokens is not None and quantization.method != "gptq":
        raise UsageError(
            f"--calibration-tokens was given, but the method {quantization.method} does not calibrate",
            hint="remove --calibration-tokens"
            + ("" if quantization.method == IMPORTED else ", or add --method gptq, which calibrates"),
        )
    needed = quantization.method == "gptq" or quantization.mean_bits is not None or quantization.scale
    if request.calibration is None or needed:
        return
    if quantization.method == IMPORTED:
        raise UsageError(
            "a calibration text is given, but the checkpoint is already quantized: its codes are copied unchanged",
            hint="remove --calibration, or build from the checkpoint that this one was quantized from",
        )
    raise UsageError(
        f"a calibration text is given, but the method {quantization.method} does not use one",
        hint="add --method gptq, --scale, or --bits with a mean such as 4.8",
    )


def _plan(
    request: BuildRequest, inputs: BuildInputs, on_plan: Callable[[Plan], None], quantization: QuantizationConfig
) -> Plan:
    """Plan these formats, show the plan, and refuse it if it does not fit."""
    recipe = replace(inputs.recipe, quantization=quantization)
    others: Sequence[Recipe] = ()
    if request.checkpoint is None and not request.lora:  # these belong to one model
        others = as_requested(all_recipes(), request.quantization, request.reasoning)
    planned = plan(recipe, inputs.device, request.context, candidates=others, options=request.plan_options)
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
    with steps.background_hashes(source_files(job.checkpoint)) as hashes, steps.resumable(job.resume_path("widths")):
        files = steps.write_small_files(job, planned)
        weights = steps.open_weights(job, quantization.rotate)
        facts = job.facts(quantization, planned)
        if quantization.scale:
            weights, described["scaling"] = steps.scale_weights(job, weights, quantization, facts)
            facts = replace(facts, quantization=facts.quantization | described)  # what follows depends on the scales
        if quantization.mean_bits is not None:
            quantization, widths = steps.choose_widths(job, weights, quantization, facts)
            planned = replace(planner(quantization), notes=planned.notes)
            facts = job.facts(quantization, planned)
            facts = replace(facts, quantization=facts.quantization | described)
            described["widths"] = widths
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
        facts = replace(facts, quantization=facts.quantization | described | calibration)
        manifest = artifact_manifest(job, facts, planned, layout, golden=golden, quality=quality, source_files=hashes())
        manifest = manifest.write(job.folder)
        _sign(job, job.folder, manifest)
    if emitted is not None and job.request.emit == "web":
        planned = _noted(planned, steps.emit_web(job, emitted, manifest), on_notes)
        _sign(job, emitted, read_manifest(emitted))
    return _noted(planned, _fallbacks(job, manifest, planned), on_notes), manifest


def _sign(job: Job, folder: Path, manifest: Manifest) -> None:
    """Sign a finished artifact, if that was requested and it misses no threshold."""
    passed = manifest.quality is None or manifest.quality["passed"]
    if job.request.sign is not None and manifest.digest is not None and passed:
        sign_artifact(folder, manifest.digest, job.request.sign)


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


def build(
    model: str | Path | Recipe | None = None,
    device: str | Path | DeviceProfile = "cpu",
    *,
    checkpoint: str | Path | None = None,
    lora: str | Path | Sequence[str | Path] = (),
    context: int | None = None,
    quantization: QuantizationConfig | QuantizationOverrides | None = None,
    out: str | Path | None = None,
    emit: str | None = None,
    force: bool = False,
    calibration: str | Path | None = None,
    calibration_tokens: int | None = None,
    reasoning: bool | None = None,
    chat_template: str | Path | None = None,
    stop: str | Sequence[str] = (),
    gate: bool = True,
    quality_tokens: int | None = None,
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
        model=model, device=device, checkpoint=checkpoint, context=context,
        lora=one_or_several("lora", lora, UsageError),
        quantization=quantization, out=out, emit=emit, force=force, calibration=calibration,
        calibration_tokens=calibration_tokens,
        reasoning=reasoning, chat_template=chat_template, stop=one_or_several("stop", stop, UsageError), gate=gate,
        quality_tokens=quality_tokens, threads=threads, plan_options=plan_options, anyway=anyway, sign=sign,
    )  # fmt: skip
    return run_build(request, progress, on_plan, on_notes)
