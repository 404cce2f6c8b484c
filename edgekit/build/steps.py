"""The steps of a build after the plan. Each takes values and returns values; ``pipeline.py`` puts them in order.

This module imports onnx and onnxruntime, which takes a second, so the pipeline imports it only when the plan is
accepted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from ..artifact.manifest import Manifest, RuntimeFacts
from ..artifact.writer import disk_error, hash_named, set_aside
from ..calibration.float16_range import TOKENS as FLOAT16_TOKENS
from ..calibration.float16_range import described, measure_widest, shrinking
from ..calibration.gptq import Calibration, calibrated_layers
from ..calibration.input_scales import TOKENS as SCALING_TOKENS
from ..calibration.input_scales import input_scales
from ..calibration.texts import sample_texts, tokens_digest
from ..checkpoint.base import Checkpoint
from ..devices.profile import DeviceProfile
from ..errors import DiskFullError, InterruptedBuildError, QualityError, TokenizerError
from ..export.genai_config import genai_config
from ..export.gptq_checkpoint import check_emittable, storable, write_gptq_checkpoint
from ..export.model import LayerQuantizer, export_model
from ..export.onnx_graph import DATA_FILE
from ..export.web import write_web_folder
from ..layout import DataLayout, plan_layout
from ..models import ModelSpec
from ..planning.plan import Plan
from ..planning.widths import narrow
from ..progress import Progress, phase
from ..quality.gate import check_passed, measure
from ..quality.golden import record_golden
from ..quality.sensitivity import measured_widths
from ..recipes.recipe import Recipe
from ..runtime.chat import ChatTemplate, Message
from ..runtime.tokenizer import Tokenizer
from ..scheme import QuantizationConfig
from ..threads import thread_pool
from ..weights.carried import CarriedWeights
from ..weights.checkpoint import CheckpointWeights
from ..weights.rotated import RotatedWeights
from ..weights.scaled import ScaledWeights
from ..weights.shrunk import ShrunkWeights
from ..weights.source import WeightSource
from .conversation import Conversation
from .request import CALIBRATION_TOKENS, QUALITY_TOKENS, BuildRequest
from .small_files import json_bytes, model_config, tokenizer_files
from .source_files import source_key

GOLDEN_QUESTION = "What is the capital of France?"
# Each token of the golden answer costs one pass over all weights, and the first one already depends on every weight.
GOLDEN_TOKENS = range(4, 17)
GOLDEN_BYTES = 8 * 10**9  # weights to pass over in all, within those bounds


@dataclass(frozen=True)
class Job:
    """The data that all steps of one build share.

    Attributes:
        request: What was requested.
        recipe: The model.
        device: The device.
        checkpoint: The open checkpoint.
        spec: The checkpoint's model.
        conversation: How the artifact converses.
        written: The model as the artifact holds it: with an lm_head of its own if it is rotated.
        target: The artifact's final folder.
        folder: The folder that is written, which gets the name ``target`` at the end.
        threads: Threads of every step.
        progress: Receives the progress of each phase.
    """

    request: BuildRequest
    recipe: Recipe
    device: DeviceProfile
    checkpoint: Checkpoint
    spec: ModelSpec
    conversation: Conversation
    written: ModelSpec
    target: Path
    folder: Path
    threads: int
    progress: Progress

    @property
    def calibration_file(self) -> Path | None:
        return None if self.request.calibration is None else Path(self.request.calibration)

    def max_context(self, planned: Plan) -> int:
        """Positions that the graph holds."""
        return max(self.recipe.max_context, planned.context)

    def resume_path(self, what: str) -> Path:
        """The path of a file or folder that an interrupted build leaves for the next one."""
        return self.target.parent / f".{self.target.name}.{what}"

    def facts(self, quantization: QuantizationConfig, planned: Plan) -> RuntimeFacts:
        """The part of the artifact's manifest that engines and sessions read."""
        talk = self.conversation
        return RuntimeFacts(
            name=self.recipe.name,
            model={
                "model_type": self.spec.model_type,
                "parameters": self.spec.parameters,
                "vocab_size": self.spec.vocab_size,
                "num_layers": self.spec.num_layers,
                "context_length": self.max_context(planned),
                "rope": self.spec.rope.describe(),
            },
            plan={"context": planned.context, "engine": planned.engine, "kv_type": planned.kv_type},
            quantization=dataclasses.asdict(quantization),
            activation_type=self.device.activation_type,
            reasoning=talk.reasoning,
            reasoning_signs=list(talk.signs),
            sampling=dataclasses.asdict(talk.sampling),
            tokens={
                "bos": talk.special.bos_id,
                "eos": list(talk.special.eos_ids),
                "pad": talk.special.pad_id,
                "add_bos": talk.special.add_bos,
            },
            stop_texts=list(talk.stop_texts),
        )


