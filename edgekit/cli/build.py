"""``edgekit build``: builds and checks an artifact from a model's name and a device."""

from __future__ import annotations

from functools import partial

import click

from ..build.request import CALIBRATION_TOKENS, EMIT_FORMATS, QUALITY_TOKENS, BuildRequest, BuildResult
from ..errors import InterruptedBuildError, shown_command
from ..planning.plan import Plan
from ..scheme import METHODS, QuantizationOverrides
from ..units import format_bytes, format_seconds
from . import _options as options
from ._conversation_options import CONVERSATION_OPTIONS
from ._failures import needs_memory
from ._output import emit_json, open_screen, print_notes, progress_bars
from ._plan_options import plan_options
from ._plan_table import print_plan
from ._quantization_options import QUANTIZATION_OPTIONS
from ._signals import ends_cleanly

_QUESTION = "What is the capital of France?"


_METHOD = click.option(
    "--method",
    type=click.Choice(METHODS),
    help="Quantize by rounding to nearest (rtn) or with calibration (gptq)  [default: the recipe's]",
)


# By the fields of BuildRequest.
_OPTIONS: dict[str, options.Decorator] = {
    "model": click.argument("model", required=False),
    "device": options.device(
        "Build for this device: a name, an alias or a .toml file; see edgekit devices.", required=True
    ),
    "checkpoint": click.option(
        "--checkpoint",
        type=click.Path(),
        help="Take the weights from this Hugging Face folder, .gguf file or repository (owner/name) instead of MODEL's "
        "source. Codes of a GPTQ or AWQ checkpoint are kept as they are.",
    ),
    "lora": options.lora("Merge this LoRA adapter into the float weights before they are quantized."),
    "context": options.count(
        "--context", "Make room for this many tokens of prompt and answer together  [default: the device's]"
    ),
    "plan_options": plan_options,
    "anyway": click.option("--anyway", is_flag=True, help="Build even if the plan does not fit or misses the budget."),
    "quantization": options.group("quantization", QuantizationOverrides, {"method": _METHOD, **QUANTIZATION_OPTIONS}),
    "calibration": click.option(
        "--calibration",
        type=click.Path(),
        help="Calibrate on this file: plain text, or JSON Lines with messages. Used by gptq, by --scale and by a mean "
        "in --bits  [default: the model's own answers to built-in prompts; for a mean, the prompts alone]",
    ),
    "calibration_tokens": options.count(
        "--calibration-tokens", f"Calibrate gptq on this many tokens  [default: {CALIBRATION_TOKENS}]"
    ),
    **CONVERSATION_OPTIONS,
    "out": click.option(
        "--out", type=click.Path(), help="Write the artifact to this folder  [default: ./MODEL-DEVICE]"
    ),
    "emit": click.option(
        "--emit",
        type=click.Choice(EMIT_FORMATS),
        help="Also write OUT-gptq or OUT-gptq_v2, a checkpoint with the same codes for GPTQModel, AutoGPTQ and "
        "transformers, or OUT-web, a folder that transformers.js opens in a browser.",
    ),
    "gate": click.option(
        "--gate/--no-gate",
        default=True,
        help="Compare the artifact with its float model and reject it if it misses the recipe's quality thresholds  "
        "[default: --gate]",
    ),
    "quality_tokens": options.count(
        "--quality-tokens", f"Compare on this many tokens of held-out texts  [default: {QUALITY_TOKENS}]"
    ),
    "force": click.option("--force", is_flag=True, help="Replace an existing artifact."),
    "sign": options.sign("Sign the artifact"),
    "threads": options.threads,
}


@options.command(
    "edgekit build smollm2-135m --device jetson",
    "edgekit build r1-1.5b --device pi --context 2048",
    "edgekit build ./my-finetune --device cpu --out ./my-artifact",
    "edgekit build Qwen/Qwen2.5-0.5B-Instruct --device phone",
    "edgekit build r1-1.5b --device jetson --lora ./my-adapter",
    "edgekit build smollm2-135m --device cpu --symmetric --emit gptq",
    "edgekit build r1-1.5b --device phone --emit web",
    "edgekit build smollm2-135m --device cpu --bits 5.5 --method gptq",
    see_also="edgekit plan predicts memory and speed first, edgekit run talks to the artifact.",
)
@options.group("request", BuildRequest, _OPTIONS)
@options.as_json
@ends_cleanly
@needs_memory(400)
def command(request: BuildRequest, as_json: bool) -> None:
    """Build a 4-bit ONNX artifact of MODEL for a device.

    MODEL is a recipe (see edgekit recipes), a recipe file, a checkpoint folder, a .gguf file or a Hugging Face
    repository: owner/name, owner/name@revision, its web address, or owner/name:Q4_K_M for one of its GGUF files. A
    recipe takes precedence over a folder of the same name, and a folder over a repository; ./NAME always means a
    folder or file. Without MODEL, edgekit builds the --checkpoint if one is given, and otherwise the best model that
    fits the device.

    The plan comes first. A build that does not fit, or that misses --max-ttft or --min-decode, is refused, and edgekit
    lists options that work. A failed build leaves no files behind. An interrupted calibration can be resumed: run the
    same command again.

    Finally, the artifact is compared with its float model. One that misses the thresholds of its recipe is kept as
    OUT.rejected, and the exit code is 54.
    """
    from ..build.pipeline import run_build  # imports numpy and onnx

    screen = open_screen(err=True)

    def show(planned: Plan) -> None:
        if not as_json:
            print_plan(planned, screen)

    try:
        with progress_bars(screen) as progress:
            result = run_build(request, progress, show, partial(print_notes, screen=screen))
    except KeyboardInterrupt:
        raise InterruptedBuildError("the build was interrupted; nothing was left behind") from None
    if as_json:
        emit_json(result.to_json())
    else:
        _report(result, request)


def _report(result: BuildResult, request: BuildRequest) -> None:
    screen = open_screen()
    screen.say(
        f"{result.artifact}: {format_bytes(result.size_bytes)}, {result.manifest.bits_per_weight:.2f} bits per weight, "
        f"built in {format_seconds(result.seconds)} with {format_bytes(result.peak_rss_bytes or 0)} of memory"
    )
    signed = "" if request.sign is None else f", signed with {request.sign}"
    screen.say(f"digest: {result.manifest.digest}{signed}")
    if result.emitted is not None:
        what = "the same codes as a GPTQ checkpoint" if request.emits_gptq else "the same model for a browser"
        screen.say(f"{result.emitted}: {what}")
    quality = result.manifest.quality
    if quality is None:
        screen.say("quality: not measured (--no-gate)")
    else:
        screen.say(f"quality on {quality['tokens']} held-out tokens:")
        for check in quality["checks"]:  # each measurement with its threshold, and what could not be checked
            unchecked = f"{check['name']}: " if check["passed"] is None else ""
            screen.say(f"  {unchecked}{check['detail']}")
    screen.say(f"next: {shown_command('run', result.artifact, '--prompt', _QUESTION)}", wrap=False)
