"""The request for a build, as one value, and its result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..arguments import check_count, check_kind, check_truth
from ..artifact.manifest import Manifest
from ..devices.profile import DeviceProfile
from ..errors import UsageError
from ..planning.plan import Plan, PlanOptions
from ..recipes.recipe import Recipe
from ..scheme import QuantizationConfig, QuantizationOverrides
from ..threads import MOST_THREADS

CALIBRATION_TOKENS = 8192
QUALITY_TOKENS = 1024  # ten of them make the 99th percentile; the held-out texts have a little more
GPTQ_FORMATS = ("gptq", "gptq_v2")  # as in checkpoint/gptq_config.py, which imports numpy
EMIT_FORMATS = (*GPTQ_FORMATS, "web")


@dataclass(frozen=True)
class BuildRequest:
    """A request for one artifact.

    Args:
        model: A recipe, or its name or file; a checkpoint's folder or .gguf file; a Hugging Face repository
            (``model.py``). None: the model of ``checkpoint`` with edgekit's default quantization, or, without a
            checkpoint, the best model that fits the device.
        device: A device profile, or its name, alias or file.
        checkpoint: A folder, .gguf file or Hugging Face repository to take the weights from instead of the model's
            source. The codes of a GPTQ checkpoint's quantized weights are copied unchanged; ``quantization`` applies
            to the others.
        lora: Folders or Hugging Face repositories of LoRA adapters (PEFT), merged into the weights in this order.
        context: Tokens the KV cache is planned for; None for the device's default.
        quantization: A configuration that replaces the recipe's, or changes to it.
        out: The artifact's folder; None for ``<recipe>-<device>`` in the current folder.
        emit: Also write ``<out>-<emit>``: a checkpoint with the same codes (``gptq`` or ``gptq_v2``), or a folder that
            transformers.js opens in a browser (``web``).
        force: Replace an existing artifact.
        calibration: A text file. The method gptq calibrates on it instead of the model's own answers to edgekit's
            prompts; a mean width and scaling are measured on it instead of on the prompts.
        calibration_tokens: The largest number of tokens that the method gptq calibrates on; None for 8192. Other
            methods refuse it.
        reasoning: Whether the model thinks between ``<think>`` and ``</think>`` before it answers; None for what the
            recipe or the checkpoint says.
        chat_template: A file with jinja source that replaces the checkpoint's chat template.
        stop: Texts that end an answer, in addition to the model's own.
        gate: Measure the artifact against its float model, and reject it if it misses a threshold of the recipe.
        quality_tokens: The largest number of tokens of the held-out texts to measure on; None for 1024. Refused
            without ``gate``.
        threads: Threads of the build; None for one per physical core.
        plan_options: What to plan for. Limits in it can refuse the build, as too little memory does.
        anyway: Build even if the plan does not fit or exceeds a limit.
        sign: A file with the Ed25519 key that signs the artifact, and a web folder.

    Raises:
        UsageError: ``emit`` is not a format, a count is not a whole number of at least 1, a text in ``stop`` is empty,
            a value has another type, or ``quality_tokens`` is given without ``gate``.
    """

    model: str | Path | Recipe | None = None
    device: str | Path | DeviceProfile = "cpu"
    checkpoint: str | Path | None = None
    lora: tuple[str | Path, ...] = ()
    context: int | None = None
    quantization: QuantizationConfig | QuantizationOverrides | None = None
    out: str | Path | None = None
    emit: str | None = None
    force: bool = False
    calibration: str | Path | None = None
    calibration_tokens: int | None = None
    reasoning: bool | None = None
    chat_template: str | Path | None = None
    stop: tuple[str, ...] = ()
    gate: bool = True
    quality_tokens: int | None = None
    threads: int | None = None
    plan_options: PlanOptions | None = None
    anyway: bool = False
    sign: str | Path | None = None

    def __post_init__(self) -> None:
        if self.emit is not None and self.emit not in EMIT_FORMATS:
            raise UsageError(f"emit is {self.emit!r}; allowed: {', '.join(EMIT_FORMATS)}")
        if self.lora and self.model is None and self.checkpoint is None:
            raise UsageError(
                "--lora was given without a model", hint="give the model that the adapter was trained on as MODEL"
            )
        for text in self.stop:
            if not isinstance(text, str) or not text:
                raise UsageError(f"a stop text is {text!r}; it must be text and not empty")
        for name in ("force", "gate", "anyway"):
            check_truth(name, getattr(self, name), error=UsageError)
        check_truth("reasoning", self.reasoning, optional=True, error=UsageError)
        check_kind("quantization", self.quantization, QuantizationConfig, QuantizationOverrides, error=UsageError)
        check_kind("plan_options", self.plan_options, PlanOptions, error=UsageError)
        for name in ("calibration_tokens", "quality_tokens", "threads"):
            if (value := getattr(self, name)) is not None:
                check_count(name, value, error=UsageError, most=MOST_THREADS if name == "threads" else None)
        if self.quality_tokens is not None and not self.gate:
            raise UsageError(
                "--quality-tokens was given with --no-gate, which measures nothing", hint="remove one of the two"
            )

    @property
    def emits_gptq(self) -> bool:
        """Whether a GPTQ checkpoint is written, which holds scales in float16."""
        return self.emit in GPTQ_FORMATS


@dataclass(frozen=True)
class BuildResult:
    """The result of a build.

    Attributes:
        artifact: The artifact's folder.
        manifest: Its manifest.
        plan: The plan, with the artifact's real sizes.
        seconds: Duration of the build (wall time).
        peak_rss_bytes: Peak resident memory of the process; None if the system does not report it.
        emitted: The folder written next to the artifact, if ``emit`` was requested.
    """

    artifact: Path
    manifest: Manifest
    plan: Plan
    seconds: float
    peak_rss_bytes: int | None
    emitted: Path | None = None

    @property
    def size_bytes(self) -> int:
        """Size of all files of the artifact except the manifest."""
        return sum(f["size_bytes"] for f in self.manifest.files.values())

    def to_json(self) -> dict[str, Any]:
        """The object that ``edgekit build --json`` prints."""
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
            "digest": self.manifest.digest,
        }
