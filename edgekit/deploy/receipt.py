"""The receipt of a smoke test: what ran on which machine, each check, and every figure. docs/receipt.md describes it.

``edgekit smoke`` and ``edgekit-run --smoke`` write the same receipt. ``VERSION`` increases when a field changes its
meaning or goes away; fields may be added, and a reader ignores those it does not know. None is null: not known, or not
measured.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ArtifactError
from ..json_file import read_json_object
from ..json_text import finite_json, json_text
from ..output_file import write_output
from ..schema.fields import check_table
from ..schema.receipt import RECEIPT
from ..toml_table import TableReader

VERSION = 1
PASS, WARN, FAIL = VERDICTS = ("pass", "warn", "fail")  # from the best to the worst
_MAX_BYTES = 1024 * 1024  # a receipt has some kilobytes


@dataclass(frozen=True)
class Check:
    """One check: its name, ``pass``, ``warn`` or ``fail``, and the measured and allowed values."""

    name: str
    verdict: str
    detail: str

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict is {self.verdict!r}; allowed: {', '.join(VERDICTS)}")

    @property
    def passed(self) -> bool:
        """Whether it did not fail; a warning passes."""
        return self.verdict != FAIL


@dataclass(frozen=True)
class Clock:
    """The clock of cores that change it together: their numbers, the current and the highest MHz, and the governor."""

    cpus: str | None
    mhz: float | None
    max_mhz: float | None
    governor: str | None


@dataclass(frozen=True)
class Temperature:
    """A thermal zone of the system, and its temperature at the end of the test."""

    name: str | None
    celsius: float


@dataclass(frozen=True)
class Machine:
    """The machine that ran the test, as its system describes it.

    Attributes:
        system: The kernel and its release, such as ``Linux 5.15.148-tegra``.
        machine: The architecture, as ``uname -m`` prints it.
        board: The model in the device tree, such as ``NVIDIA Jetson Orin Nano Developer Kit``.
        processor: Its name in ``/proc/cpuinfo``.
        isa: The instruction set extensions that matter to a matrix product, as Linux spells them.
        cores: Fast physical cores that the process may use.
        memory_bytes: Most memory that the process may use.
        available_bytes: What could be allocated at the end of the test.
        clocks, temperatures: At the end of the test; empty where the system does not show them.
        power_mode: The name of the power mode of a Jetson (nvpmodel), or its number as text.
    """

    system: str | None
    machine: str | None
    board: str | None
    processor: str | None
    isa: tuple[str, ...]
    cores: int | None
    memory_bytes: int | None
    available_bytes: int | None
    clocks: tuple[Clock, ...]
    temperatures: tuple[Temperature, ...]
    power_mode: str | None


@dataclass(frozen=True)
class Prompt:
    """The time to the first token of a prompt as long as the plan's."""

    tokens: int
    ttft_s: float


@dataclass(frozen=True)
class Sustained:
    """Decode for a while: its speed in the first and in the last third of the time shows whether heat slows it down."""

    seconds: float
    tokens: int
    first_tok_s: float
    last_tok_s: float


@dataclass(frozen=True)
class Predicted:
    """The decode speed in the build's plan for ``device``, in tokens per second: the 80 % prediction interval."""

    device: str | None
    low: float
    mid: float
    high: float


@dataclass(frozen=True)
class Contradiction:
    """A figure of the device's profile that the test contradicts.

    Attributes:
        figure: Its dotted name, such as ``memory.total``.
        profile: The profile's value, as text with its unit.
        measured: What the test found, as text with its unit.
        detail: One sentence.
    """

    figure: str
    profile: str
    measured: str
    detail: str


