"""What a device profile says, and how its TOML file is read and checked.

The file's name is the device's. Whatever somebody measured, published or estimated is a ``{ value, source }`` table,
with an optional ``note``; a bare number is an error, so no figure enters without saying where it is from. A source
that begins with ``unverified`` marks one nobody here has seen confirmed. Sizes are text such as ``"5.2 GB"``. The
tables of a file are the dataclasses below, field by field; with ``probe = true`` it holds only the fields of a
:class:`HostDefaults`, and ``probe.py`` finds the rest.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Generic, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import DeviceProfileError, nearest
from ..scheme import FLOAT_BYTES
from ..units import parse_bytes

KINDS = ("jetson", "pi", "sbc", "phone", "laptop", "desktop", "host")
EXECUTION_PROVIDERS = tuple(
    f"{name}ExecutionProvider"
    for name in ("CPU", "CUDA", "Tensorrt", "NvTensorRTRTX", "QNN", "Xnnpack", "CoreML", "OpenVINO", "Dml", "WebGpu")
)
UNVERIFIED = "unverified"

Bytes = NewType("Bytes", int)
_T = TypeVar("_T")


def _positive(key: str, figure: Sourced[Any] | None) -> None:
    if figure is not None and not 0 < figure.value < float("inf"):
        raise ValueError(f"{key} is {figure.value}; it must be above 0")


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{key} is {value!r}; allowed: {', '.join(allowed)}; {nearest(value, allowed)}")


@dataclass(frozen=True)
class Sourced(Generic[_T]):
    """A value and where it is from.

    Args:
        value: The figure.
        source: Who says so; begins with ``unverified`` when it is an estimate or from memory.
        note: What else to know.
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
class Memory:
    """Memory the model can use: ``usable`` is what one process can count on beside the system."""

    total: Sourced[Bytes]
    usable: Sourced[Bytes]

    def __post_init__(self) -> None:
        _positive("total", self.total)
        _positive("usable", self.usable)
        if self.usable.value > self.total.value:
            raise ValueError(f"usable is {self.usable.value} bytes, more than the total of {self.total.value}")


@dataclass(frozen=True)
class Bandwidth:
    """Memory bandwidth in GB/s (10^9); None when not known.

    ``theoretical`` is what the specification says; ``sustained`` was measured with all cores reading, ``one_core`` with
    one.
    """

    theoretical: Sourced[float] | None = None
    sustained: Sourced[float] | None = None
    one_core: Sourced[float] | None = None

    def __post_init__(self) -> None:
        for key in ("theoretical", "sustained", "one_core"):
            _positive(key, getattr(self, key))
        if self.theoretical and self.sustained and self.sustained.value > self.theoretical.value:
            raise ValueError(
                f"sustained is {self.sustained.value} GB/s, more than the theoretical {self.theoretical.value}"
            )
        if self.sustained and self.one_core and self.one_core.value > self.sustained.value:
            raise ValueError(f"one_core is {self.one_core.value} GB/s, more than the sustained {self.sustained.value}")


@dataclass(frozen=True)
class KernelPeak:
    """What a kernel of the native engine can do at most, in 10^9 multiply-adds per second: all cores, and one."""

    name: str
    gmac_s: Sourced[float]
    one_core_gmac_s: Sourced[float]

    def __post_init__(self) -> None:
        _positive("gmac_s", self.gmac_s)
        _positive("one_core_gmac_s", self.one_core_gmac_s)


@dataclass(frozen=True)
class Cpu:
    """The processor; ``isa`` names the extensions that matter to a matrix product, as Linux spells them.

    ``kernels`` are those it runs, the best first, where they were measured.
    """

    description: Sourced[str]
    cores: Sourced[int]
    isa: Sourced[tuple[str, ...]]
    kernels: tuple[KernelPeak, ...] = ()

    def __post_init__(self) -> None:
        _positive("cores", self.cores)


@dataclass(frozen=True)
class Accelerator:
    """A GPU or NPU.

    ``int8_tops_dense`` counts no sparsity; ``runtime`` is the memory its libraries take before a model is loaded.
    """

    kind: str
    name: Sourced[str]
    compute_capability: Sourced[str] | None = None
    int8_tops_dense: Sourced[float] | None = None
    runtime: Sourced[Bytes] | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("gpu", "npu"):
            raise ValueError(f"kind is {self.kind!r}; allowed: gpu, npu")
        _positive("int8_tops_dense", self.int8_tops_dense)
        _positive("runtime", self.runtime)


@dataclass(frozen=True)
class Storage:
    """Where the model lies; ``read_mb_s`` is sequential, in MB/s (10^6)."""

    name: str
    read_mb_s: Sourced[float] | None = None

    def __post_init__(self) -> None:
        _positive("read_mb_s", self.read_mb_s)


@dataclass(frozen=True)
class PowerMode:
    """A power budget the device can be set to, or what it draws; ``watts`` is None where the mode has no limit."""

    name: str
    watts: Sourced[float] | None = None

    def __post_init__(self) -> None:
        _positive("watts", self.watts)


@dataclass(frozen=True)
class LatencyBudget:
    """What the device's user is willing to wait for: first token (s), and tokens per second after it."""

    ttft_s: Sourced[float] | None = None
    decode_tok_s: Sourced[float] | None = None

    def __post_init__(self) -> None:
        _positive("ttft_s", self.ttft_s)
        _positive("decode_tok_s", self.decode_tok_s)


