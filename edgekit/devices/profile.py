"""A device profile as plain data, each figure with its source. ``reader.py`` reads it from its file.

A source that begins with ``unverified`` marks a figure that nobody here has confirmed. None means unknown; zero never
does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Generic, NewType, TypeVar

from ..errors import nearest
from ..scheme import FLOAT_BYTES
from .classes import check_class

KINDS = ("jetson", "pi", "sbc", "phone", "laptop", "desktop", "host")
EXECUTION_PROVIDERS = tuple(
    f"{name}ExecutionProvider"
    for name in ("CPU", "CUDA", "Tensorrt", "NvTensorRTRTX", "QNN", "Xnnpack", "CoreML", "OpenVINO", "Dml", "WebGpu")
)
# Systems that programs can be compiled for: operating system or C library, and architecture. deploy/device_files.py
# says what of edgekit there is for each.
TARGETS = (
    "linux-x86_64", "linux-aarch64", "musl-x86_64", "musl-aarch64", "android-aarch64", "macos-arm64", "ios-arm64",
)  # fmt: skip
UNVERIFIED = "unverified"
# In any of the units: GB/s, 10^9 operations per second, us, W, ... Beyond them, the arithmetic of a plan is not finite.
_LEAST, _MOST, _MOST_BYTES = 1e-9, 1e21, 1e15

Bytes = NewType("Bytes", int)
_T = TypeVar("_T")


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{key} is {value!r}; allowed: {', '.join(allowed)}; {nearest(value, allowed)}")


@dataclass(frozen=True)
class Sourced(Generic[_T]):
    """A value and its source.

    Args:
        value: The figure.
        source: Where it is from; begins with ``unverified`` when it is an estimate or from memory.
        note: Anything else that matters.

    Raises:
        ValueError: ``source`` is empty.
    """

    value: _T
    source: str
    note: str = ""

    def __post_init__(self) -> None:
        if not self.source.strip():
            raise ValueError("source is empty")

    @property
    def verified(self) -> bool:
        return not self.source.lower().startswith(UNVERIFIED)


@dataclass(frozen=True)
class _Figures:
    """A part of a profile. Every number in it is above 0, and not so large or small that a plan could not use it."""

    def __post_init__(self) -> None:
        for f in fields(self):
            figure = getattr(self, f.name)
            number = figure.value if isinstance(figure, Sourced) else None
            most = _MOST_BYTES if "Bytes" in str(f.type) else _MOST
            if isinstance(number, int | float) and not _LEAST <= number <= most:
                raise ValueError(f"{f.name} is {number}; it must be above 0, from {_LEAST:g} to {most:g}")


@dataclass(frozen=True)
class Memory(_Figures):
    """Memory.

    Attributes:
        total: What the device has.
        usable: What one process can rely on with the system running as it is delivered, with its desktop if it has one.
        usable_headless: The same when the device boots without a desktop; None where that is unknown or no choice.
    """

    total: Sourced[Bytes]
    usable: Sourced[Bytes]
    usable_headless: Sourced[Bytes] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.usable.value > self.total.value:
            raise ValueError(f"usable is {self.usable.value} bytes, more than the total of {self.total.value}")
        headless = self.usable_headless.value if self.usable_headless else None
        if headless is not None and not self.usable.value <= headless <= self.total.value:
            raise ValueError(
                f"usable_headless is {headless} bytes; it must be from usable, {self.usable.value}, to the total of "
                f"{self.total.value}"
            )


@dataclass(frozen=True)
class Bandwidth(_Figures):
    """Memory bandwidth in GB/s (10^9); None when unknown.

    ``theoretical`` is from the specification. ``sustained`` was measured with all cores reading, ``one_core`` with one.
    """

    theoretical: Sourced[float] | None = None
    sustained: Sourced[float] | None = None
    one_core: Sourced[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.theoretical and self.sustained and self.sustained.value > self.theoretical.value:
            raise ValueError(
                f"sustained is {self.sustained.value} GB/s, more than the theoretical {self.theoretical.value}"
            )
        if self.sustained and self.one_core and self.one_core.value > self.sustained.value:
            raise ValueError(f"one_core is {self.one_core.value} GB/s, more than the sustained {self.sustained.value}")


@dataclass(frozen=True)
class KernelPeak(_Figures):
    """The peak of a kernel of the native engine in 10^9 multiply-adds per second: with all cores, and with one."""

    name: str
    gmac_s: Sourced[float]
    one_core_gmac_s: Sourced[float]


@dataclass(frozen=True)
class EngineRates(_Figures):
    """The measured rates of an engine with all cores (``probe/engines.py``).

    Attributes:
        name: The engine's name.
        weights_gb_s: Weights read during decode, 10^9 bytes per second.
        layer_us: Fixed cost of a layer during decode, microseconds.
        decode_attention_gmac_s: Attention during decode, 10^9 multiply-adds per second.
        prefill_gmac_s: Products with weights during prefill, 10^9 multiply-adds per second.
        row_us: Fixed cost of a layer for one token of a prompt, microseconds.
        prefill_attention_gmac_s: Attention during prefill, 10^9 multiply-adds per second.
    """

    name: str
    weights_gb_s: Sourced[float]
    layer_us: Sourced[float]
    decode_attention_gmac_s: Sourced[float]
    prefill_gmac_s: Sourced[float]
    row_us: Sourced[float]
    prefill_attention_gmac_s: Sourced[float]


@dataclass(frozen=True)
class Cluster(_Figures):
    """Cores of one design and clock.

    ``draw_gb_s`` is what they read from memory together, in GB/s, when nothing else does. None: as much as the memory
    delivers, unless planning knows a limit of the design (``planning/core_draw.py``).
    """

    name: str
    cores: Sourced[int]
    clock_ghz: Sourced[float] | None = None
    draw_gb_s: Sourced[float] | None = None


@dataclass(frozen=True)
class Cpu(_Figures):
    """The processor.

    Attributes:
        description: For people.
        isa: The instruction set extensions that matter to a matrix product, as Linux spells them.
        cores: Number of cores.
        clusters: The kinds of cores, the fastest first.
        kernels: The kernels that run on it, the engine's own first; empty where they were not measured.
        engines: The rates of engines on it; empty where they were not measured.
        fitted_as: The class of processors whose published speeds are used to plan (``planning/fitted.py``); may be
            empty.
    """

    description: Sourced[str]
    isa: Sourced[tuple[str, ...]]
    cores: Sourced[int] | None = None
    clusters: tuple[Cluster, ...] = ()
    kernels: tuple[KernelPeak, ...] = ()
    engines: tuple[EngineRates, ...] = ()
    fitted_as: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        counted = sum(cluster.cores.value for cluster in self.clusters)
        if self.clusters and self.cores is not None and counted != self.cores.value:
            raise ValueError(f"cores is {self.cores.value}, but the clusters have {counted}")
        check_class(self.fitted_as)
        names = [engine.name for engine in self.engines]
        if len(set(names)) < len(names):
            raise ValueError(f"engines has a duplicate name: {', '.join(names)}")


@dataclass(frozen=True)
class Accelerator(_Figures):
    """A GPU or NPU.

    ``int8_tops_dense`` is without sparsity, in 10^12 operations per second. ``float32_tflops`` is what its vector units
    (CUDA cores, shader cores) do in float32, in 10^12 operations per second. ``runtime`` is the memory of CUDA's
    libraries before a model is loaded. ``fitted_as`` is as in :class:`Cpu`.
    """

    kind: str
    name: Sourced[str]
    compute_capability: Sourced[str] | None = None
    int8_tops_dense: Sourced[float] | None = None
    float32_tflops: Sourced[float] | None = None
    runtime: Sourced[Bytes] | None = None
    fitted_as: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in ("gpu", "npu"):
            raise ValueError(f"kind is {self.kind!r}; allowed: gpu, npu")
        capability = self.compute_capability
        if capability is not None and not re.fullmatch(r"[0-9]{1,3}\.[0-9]{1,3}", capability.value):
            raise ValueError(f"compute_capability is {capability.value!r}; it must be two numbers, such as '8.7'")
        check_class(self.fitted_as)


@dataclass(frozen=True)
class Storage(_Figures):
    """Storage for models; ``read_mb_s`` is the sequential read speed in MB/s (10^6)."""

    name: str
    read_mb_s: Sourced[float] | None = None


@dataclass(frozen=True)
class PowerMode(_Figures):
    """A power mode of the device and its effect.

    ``watts`` is None where the mode has no limit. ``bandwidth_gb_s`` (GB/s) and ``int8_tops_dense`` (10^12 operations
    per second) are those in this mode; None if unknown.
    """

    name: str
    watts: Sourced[float] | None = None
    bandwidth_gb_s: Sourced[float] | None = None
    int8_tops_dense: Sourced[float] | None = None


@dataclass(frozen=True)
class Thermal(_Figures):
    """The share of the first minute's speed that remains after minutes of work: above 0, at most 1."""

    sustained_share: Sourced[float]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sustained_share.value > 1:
            raise ValueError(f"sustained_share is {self.sustained_share.value}; it must be at most 1")


