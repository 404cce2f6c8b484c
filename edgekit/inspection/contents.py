"""What is in an artifact: its parts with their formats and sizes, and the planned share of a token's time of each.

The layout is computed from ``config.json`` and the manifest, as it was for the build, and the size of the weight file
confirms it. Neither onnx nor an engine is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..artifact.manifest import RuntimeFacts
from ..devices import DeviceProfile, load_device
from ..errors import ArtifactError, CheckpointError, DeviceProfileError, UnknownNameError, shown_command
from ..json_file import read_json_object
from ..layout import DataLayout, Matrix, plan_layout
from ..models import ModelSpec, spec_from_config
from ..models.spec import untied
from ..planning.engines import find_engine
from ..planning.hardware import Hardware, hardware_of
from ..planning.latency import Predictor
from ..planning.memory import Dimensions, kv_cache_bytes
from ..planning.planned_engine import PlannedEngine
from ..planning.token_time import TokenTime, split_token
from ..planning.work import work_of
from ..runtime.engine import refuse_web_folder
from ..scheme import QuantizationConfig, QuantizationScheme

CONFIG_FILE, DATA_FILE = "config.json", "model.onnx.data"
EMBEDDING, HEAD, NORMS, ROTARY, PADDING = "embedding", "lm_head", "norms", "rotary tables", "alignment"
INNER = ("attn.", "mlp.")  # how the names of matrices inside the layers begin


@dataclass(frozen=True)
class Part:
    """Tensors of one kind in one format, from all layers.

    Attributes:
        name: A matrix's name without its layer, such as ``attn.qkv_proj``, or the name of another group.
        format: ``int4 block 32 symmetric`` or ``float16``.
        bits: Bits of a code or number; 0 for alignment.
        block_size: Weights that share a scale; None for floats.
        tensors: Matrices, norms or tables.
        weights: Parameters, without biases.
        size_bytes: Bytes in the file, with scales, zero points and biases; 0 if they are counted in another part.
        token_bytes: Bytes that are read to generate a token.
        time_share: Planned share of a token's time with an empty context.
    """

    name: str
    format: str
    bits: int
    block_size: int | None
    tensors: int
    weights: int
    size_bytes: int
    token_bytes: int
    time_share: float = 0.0


@dataclass(frozen=True)
class FormatSum:
    """All matrices of one width and block size; None stands for floats."""

    bits: int
    block_size: int | None
    tensors: int
    weights: int
    size_bytes: int
    time_share: float


@dataclass(frozen=True)
class Contents:
    """What is in an artifact.

    Attributes:
        parts: All parts of the weight file, in the order in which the model uses them.
        size_bytes: The size of the weight file, which is the sum of the parts.
        token_bytes: Bytes of weights read to generate a token.
        other_bytes: The size of all other files.
        engine, device: What the time is planned for.
        context: Positions of the planned context.
        cache_bytes: Keys and values that a token reads at the end of that context.
        time: Seconds of a token at the end of that context by part; None if the device's speed is unknown. The shares
            of the parts are then those of the bytes.
    """

    parts: tuple[Part, ...]
    size_bytes: int
    token_bytes: int
    other_bytes: int
    engine: str
    device: str
    context: int
    cache_bytes: int
    time: TokenTime | None

    @property
    def fixed_share(self) -> float:
        """Planned share of a token's time, with an empty context, that does not depend on the size of the weights."""
        if self.time is None:
            return 0.0
        return self.time.fixed_s / (self.time.fixed_s + self.time.weights_s)

    def by_format(self) -> tuple[FormatSum, ...]:
        """The matrices by width and block size, the largest group first."""
        groups: dict[tuple[int, int | None], list[Part]] = {}
        for part in self.parts:
            if part.name not in (NORMS, ROTARY, PADDING):
                groups.setdefault((part.bits, part.block_size), []).append(part)
        found = []
        for (bits, block), group in groups.items():
            stored = [part for part in group if part.size_bytes]  # a shared table counts once
            tensors, weights = sum(part.tensors for part in stored), sum(part.weights for part in stored)
            size = sum(part.size_bytes for part in stored)
            found.append(FormatSum(bits, block, tensors, weights, size, sum(part.time_share for part in group)))
        return tuple(sorted(found, key=lambda each: -each.size_bytes))

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON shows it."""
        time = self.time
        seconds = None if time is None else {**asdict(time), "total_s": time.total_s}
        return {
            "parts": [asdict(part) for part in self.parts],
            "by_format": [asdict(each) for each in self.by_format()],
            "size_bytes": self.size_bytes,
            "other_bytes": self.other_bytes,
            "token_bytes": self.token_bytes,
            "planned": {
                "engine": self.engine,
                "device": self.device,
                "context": self.context,
                "cache_bytes": self.cache_bytes,
                "fixed_share": self.fixed_share,
                "token_s": seconds,
            },
        }


@dataclass(frozen=True)
class Model:
    """An artifact's model: its tensors, their formats and their places in the weight file."""

    spec: ModelSpec
    quantization: QuantizationConfig
    layout: DataLayout


