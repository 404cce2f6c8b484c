"""``edgekit build``: from a recipe and a device to a checked artifact.

    recipe, device -> plan (refuse what does not fit) -> checkpoint          build/inputs.py
    -> weights, graph, configs, golden test, manifest                        build/steps.py
    -> measured against the float model                                      quality/gate.py
    -> the folder gets its name, or, when it is not good enough, another

Nothing is left behind when a step fails: the artifact is written under a temporary name (``artifact/writer.py``).
"""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..artifact.manifest import Manifest
from ..artifact.writer import check_output, set_aside, whole_folder
from ..checkpoint import open_checkpoint
from ..checkpoint.gptq_config import FILE_NAME as GPTQ_FILE
from ..errors import QualityError, UsageError
from ..host import physical_cores
from ..planning.plan import Plan, PlanOptions
from ..scheme import QuantizationConfig
from .inputs import Progress, choose_inputs
from .steps import BuildJob

CALIBRATION_TOKENS = 8192
QUALITY_TOKENS = 1024  # ten of them make the 99th percentile; the held-out texts have a little more


@dataclass(frozen=True)
class BuildResult:
    """What a build made.

    ``seconds`` is wall time, ``peak_rss_bytes`` the process's largest resident set, ``emitted`` the checkpoint that was
    written beside the artifact, if one was asked for.
    """

    artifact: Path
    manifest: Manifest
    plan: Plan
    seconds: float
    peak_rss_bytes: int
    emitted: Path | None = None

    @property
    def size_bytes(self) -> int:
        """All files of the artifact but the manifest."""
        return sum(f["size_bytes"] for f in self.manifest.files.values())

    def to_json(self) -> dict[str, Any]:
        """The fields ``edgekit build --json`` prints."""
        emitted = {} if self.emitted is None else {"emitted": str(self.emitted)}
        return {
            **emitted,
            "artifact": str(self.artifact),
            "size_bytes": self.size_bytes,
            "bits_per_weight": self.manifest.bits_per_weight,
            "seconds": round(self.seconds, 3),
            "peak_rss_bytes": self.peak_rss_bytes,
            "plan": self.plan.to_json(),
            "quality": self.manifest.quality,
        }


def build(
    model: str | Path | None = None,
    device: str | Path = "cpu",
    *,
    checkpoint: str | Path | None = None,
    context: int | None = None,
    quantization: Callable[[QuantizationConfig], QuantizationConfig] | None = None,
    out: str | Path | None = None,
    emit: str | None = None,
    force: bool = False,
    calibration: str | Path | None = None,
    calibration_tokens: int = CALIBRATION_TOKENS,
    gate: bool = True,
    quality_tokens: int = QUALITY_TOKENS,
    threads: int | None = None,
    plan_options: PlanOptions | None = None,
    anyway: bool = False,
    progress: Progress = lambda phase, done, total: None,
    on_plan: Callable[[Plan], None] = lambda found: None,
) -> BuildResult:
    """Build an artifact.

    Args:
        model: A recipe's name or file. Without it: the model of ``checkpoint`` with edgekit's default quantization, or
            else the best model that fits the device.
        device: A device's name, alias or file.
        checkpoint: A folder or .gguf file to take the weights from instead of the recipe's source. What a GPTQ
            checkpoint holds quantized is taken over code for code, whatever ``quantization`` says; the rest follows it.
        context: Tokens the KV cache is planned for; default: the device's.
        quantization: Changes the recipe's quantization.
        out: The artifact's folder; default ``<recipe>-<device>`` in the current folder.
        emit: Write a checkpoint of the same codes beside the artifact, as ``<out>-<emit>``: ``gptq`` or ``gptq_v2``.
        force: Replace an artifact that is there.
        calibration: For the method gptq: a text to calibrate on; default: the model's own answers to edgekit's prompts.
            For a mean width and for scaling: a text to measure the matrices on; default: edgekit's prompts.
        calibration_tokens: How many tokens of it at most.
        gate: Measure the artifact against its float model, and refuse it when it misses the recipe's thresholds.
        quality_tokens: How many tokens of the held-out texts to measure it on, at most.
        threads: Default: physical cores.
        plan_options: What to plan for; its limits count like the memory.
        anyway: Build although the plan does not fit or keeps not every limit.
        progress: Called with a phase's name, how much is done, and how much there is.
        on_plan: Called with the plan before any weight is read.

    Returns:
        Where the artifact is, its manifest, and what it took.

    Raises:
        QualityError: The artifact misses a threshold; it is kept as ``<out>.rejected``.
        BudgetError: The plan, or what was built, does not fit the device or keeps not every limit of
            ``plan_options``; the message offers what would.
        EdgekitError: Any class of ``errors.py`` that fits what went wrong.
    """
    started = time.perf_counter()
    inputs = choose_inputs(model, device, checkpoint, quantization, plan_options)
    method = inputs.recipe.quantization.method
    formats = inputs.recipe.quantization
    if calibration is not None and method != "gptq" and formats.mean_bits is None and not formats.scale:
        raise UsageError(
            f"a calibration text is given, but the method is {method}",
            hint="add --method gptq, --scale, or --bits with a mean such as 4.8",
        )
    target = Path(out) if out is not None else Path(f"{inputs.recipe.name}-{inputs.device.name}")
    emitted = None if emit is None else target.with_name(f"{target.name}-{emit}")
    check_output(target, force)
    if emitted is not None:
        check_output(emitted, force, GPTQ_FILE)
    rejected = target.with_name(f"{target.name}.rejected")
    if gate:
        check_output(rejected, force=True)
    planned = inputs.plan(context, plan_options, anyway, on_plan)
    local = inputs.local
    with open_checkpoint(local or inputs.fetch(progress)) as opened:
        spec = inputs.checked_spec(opened)
        if local is None and opened.format == "gptq":  # what was fetched has formats of its own: plan for those
            inputs = inputs.carried(opened)
            planned = inputs.plan(context, plan_options, anyway, on_plan)
        job = BuildJob(
            recipe=inputs.recipe,
            device=inputs.device,
            plan=planned,
            checkpoint=opened,
            spec=spec,
            target=target,
            calibration=None if calibration is None else Path(calibration),
            calibration_tokens=calibration_tokens,
            threads=threads or physical_cores(),
            progress=progress,
            emit=emit,
            anyway=anyway,
            quality_tokens=quality_tokens if gate else None,
            replan=lambda recipe: dataclasses.replace(inputs, recipe=recipe).plan(
                context, plan_options, anyway, on_plan
            ),
        )
        with ExitStack() as folders:
            folder = folders.enter_context(whole_folder(target, force))
            beside = None if emitted is None else folders.enter_context(whole_folder(emitted, force, GPTQ_FILE))
            planned, manifest = job.write(folder, beside)
            _pass_gate(manifest, folder, rejected, emitted)
    return BuildResult(target, manifest, planned, time.perf_counter() - started, _peak_rss_bytes(), emitted)


def _pass_gate(manifest: Manifest, folder: Path, rejected: Path, emitted: Path | None) -> None:
    """Keep an artifact that is not good enough under a name that says so."""
    from ..quality.gate import check_passed  # imports onnxruntime, which takes a second

    try:
        check_passed(manifest.quality, manifest.name, rejected)
    except QualityError as error:
        set_aside(folder, rejected)
        if emitted is None:
            raise
        raise QualityError(f"{error.message}; {emitted} was not written", error.hint) from None


def _peak_rss_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