@dataclass(frozen=True)
class Budget(_Figures):
    """The device's default limits: most seconds to the first token, least tokens per second, most memory."""

    ttft_s: Sourced[float] | None = None
    decode_tok_s: Sourced[float] | None = None
    memory: Sourced[Bytes] | None = None


@dataclass(frozen=True, kw_only=True)
class HostDefaults(_Figures):
    """The part of a profile that the system cannot report; all of the file that describes this host.

    Args:
        name: The file's stem.
        title: For people.
        aliases: Other names of the device.
        kind: One of ``KINDS``.
        os: The operating system the profile applies to.
        activation_type: The graph's float type: ``float16`` for CUDA, ``float32`` for CPUs.
        execution_providers: onnxruntime's own names, the best for an edgekit artifact first.
        target: One of ``TARGETS``: what a program for the device is compiled for; empty if unknown.
        context: Tokens to plan for by default.
        budget: Limits of a plan for which the user sets none.
        notes: Anything else a user should know.
    """

    name: str
    title: str
    aliases: tuple[str, ...]
    kind: str
    os: str
    activation_type: str
    execution_providers: tuple[str, ...]
    context: Sourced[int]
    budget: Budget = Budget()
    target: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target:
            _one_of("target", self.target, TARGETS)
        _one_of("kind", self.kind, KINDS)
        _one_of("activation_type", self.activation_type, tuple(FLOAT_BYTES))
        if not self.execution_providers:
            raise ValueError("execution_providers is empty; CPUExecutionProvider is always available")
        for provider in self.execution_providers:
            _one_of("execution_providers", provider, EXECUTION_PROVIDERS)

    @property
    def default_context(self) -> int:
        return self.context.value