@contextmanager
def background_hashes(files: Mapping[str, Path]) -> Iterator[Callable[[], dict[str, Any]]]:
    """Hash files in a thread while the block runs; yield a function that waits for the hashes.

    If the block fails, hashing stops as well: a person who presses Ctrl-C does not wait for 16 GB to be hashed.
    """
    stop = Event()

    def check(done: float, total: float) -> None:
        if stop.is_set():
            raise InterruptedBuildError("the build failed while its source was being hashed")

    with thread_pool(1, "edgekit-hash") as pool:
        hashing = pool.submit(hash_named, dict(files), check)
        try:
            yield hashing.result
        except BaseException:
            stop.set()
            raise


@contextmanager
def resumable(path: Path) -> Iterator[None]:
    """Delete a file at the end of the block, unless the build was interrupted or the disk is full and it may resume."""
    keep = False
    try:
        yield
    except (InterruptedBuildError, DiskFullError):
        keep = True
        raise
    except OSError as error:
        keep = isinstance(disk_error(error, None, None), DiskFullError)
        raise
    finally:
        if not keep:
            path.unlink(missing_ok=True)


def write_small_files(job: Job, planned: Plan) -> dict[str, bytes]:
    """Write the tokenizer's files and the configuration files; return the content by name."""
    special = job.conversation.special
    genai = genai_config(
        job.spec,
        context_length=job.max_context(planned),
        max_length=planned.context,
        bos_id=special.bos_id,
        eos_ids=special.eos_ids,
        pad_id=special.pad_id,
        sampling=dataclasses.asdict(job.conversation.sampling),
        execution_providers=job.device.execution_providers,
    )
    files = {
        **tokenizer_files(job.checkpoint.tokenizer, job.conversation, job.spec.vocab_size),
        "config.json": json_bytes(_config(job)),
        "genai_config.json": json_bytes(genai),
    }
    for name, content in files.items():
        (job.folder / name).write_bytes(content)
    return files


def open_weights(job: Job, rotate: bool) -> WeightSource:
    """The weights before scaling: the checkpoint's own, or rotated ones."""
    if rotate:
        return RotatedWeights(CheckpointWeights(job.checkpoint, job.spec), job.spec)
    if job.checkpoint.holds_codes:
        return CarriedWeights(job.checkpoint, job.spec)
    return CheckpointWeights(job.checkpoint, job.spec)


def scale_weights(
    job: Job, weights: WeightSource, quantization: QuantizationConfig, facts: RuntimeFacts
) -> tuple[WeightSource, dict[str, Any]]:
    """Scale the input features.

    Returns:
        The scaled weights, and the manifest's ``scaling``.
    """
    texts = sample_texts(job.folder, facts, job.calibration_file, SCALING_TOKENS)
    report = phase(job.progress, "measuring input scales")
    scales = input_scales(weights, job.written, texts, job.threads, report)
    layout = plan_layout(job.written, quantization, job.device.activation_type, 1)
    described = {"tokens": sum(map(len, texts)), "tokens_sha256": tokens_digest(texts)}
    return ScaledWeights(weights, job.written, layout, scales), described