def read_model(folder: Path, facts: RuntimeFacts) -> Model:
    """Compute an artifact's layout.

    Args:
        folder: The artifact.
        facts: Its manifest.

    Raises:
        ArtifactError: A file is missing or invalid, or the weight file does not have the layout's size.
    """
    refuse_web_folder(folder)
    try:
        spec = spec_from_config(read_json_object(folder / CONFIG_FILE))
        quantization = _quantization(facts.quantization)
        if quantization.rotate:
            spec = untied(spec)
        layout = plan_layout(spec, quantization, facts.activation_type, int(facts.model["context_length"]))
        found = (folder / DATA_FILE).stat().st_size
    except CheckpointError as error:
        raise ArtifactError(f"inspecting {folder}: {error.message}", error.hint) from None
    except OSError as error:
        raise ArtifactError(f"inspecting {folder}: cannot read {error.filename}: {error.strerror}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"inspecting {folder}: the manifest does not describe the weights: {error}") from None
    if found != layout.size_bytes:
        raise ArtifactError(
            f"inspecting {folder}: {DATA_FILE} has {found} bytes; {CONFIG_FILE} and the manifest describe "
            f"{layout.size_bytes}",
            hint=f"{shown_command('verify', folder)} checks the files",
        )
    return Model(spec, quantization, layout)


def contents_of(folder: Path, facts: RuntimeFacts, engine: str | None = None) -> Contents:
    """Describe what is in an artifact.

    Args:
        folder: The artifact.
        facts: Its manifest. The time is planned for its device; without one, or with one or a power mode that is not
            known here, the shares of time are those of the bytes.
        engine: The engine to plan for; None for the one that the manifest's plan names.

    Raises:
        ArtifactError: See :func:`read_model`.
        UnknownNameError: There is no such engine.
    """
    model = read_model(folder, facts)
    work = work_of(model.spec, model.layout, model.quantization)
    name = engine or str(facts.plan.get("engine") or "native")
    planned = find_engine(name)
    context = int(facts.plan.get("context") or facts.model["context_length"])
    asked = facts.plan.get("kv_type")
    types = planned.kv_types(facts.activation_type)
    position_bytes = kv_cache_bytes(Dimensions.of_spec(model.spec), 1, asked if asked in types else types[0])
    device = _device(facts)
    time = None
    if device is not None and (hardware := _hardware(device, planned, facts)) is not None:
        time = split_token(Predictor(work, hardware, planned, position_bytes), context - 1)
    parts = parts_of(model.layout)
    size, read = model.layout.size_bytes, work.token_bytes
    for_weights = 1.0 if time is None else time.weights_s / (time.weights_s + time.fixed_s)
    return Contents(
        parts=tuple(replace(part, time_share=for_weights * part.token_bytes / read) for part in parts),
        size_bytes=size,
        token_bytes=read,
        other_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) - size,
        engine=name,
        device=str(facts.plan.get("device") or ""),
        context=context,
        cache_bytes=(context - 1) * position_bytes,
        time=time,
    )