@dataclass(frozen=True, kw_only=True)
class DeviceProfile(HostDefaults):
    """A device: words, and every number with its source."""

    memory: Memory
    cpu: Cpu
    bandwidth: Bandwidth = Bandwidth()
    accelerator: Accelerator | None = None
    storage: tuple[Storage, ...] = ()
    power_modes: tuple[PowerMode, ...] = ()
    thermal: Thermal | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        asked = self.budget.memory
        if asked is not None and asked.value > self.memory.usable.value:
            raise ValueError(f"budget.memory is {asked.value} bytes, more than the usable {self.memory.usable.value}")
        names = [mode.name for mode in self.power_modes]
        if len(set(names)) < len(names):
            raise ValueError(f"power_modes has a duplicate name: {', '.join(names)}")

    @property
    def total_bytes(self) -> int:
        return self.memory.total.value

    @property
    def usable_bytes(self) -> int:
        return self.memory.usable.value

    @property
    def describes_card(self) -> bool:
        """Whether memory and bandwidth are those of a graphics card, whose host's processor is unknown."""
        return self.kind == "desktop" and self.accelerator is not None and self.cpu.cores is None

    def sourced(self) -> Iterator[tuple[str, Sourced[Any]]]:
        """Every figure under its dotted name, such as ``memory.usable``, in the order of the fields."""
        yield from _sourced("", self)

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON shows them: a figure is {value, source, verified, note}; sizes are bytes."""
        return {f.name: _to_json(getattr(self, f.name)) for f in fields(self)}


def _sourced(name: str, value: Any) -> Iterator[tuple[str, Sourced[Any]]]:
    if isinstance(value, Sourced):
        yield name, value
    elif isinstance(value, tuple):
        for item in value:
            label = getattr(item, "name", None)
            yield from _sourced(f"{name}[{label}]", item)
    elif is_dataclass(value):
        for f in fields(value):
            yield from _sourced(f"{name}.{f.name}" if name else f.name, getattr(value, f.name))


def _to_json(value: Any) -> Any:
    if isinstance(value, Sourced):
        note = {"note": value.note} if value.note else {}
        return {"value": _to_json(value.value), "source": value.source, "verified": value.verified, **note}
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    if is_dataclass(value):
        return {f.name: _to_json(getattr(value, f.name)) for f in fields(value)}
    return value