def fit_float16(
    job: Job, weights: WeightSource, facts: RuntimeFacts
) -> tuple[Job, WeightSource, dict[str, Any], str | None]:
    """Make the activations of a float16 graph small enough for that type, where they are not.

    Returns:
        The job with the model that the artifact will hold, the weights, the manifest's ``activation_scale`` (empty if
        nothing is scaled) and a note, if there would have been an overflow.

    Raises:
        CalibrationError: An activation that cannot be made smaller is too large; the message names it.
    """
    if facts.activation_type != "float16":
        return job, weights, {}, None
    texts = sample_texts(job.folder, facts, None, FLOAT16_TOKENS)
    report = phase(job.progress, "measuring the range of activations")
    widest = measure_widest(weights, job.written, texts, job.threads, report)
    by = shrinking(widest, job.written)
    if not by:
        return job, weights, {}, None
    described_by = dataclasses.asdict(by) | {"tokens": sum(map(len, texts)), "tokens_sha256": tokens_digest(texts)}
    written = dataclasses.replace(job.written, residual_scale=by.residual)
    shrunk = ShrunkWeights(weights, job.written, by)
    return dataclasses.replace(job, written=written), shrunk, described_by, described(widest, by)


def choose_widths(
    job: Job, weights: WeightSource, quantization: QuantizationConfig, facts: RuntimeFacts
) -> tuple[QuantizationConfig, dict[str, Any]]:
    """Choose the width of each matrix by its loss.

    Returns:
        The formats, and the manifest's ``widths``.
    """
    return measured_widths(
        job.folder, facts, weights, job.written, quantization, job.calibration_file, job.resume_path("widths"),
        source_key(job.checkpoint), job.threads, phase(job.progress, "measuring the loss of each matrix"),
    )  # fmt: skip


@contextmanager
def layer_quantizer(
    job: Job, weights: WeightSource, quantization: QuantizationConfig, facts: RuntimeFacts, files: Mapping[str, bytes]
) -> Iterator[tuple[LayerQuantizer | None, dict[str, Any]]]:
    """Provide what quantizes the layers, and the manifest's entry for it; None and nothing for round to nearest."""
    if quantization.method != "gptq":
        yield None, {}
        return
    rounded = job.request.emits_gptq and job.device.activation_type != "float16"  # there, all scales are float16
    tokens = job.request.calibration_tokens or CALIBRATION_TOKENS
    calibration = Calibration(job.calibration_file, tokens, half_scales=rounded)
    with calibrated_layers(
        calibration, job.resume_path("calibration"), job.folder, facts, job.written, weights,
        source_key(job.checkpoint), files, job.threads, job.progress,
    ) as (layers, described):  # fmt: skip
        emit = job.request.emit
        checked = storable(layers, emit) if emit is not None and job.request.emits_gptq else layers
        yield checked, {"calibration": described}


def export(
    job: Job, weights: WeightSource, quantization: QuantizationConfig, max_context: int, layers: LayerQuantizer | None
) -> DataLayout:
    """Write ``model.onnx`` and ``model.onnx.data``; return where everything is."""
    return export_model(
        job.folder,
        job.written,
        weights,
        quantization,
        activation_type=job.device.activation_type,
        max_context=max_context,
        threads=job.threads,
        layers=layers,
        progress=phase(job.progress, "quantizing"),
        half_scales=job.request.emits_gptq,
    )


def check_emit(job: Job, quantization: QuantizationConfig, max_context: int) -> None:
    """Reject a model that a GPTQ checkpoint cannot store, before any work."""
    if quantization.mean_bits is not None:
        quantization = narrow(quantization)  # 4-bit codes have the stricter packing
    check_emittable(plan_layout(job.written, quantization, job.device.activation_type, max_context), job.written)