@dataclass(frozen=True, kw_only=True)
class HostDefaults:
    """What a profile says in words: all there is to say of a host that is probed.

    Args:
        name: The file's stem.
        title: For people.
        aliases: Other names of the device.
        kind: One of ``KINDS``.
        os: The system the profile is true of.
        activation_type: The graph's float type: ``float16`` for CUDA, ``float32`` for CPUs.
        execution_providers: onnxruntime's own names, the best for an edgekit artifact first.
        context: Tokens planned for when none are asked for.
        notes: What a user should know.
    """

    name: str
    title: str
    aliases: tuple[str, ...]
    kind: str
    os: str
    activation_type: str
    execution_providers: tuple[str, ...]
    context: Sourced[int]
    notes: str = ""

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, KINDS)
        _one_of("activation_type", self.activation_type, tuple(FLOAT_BYTES))
        if not self.execution_providers:
            raise ValueError("execution_providers is empty; CPUExecutionProvider is always there")
        for provider in self.execution_providers:
            _one_of("execution_providers", provider, EXECUTION_PROVIDERS)
        _positive("context", self.context)

    @property
    def default_context(self) -> int:
        return self.context.value


@dataclass(frozen=True, kw_only=True)
class DeviceProfile(HostDefaults):
    """A device: the words, and every number with its source."""

    memory: Memory
    cpu: Cpu
    bandwidth: Bandwidth = Bandwidth()
    accelerator: Accelerator | None = None
    storage: tuple[Storage, ...] = ()
    power_modes: tuple[PowerMode, ...] = ()
    latency_budget: LatencyBudget | None = None

    @property
    def total_bytes(self) -> int:
        return self.memory.total.value

    @property
    def usable_bytes(self) -> int:
        return self.memory.usable.value

    def sourced(self) -> Iterator[tuple[str, Sourced[Any]]]:
        """Every figure under its dotted name, such as ``memory.usable``, in the order of the fields."""
        yield from _sourced("", self)

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON shows it: a figure is {value, source, verified, note}; sizes are bytes."""
        value = _to_json(self)
        assert isinstance(value, dict)  # noqa: S101  a dataclass becomes an object
        return value


def read_device(path: Path) -> DeviceProfile | HostDefaults:
    """Read and check a device file.

    Args:
        path: A ``.toml`` file; its stem becomes the device's name.

    Returns:
        The profile, or the defaults of a device that is to be probed.

    Raises:
        DeviceProfileError: The file cannot be read, is not TOML, has unknown or missing keys, a number without a
            source, or an impossible value.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DeviceProfileError(f"cannot read the device profile {path}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DeviceProfileError(f"the device profile {path} is not TOML: {error}") from None
    probe = content.pop("probe", False)
    if not isinstance(probe, bool):
        raise DeviceProfileError(f"{path}: probe is {probe!r}; it must be true or false")
    if "name" in content:
        raise DeviceProfileError(f"{path}: unknown key 'name'; the file's name is the device's")
    cls = HostDefaults if probe else DeviceProfile
    return _build(cls, {"name": path.stem, **content}, str(path), separator=": ")


def _build(cls: type[_T], value: Any, where: str, separator: str = ".") -> _T:
    """Make a dataclass from a table of the file; ``where`` names the table in messages."""
    if not isinstance(value, dict):
        raise DeviceProfileError(f"{where} is {value!r}; it must be a table")
    hints = get_type_hints(cls)
    known = {f.name: f.default is MISSING for f in fields(cls)}  # type: ignore[arg-type]
    for key in value:
        if key not in known:
            raise DeviceProfileError(f"{where}: unknown key {key!r}; {nearest(key, set(known) - {'name'})}")
    missing = [key for key, required in known.items() if required and key not in value]
    if missing:
        raise DeviceProfileError(f"{where}: lacks {', '.join(missing)}")
    values = {key: _convert(hints[key], item, f"{where}{separator}{key}") for key, item in value.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise DeviceProfileError(f"{where}: {error}") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Check a value of the file against a field's type and turn it into that."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return _convert(next(h for h in get_args(hint) if h is not NoneType), value, where)
    if origin is Sourced:
        return _sourced_value(get_args(hint)[0], value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise DeviceProfileError(f"{where} is {value!r}; it must be a list")
        return tuple(_convert(get_args(hint)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if is_dataclass(hint):
        return _build(hint, value, where)  # type: ignore[arg-type]
    if hint is Bytes:
        return _size(value, where)
    words = {int: "a whole number", float: "a number", str: "text"}
    accepted = (int, float) if hint is float else (hint,)
    if not isinstance(value, accepted) or isinstance(value, bool):
        raise DeviceProfileError(f"{where} is {value!r}; it must be {words[hint]}")
    return value


def _sourced_value(hint: Any, value: Any, where: str) -> Sourced[Any]:
    example = f'{where.rpartition(".")[2].rpartition(": ")[2]} = {{ value = ..., source = "..." }}'
    if not isinstance(value, dict):
        raise DeviceProfileError(f"{where} is {value!r} without a source; write {example}")
    for key in value:
        if key not in ("value", "source", "note"):
            raise DeviceProfileError(f"{where}: unknown key {key!r}; {nearest(key, ('value', 'source', 'note'))}")
    missing = [key for key in ("value", "source") if key not in value]
    if missing:
        raise DeviceProfileError(f"{where} lacks its {' and '.join(missing)}; write {example}")
    texts = {key: _convert(str, value[key], f"{where}.{key}") for key in ("source", "note") if key in value}
    try:
        return Sourced(_convert(hint, value["value"], f"{where}.value"), **texts)
    except ValueError as error:
        raise DeviceProfileError(f"{where}: {error}") from None


def _size(value: Any, where: str) -> Bytes:
    if not isinstance(value, str):
        raise DeviceProfileError(f'{where} is {value!r}; it must be text with a unit, such as "8 GB"')
    try:
        return Bytes(parse_bytes(value))
    except ValueError as error:
        raise DeviceProfileError(f"{where}: {error}") from None


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
