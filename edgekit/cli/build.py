"""``edgekit build``: from a model's name and a device to a checked artifact."""

from __future__ import annotations

import dataclasses
import signal
from types import FrameType
from typing import Any

import click

from ..build.pipeline import run_build
from ..build.request import CALIBRATION_TOKENS, EMIT_FORMATS, QUALITY_TOKENS, BuildRequest, BuildResult
from ..errors import InterruptedBuildError
from ..planning.plan import Plan, PlanOptions
from ..scheme import METHODS, QuantizationOverrides
from ..units import format_bytes, format_seconds
from ._output import emit_json, json_option, progress_bars
from ._plan_options import plan_options
from ._plan_table import print_plan
from ._quantization_options import quantization_options


@click.command()
@click.argument("model", required=False)
@click.option("--device", required=True, help="Name, alias or .toml file of the device; see edgekit devices.")
@click.option(
    "--checkpoint",
    type=click.Path(),
    help="A Hugging Face folder (float, or quantized by GPTQ and then taken over code for code) or a .gguf file to "
    "take the weights from, instead of the recipe's source.",
)
@click.option(
    "--method",
    type=click.Choice(METHODS),
    help="How the layers' codes are chosen: rounded to nearest, or calibrated [default: the recipe's].",
)
@click.option(
    "--calibration",
    type=click.Path(),
    help="For gptq, --scale, and --bits with a mean: plain text, or JSON Lines with messages [default: the model's own "
    "answers to edgekit's prompts; for a mean the prompts].",
)
@click.option(
    "--calibration-tokens",
    type=click.IntRange(min=1),
    default=CALIBRATION_TOKENS,
    show_default=True,
    help="For gptq: tokens to calibrate on.",
)
@click.option("--context", type=click.IntRange(min=1), help="Tokens to make room for [default: the device's].")
@plan_options
@click.option("--anyway", is_flag=True, help="Build although the plan does not fit or is too slow.")
@quantization_options
@click.option("--out", type=click.Path(), help="The artifact's folder [default: MODEL-DEVICE here].")
@click.option(
    "--emit",
    type=click.Choice(EMIT_FORMATS),
    help="Write the same codes as a checkpoint for GPTQModel, AutoGPTQ and transformers, too: OUT-gptq or OUT-gptq_v2.",
)
@click.option(
    "--gate/--no-gate",
    default=True,
    help="Measure the artifact against its float model; refuse it when it misses the recipe's [quality].",
)
@click.option(
    "--quality-tokens",
    type=click.IntRange(min=1),
    default=QUALITY_TOKENS,
    show_default=True,
    help="Tokens of edgekit's held-out texts to measure it on.",
)
@click.option("--force", is_flag=True, help="Replace an artifact that is there.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads [default: physical cores].")
@json_option
def command(
    model: str | None,
    device: str,
    checkpoint: str | None,
    method: str | None,
    calibration: str | None,
    calibration_tokens: int,
    context: int | None,
    options: PlanOptions,
    anyway: bool,
    quantization: QuantizationOverrides,
    out: str | None,
    emit: str | None,
    gate: bool,
    quality_tokens: int,
    force: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Build a 4-bit ONNX artifact of MODEL for a device.

    MODEL is a recipe's name (see edgekit recipes) or a recipe file. Without it, edgekit builds the --checkpoint as it
    is, or else the best model that fits the device.

    The plan comes first; what does not fit or misses --max-ttft or --min-decode is refused with what does. Nothing is
    left behind when a build fails, but when one that calibrates is interrupted: the same command then goes on where it
    was.

    At the end the artifact is measured against its float model. One that misses the thresholds of its recipe is kept as
    OUT.rejected, and the command ends with exit code 54.

    \b
      edgekit build smollm2-135m --device jetson
      edgekit build deepseek-r1-distill-qwen-1.5b --device pi --context 2048
      edgekit build --device cpu --checkpoint ./my-finetune --out ./my-artifact
      edgekit build smollm2-135m --device cpu --symmetric --emit gptq
      edgekit build smollm2-135m --device cpu --bits 5.5 --method gptq
    """
    quantization = dataclasses.replace(quantization, method=method)

    def show(planned: Plan) -> None:
        if not as_json:
            print_plan(planned, err=True)

    signal.signal(signal.SIGTERM, _terminated)
    try:
        with progress_bars() as progress:
            request = BuildRequest(
                model=model, device=device, checkpoint=checkpoint, context=context, quantization=quantization, out=out,
                emit=emit, force=force, calibration=calibration, calibration_tokens=calibration_tokens, gate=gate,
                quality_tokens=quality_tokens, threads=threads, plan_options=options, anyway=anyway,
            )  # fmt: skip
            result = run_build(request, progress, show)
    except KeyboardInterrupt:
        raise InterruptedBuildError("the build was interrupted; nothing was left behind") from None
    if as_json:
        emit_json(result.to_json())
    else:
        _report(result)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _report(result: BuildResult) -> None:
    click.echo(
        f"{result.artifact}: {format_bytes(result.size_bytes)}, {result.manifest.bits_per_weight:.2f} bits per weight, "
        f"in {format_seconds(result.seconds)} with {format_bytes(result.peak_rss_bytes or 0)} of memory"
    )
    if result.emitted is not None:
        click.echo(f"{result.emitted}: the same codes as a GPTQ checkpoint")
    quality = result.manifest.quality
    if quality is None:
        click.echo("quality: not measured (--no-gate)")
    else:
        _report_quality(quality)
    click.echo(f'next: edgekit run {result.artifact} --prompt "{_QUESTION}"')


def _report_quality(quality: dict[str, Any]) -> None:
    """What was measured beside what is allowed, and what could not be checked."""
    said = [check["detail"] for check in quality["checks"] if check["passed"] is not None]
    click.echo(f"quality on {quality['tokens']} held-out tokens: {'; '.join(said)}")
    for check in quality["checks"]:
        if check["passed"] is None:
            click.echo(f"{check['name']}: {check['detail']}")


_QUESTION = "What is the capital of France?"