def _device(facts: RuntimeFacts) -> DeviceProfile | None:
    """The plan's device; None if it has none, or if its profile was a file of the builder's."""
    name = facts.plan.get("device")
    try:
        return load_device(str(name)) if name else None
    except (UnknownNameError, DeviceProfileError):
        return None


def _hardware(device: DeviceProfile, planned: PlannedEngine, facts: RuntimeFacts) -> Hardware | None:
    """The plan's device in the planned power mode; None if its profile here has no such mode."""
    try:
        return hardware_of(device, planned, facts.plan.get("power_mode"))
    except UnknownNameError:
        return None


def _quantization(stored: dict[str, Any]) -> QuantizationConfig:
    """The formats of a manifest."""

    def scheme(value: dict[str, Any] | None) -> QuantizationScheme | None:
        return None if value is None else QuantizationScheme(**value)

    return QuantizationConfig(
        scheme(stored["linear"]),
        scheme(stored["embedding"]),
        scheme(stored["lm_head"]),
        matrices={name: scheme(value) for name, value in (stored.get("matrices") or {}).items()},
        rotate=bool(stored.get("rotate")),
    )


def part_name(matrix: str) -> str:
    """A matrix's name without its layer: ``model.layers.3.attn.o_proj`` -> ``attn.o_proj``."""
    pieces = matrix.split(".")
    if pieces[:2] == ["model", "layers"]:
        return ".".join(pieces[3:])
    return EMBEDDING if pieces[-1] == "embed_tokens" else matrix


def format_of(matrix: Matrix) -> str:
    """A matrix's format in words: ``int4 block 32 symmetric`` or ``float16``."""
    return str(matrix.scheme) if matrix.weight is None else matrix.weight.dtype


def parts_of(layout: DataLayout) -> list[Part]:
    """The parts of a weight file, without shares of time."""
    float_bits = {"float32": 32, "float16": 16}[layout.activation_type]
    embedding = layout.embedding
    row = embedding.size_bytes // embedding.out_features
    parts = [_part([embedding], float_bits, token_bytes=row)]
    inner: dict[tuple[str, QuantizationScheme | None], list[Matrix]] = {}
    for matrix in layout.inner_matrices():
        inner.setdefault((part_name(matrix.name), matrix.scheme), []).append(matrix)
    parts += [_part(group, float_bits) for group in inner.values()]
    norms = tuple(layout.vectors())
    norm_bytes = sum(norm.slot.size_bytes for norm in norms)
    norm_weights = sum(norm.slot.shape[0] for norm in norms)
    parts.append(
        Part(NORMS, layout.activation_type, float_bits, None, len(norms), norm_weights, norm_bytes, norm_bytes)
    )
    head = _part([layout.lm_head], float_bits)
    if layout.shares_embedding:
        head = replace(head, name=HEAD, size_bytes=0)
    parts.append(head)
    tables = layout.rotary_cos.size_bytes + layout.rotary_sin.size_bytes
    parts.append(Part(ROTARY, layout.activation_type, float_bits, None, 2, 0, tables, 0))
    gaps = layout.size_bytes - sum(part.size_bytes for part in parts)
    parts.append(Part(PADDING, "", 0, None, 0, 0, gaps, 0))
    return parts


def _part(matrices: Sequence[Matrix], float_bits: int, token_bytes: int | None = None) -> Part:
    first = matrices[0]
    size = sum(matrix.size_bytes for matrix in matrices)
    return Part(
        name=part_name(first.name),
        format=format_of(first),
        bits=float_bits if first.scheme is None else first.scheme.bits,
        block_size=None if first.scheme is None else first.scheme.block_size,
        tensors=len(matrices),
        weights=sum(matrix.weights for matrix in matrices),
        size_bytes=size,
        token_bytes=size if token_bytes is None else token_bytes,
    )