def emit_gptq(
    job: Job, folder: Path, layout: DataLayout, weights: WeightSource, files: Mapping[str, bytes]
) -> tuple[str, ...]:
    """Write the GPTQ checkpoint that was requested into ``folder``, with the artifact's tokenizer ``files``.

    Returns:
        Notes about where the checkpoint computes something else than the artifact.
    """
    own = ("config.json", "genai_config.json")  # the checkpoint's config.json describes its quantization
    write_gptq_checkpoint(
        folder,
        job.folder / DATA_FILE,
        layout,
        job.written,
        weights,
        config=_config(job) | ({} if job.written.residual_scale == 1 else {"rms_norm_eps": job.written.residual_eps}),
        tokenizer={name: content for name, content in files.items() if name not in own},
        format_=job.request.emit or "",
        progress=phase(job.progress, "writing the GPTQ checkpoint"),
    )
    if job.written.residual_scale == 1 or job.written.layers[0].q_norm is None:
        return ()
    scaled, kept = job.written.residual_eps, job.written.rms_norm_eps
    note = (
        f"the GPTQ checkpoint has rms_norm_eps {scaled:g}, which its scaled hidden states need and which transformers "
        f"also uses for the norms of query and key heads; the artifact uses {kept:g} there"
    )
    return (note,)


def emit_web(job: Job, folder: Path, manifest: Manifest) -> tuple[str, ...]:
    """Write the web folder that was requested from the finished artifact; return notes."""
    return write_web_folder(job.folder, folder, manifest, phase(job.progress, "writing the web folder"))


def record_answer(job: Job, facts: RuntimeFacts, data_bytes: int) -> dict[str, Any]:
    """Record the golden test: the artifact's greedy answer to one question."""
    tokenizer = Tokenizer.open(job.folder, facts.tokens)
    template = ChatTemplate.open(job.folder, tokenizer, reasoning=facts.reasoning)
    question: Message = {"role": "user", "content": GOLDEN_QUESTION}
    ids = tokenizer.encode(GOLDEN_QUESTION if template is None else template.prompt([question]))
    room = facts.model["context_length"] - len(ids)
    if room < 1:
        raise TokenizerError(
            f"a question of {len(GOLDEN_QUESTION)} characters becomes {len(ids)} tokens; the model has "
            f"{facts.model['context_length']} positions",
            hint="" if template is None else "check the chat template; --chat-template FILE replaces it",
        )
    return record_golden(
        job.folder,
        job.written,
        facts.activation_type,
        ids,
        min(max(GOLDEN_TOKENS.start, GOLDEN_BYTES // data_bytes), GOLDEN_TOKENS.stop - 1, room),
        facts.tokens["eos"],
        job.threads,
        phase(job.progress, "recording the golden test"),
        float16_cache=facts.plan["engine"] == "native" and facts.plan["kv_type"] != "int8",
    )


def measure_quality(job: Job, facts: RuntimeFacts, data_bytes: int) -> dict[str, Any] | None:
    """Measure the artifact against the unchanged checkpoint; None if the gate is off."""
    if not job.request.gate:
        return None
    source, tokens = CheckpointWeights(job.checkpoint, job.spec), job.request.quality_tokens or QUALITY_TOKENS
    return measure(
        job.folder, facts, source, job.spec, job.recipe.quality, data_bytes, tokens, job.threads, job.progress
    )


def pass_gate(manifest: Manifest, folder: Path, rejected: Path, emitted: Path | None) -> None:
    """Reject an artifact that misses a threshold, and keep it under the name ``rejected``.

    Raises:
        QualityError: The artifact misses a threshold.
    """
    try:
        check_passed(manifest.quality, manifest.name, rejected)
    except QualityError as error:
        set_aside(folder, rejected)
        if emitted is None:
            raise
        raise QualityError(f"{error.message}; {emitted} was not written", error.hint) from None


def _config(job: Job) -> dict[str, Any]:
    """The artifact's ``config.json``."""
    changes: dict[str, Any] = {"tie_word_embeddings": False} if job.written.copied_head else {}
    config, rope = job.checkpoint.config, job.spec.rope
    if rope.attn_factor is not None:  # other software ignores attn_factor, so the factor that it means is written out
        key = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
        changes[key] = config[key] | {"attn_factor": rope.attn_factor, "attention_factor": rope.attention_factor}
    return model_config(config, job.conversation) | changes