@dataclass(frozen=True)
class Receipt:
    """The outcome of a smoke test.

    Attributes:
        program: ``edgekit`` or ``edgekit-run``.
        edgekit_version: The version of the program.
        created: The time of the test by the machine's clock, in UTC: ``2026-01-31T12:00:00Z``.
        artifact: The artifact's name.
        manifest_sha256: The SHA-256 of its ``edgekit.json``, which has those of all other files.
        device: The device that the machine was said to be; None if none was named.
        engine, kernel: The engine and kernels that ran the artifact; empty if none was loaded.
        threads: Threads of the arithmetic. This and the following are None if the test ended early.
        context: Tokens that the KV cache held.
        kv_type: Type of keys and values.
        checks: The checks, in the order in which they ran.
        load_s: Seconds to load the artifact.
        ttft_s: Seconds from the golden prompt to its first token, warm.
        decode_tok_s: Tokens per second of the golden continuation, warm.
        peak_rss_bytes: The largest resident memory.
        prompt: The first token of a prompt as long as the plan's; None unless a device was named.
        sustained: Decode for a while; None unless requested.
        predicted: The plan's decode speed; None if the plan has none for this engine.
        host: The machine.
        contradictions: Figures of the device's profile that the test contradicts; None if none was compared.
    """

    program: str
    edgekit_version: str
    created: str
    artifact: str
    manifest_sha256: str
    host: Machine
    device: str | None = None
    engine: str = ""
    kernel: str = ""
    threads: int | None = None
    context: int | None = None
    kv_type: str | None = None
    checks: tuple[Check, ...] = ()
    load_s: float | None = None
    ttft_s: float | None = None
    decode_tok_s: float | None = None
    peak_rss_bytes: int | None = None
    prompt: Prompt | None = None
    sustained: Sustained | None = None
    predicted: Predicted | None = None
    contradictions: tuple[Contradiction, ...] | None = None

    @property
    def verdict(self) -> str:
        """The worst verdict of the checks; ``fail`` if there are none."""
        return max((check.verdict for check in self.checks), key=VERDICTS.index, default=FAIL)

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return self.verdict != FAIL

    @property
    def as_predicted(self) -> bool | None:
        """Whether ``decode_tok_s`` is inside the predicted interval; it applies only to the plan's device."""
        if self.predicted is None or self.decode_tok_s is None:
            return None
        return self.predicted.low <= self.decode_tok_s <= self.predicted.high

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values, the verdict first."""
        checks = [{"name": c.name, "passed": c.passed, "verdict": c.verdict, "detail": c.detail} for c in self.checks]
        plain: dict[str, Any] = finite_json(_plain(self))
        head = {"passed": self.passed, "verdict": self.verdict, "receipt_version": VERSION}
        return {**head, **plain, "checks": checks, "as_predicted": self.as_predicted}

    def write(self, path: Path) -> None:
        """Write the receipt as JSON.

        Raises:
            ArtifactError: The file cannot be written.
        """
        try:
            write_output(path, (json_text(self.to_json(), indent=2) + "\n").encode())
        except OSError as error:
            raise ArtifactError(f"cannot write the receipt {path}: {error.strerror}") from None

    def with_checks(self, *checks: Check) -> Receipt:
        """The same receipt with more checks."""
        return replace(self, checks=(*self.checks, *checks))


def edgekit_version() -> str:
    """The version of edgekit that runs; ``unknown`` if its modules are used without an installation."""
    try:
        return importlib.metadata.version("edgekit-llm")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


DERIVED = ("passed", "verdict", "receipt_version", "as_predicted")  # fields of the JSON that follow from others


def read_receipt(path: Path) -> Receipt:
    """Read a receipt of either program.

    Raises:
        ArtifactError: The file cannot be read, is not a receipt, or has another version.
    """
    return parse_receipt(read_json_object(path, _MAX_BYTES, ArtifactError), str(path))


def parse_receipt(content: dict[str, Any], where: str) -> Receipt:
    """A receipt from its JSON object.

    Args:
        content: The object. Fields that this version does not know are ignored.
        where: Its file, for messages.

    Raises:
        ArtifactError: It is not a receipt, or one of another version.
    """
    found = content.get("receipt_version")
    if found is None:
        raise ArtifactError(
            f"{where} is not a receipt: it has no receipt_version",
            hint="edgekit smoke ARTIFACT --out FILE and edgekit-run ARTIFACT --smoke --out FILE write one",
        )
    if found != VERSION:
        raise ArtifactError(
            f"{where} has receipt_version {found!r}; this edgekit reads {VERSION}",
            hint="run the smoke test again with the program of this edgekit",
        )
    missing = [name for name in (*(f.name for f in fields(Receipt)), *DERIVED) if name not in content]
    if missing:
        raise ArtifactError(f"{where} is not a complete receipt: it lacks {', '.join(missing)}")
    check_table(content, RECEIPT, where, ArtifactError)
    receipt: Receipt = _READER.build(Receipt, _known(Receipt, content), where, separator=": ")
    return receipt


def _known(cls: Any, table: dict[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass alone, without those that are null."""
    return {f.name: table[f.name] for f in fields(cls) if table.get(f.name) is not None}


def _part(reader: TableReader, hint: Any, value: Any, where: str) -> Any:
    """A part of a receipt: its unknown fields are ignored, and null is None."""
    table = reader.table(value, where)
    known = _known(hint, table)
    nulls = {f.name: None for f in fields(hint) if f.name in table and table[f.name] is None}
    for name in nulls:
        if "None" not in str(hint.__annotations__[name]):
            raise reader.error(f"{where}.{name} is null; it must have a value")
    return reader.build(hint, known, where, given=nulls)


_PARTS = (Check, Clock, Temperature, Machine, Prompt, Sustained, Predicted, Contradiction)
_READER = TableReader("receipt", ArtifactError, dict.fromkeys(_PARTS, _part))


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
