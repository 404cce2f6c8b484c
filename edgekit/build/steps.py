"""Writes an artifact's folder, once its inputs are known to be good (``build/pipeline.py``).

    weights quantized in row chunks (method gptq: the layers for what they see on calibration texts)
    -> graph, configs, tokenizer -> golden test -> quality against the float model -> manifest, the last file

The source is hashed meanwhile, in a thread of its own.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from ..artifact.manifest import Manifest
from ..artifact.writer import hash_files
from ..checkpoint import GptqCheckpoint
from ..checkpoint.base import Checkpoint
from ..devices.profile import DeviceProfile
from ..errors import BuildError, DiskFullError, InterruptedBuildError
from ..layout import DataLayout, plan_layout
from ..models import ModelSpec
from ..models.spec import untied
from ..planning.choice import check_budget
from ..planning.draft import memory_by_engine, with_artifact
from ..planning.plan import Plan
from ..planning.widths import narrow
from ..recipes.recipe import Recipe, source_kind

if TYPE_CHECKING:
    from ..export.model import LayerQuantizer
    from ..weights.checkpoint import WeightSource

GOLDEN_QUESTION = "What is the capital of France?"
# Each token of the golden answer costs one pass over all weights, and already the first depends on every one of them.
GOLDEN_TOKENS = range(4, 17)
GOLDEN_BYTES = 8 * 10**9  # weights to pass over in all, within those bounds

Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class BuildJob:
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
    quality_tokens: int | None
    replan: Callable[[Recipe], Plan]

    @property
    def written(self) -> ModelSpec:
        """The model as the artifact holds it; ``spec`` is the checkpoint's."""
        return untied(self.spec) if self.recipe.quantization.rotate else self.spec

    @property
    def _config_changes(self) -> dict[str, Any]:
        """What is not as in the checkpoint's ``config.json``."""
        return {"tie_word_embeddings": False} if self.written.copied_head else {}

    def write(self, folder: Path, beside: Path | None) -> tuple[Plan, Manifest]:
        """Write everything into ``folder``; return the plan with its real sizes, and the manifest, its last file.

        ``beside`` is the folder for the checkpoint to emit.
        """
        # onnx and onnxruntime take a second to import: plans that fail should not wait for them.
        from ..weights.checkpoint import WeightSource
        from ..weights.rotated import RotatedSource

        max_context = max(self.recipe.max_context, self.plan.context)
        source = WeightSource(self.checkpoint, self.spec)
        if self.recipe.quantization.rotate:
            source = RotatedSource(source, self.spec)
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
        if beside is not None:
            self._check_emittable(max_context)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        goes_on = False
        try:
            source, scaling = self._scaled(folder, source, max_context)
            job, widths = self._with_widths(folder, source, max_context)
            return job._write_weights(folder, beside, source, files, max_context, scaling | widths)
        except (InterruptedBuildError, DiskFullError):
            goes_on = True  # the same command, from what is kept
            raise
        finally:
            if not goes_on:
                self._kept("widths").unlink(missing_ok=True)

    def _scaled(self, folder: Path, source: WeightSource, max_context: int) -> tuple[WeightSource, dict[str, Any]]:
        """The weights with their input features scaled, if they are to be, and what the manifest says of it."""
        if not self.recipe.quantization.scale:
            return source, {}
        from ..calibration.texts import sample_texts, tokens_digest
        from ..weights.scaled import TOKENS, ScaledSource, input_scales

        texts = sample_texts(folder, self._manifest(max_context), self.calibration, TOKENS)
        scales = input_scales(
            source, self.written, texts, self.threads,
            lambda done, total: self.progress("measuring what each matrix reads", done, total),
        )  # fmt: skip
        layout = plan_layout(self.written, self.recipe.quantization, self.device.activation_type, 1)
        described = {"tokens": sum(map(len, texts)), "tokens_sha256": tokens_digest(texts)}
        return ScaledSource(source, self.written, layout, scales), {"scaling": described}

    def _with_widths(self, folder: Path, source: WeightSource, max_context: int) -> tuple[BuildJob, dict[str, Any]]:
        """The job with every matrix's format known, planned again, and what the manifest says of how it was found."""
        quantization = self.recipe.quantization
        if quantization.mean_bits is None:
            return self, {}
        from ..quality.sensitivity import measured_widths

        chosen, described = measured_widths(
            folder, self._manifest(max_context), source, self.written, quantization, self.calibration,
            self._kept("widths"), self._made_from(), self.threads,
            lambda done, total: self.progress("measuring what each matrix loses", done, total),
        )  # fmt: skip
        recipe = dataclasses.replace(self.recipe, quantization=chosen)
        return dataclasses.replace(self, recipe=recipe, plan=self.replan(recipe)), {"widths": described}

    def _write_weights(
        self,
        folder: Path,
        beside: Path | None,
        source: WeightSource,
        files: dict[str, bytes],
        max_context: int,
        described: dict[str, Any],
    ) -> tuple[Plan, Manifest, dict[str, Any]]:
        from ..export.model import export_model

        manifest = self._manifest(max_context)
        with self._layers(folder, source, files, manifest) as (layers, calibration):
            layout = export_model(
                folder,
                self.written,
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
                quantization=manifest.quantization | described | calibration,
                bits_per_weight=round(layout.weight_bytes * 8 / self.spec.parameters, 4),
            )
        source.release()
        golden = self._golden(folder, manifest, layout.size_bytes)
        return planned, dataclasses.replace(manifest, quality=self._quality(folder, manifest, layout)), golden

    @contextmanager
    def _layers(
        self, folder: Path, source: WeightSource, files: dict[str, bytes], manifest: Manifest
    ) -> Iterator[tuple[LayerQuantizer | None, dict[str, Any]]]:
        """What quantizes the layers, if it is not rounding to nearest, and what the manifest says of it."""
        if self.recipe.quantization.method != "gptq":
            yield None, {}
            return
        from ..calibration.session import Calibration

        calibration = Calibration(self.calibration, self.calibration_tokens, half_scales=self.emit is not None)
        with calibration.quantizer(
            self._kept("calibration"),
            folder,
            self.written,
            source,
            self._made_from(),
            files,
            manifest,
            self.threads,
            self.progress,
        ) as (layers, described):
            yield layers, {"calibration": described}

    def _kept(self, what: str) -> Path:
        """Where something lies that a build goes on from after an interruption."""
        return self.target.parent / f".{self.target.name}.{what}"

    def _made_from(self) -> dict[str, list[int]]:
        """Tells one checkpoint from another."""
        return {p.name: [p.stat().st_size, p.stat().st_mtime_ns] for p in self.checkpoint.files}

    def _check_emittable(self, max_context: int) -> None:
        from ..export.gptq_checkpoint import check_emittable

        activation_type = self.device.activation_type
        quantization = self.recipe.quantization
        if quantization.mean_bits is not None:  # 4 bits are packed by more than 8: what holds for them does for these
            quantization = narrow(quantization)
        check_emittable(plan_layout(self.written, quantization, activation_type, max_context))

    def _emit(self, beside: Path, folder: Path, layout: DataLayout, source: WeightSource) -> None:
        from ..export.gptq_checkpoint import write_gptq_checkpoint
        from ..export.onnx_graph import DATA_FILE

        write_gptq_checkpoint(
            beside,
            folder / DATA_FILE,
            layout,
            self.written,
            source,
            config=self.checkpoint.config | self._config_changes,
            tokenizer=self.checkpoint.tokenizer,
            format_=self.emit or "",
            progress=lambda done, total: self.progress("writing the checkpoint", done, total),
        )

    def _small_files(self, max_context: int) -> dict[str, bytes]:
        """Tokenizer and configuration files."""
        from ..export.genai_config import genai_config

        tokenizer = self.checkpoint.tokenizer
        special = tokenizer.special
        config = {k: v for k, v in self.checkpoint.config.items() if k != "quantization_config"} | self._config_changes
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
        from ..quality.golden import record_golden
        from ..runtime.chat import ChatTemplate
        from ..runtime.tokenizer import Tokenizer

        tokenizer = Tokenizer.open(folder, manifest.tokens)
        template = ChatTemplate.open(folder, tokenizer)
        text = GOLDEN_QUESTION if template is None else template.render([{"role": "user", "content": GOLDEN_QUESTION}])
        return record_golden(
            folder,
            self.written,
            manifest.activation_type,
            tokenizer.encode(text),
            min(max(GOLDEN_TOKENS.start, GOLDEN_BYTES // data_bytes), GOLDEN_TOKENS.stop - 1),
            manifest.tokens["eos"],
            self.threads,
            lambda done, total: self.progress("recording the golden test", done, total),
        )

    def _quality(self, folder: Path, manifest: Manifest, layout: DataLayout) -> dict[str, Any] | None:
        """Measured against the checkpoint as it is, whatever basis the artifact has."""
        from ..quality.gate import measure
        from ..weights.checkpoint import WeightSource

        if self.quality_tokens is None:
            return None
        return measure(
            folder,
            manifest,
            WeightSource(self.checkpoint, self.spec),
            self.spec,
            self.recipe.quality,
            layout.size_bytes,
            self.quality_tokens,
            self.threads,
            self.progress,
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
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
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
