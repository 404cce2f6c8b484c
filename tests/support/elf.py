"""Reads what an ELF file needs from the system: libraries and symbol versions (System V ABI; LSB for versions)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_NEEDED, _VERNEED = 1, 0x6FFFFFFE
_MACHINES = {62: "x86_64", 183: "aarch64"}


@dataclass(frozen=True)
class Elf:
    """An ELF file.

    Attributes:
        machine: ``x86_64`` or ``aarch64``.
        needed: The libraries that it is linked against.
        versions: The symbol versions that it needs, such as ``GLIBC_2.17``.
        interpreter: The dynamic loader that starts it, or an empty string for a library or a static program.
        has_symbols: Whether it has a symbol table for debuggers, so it is not stripped.
    """

    machine: str
    needed: tuple[str, ...]
    versions: tuple[str, ...]
    interpreter: str
    has_symbols: bool


def read_elf(path: Path) -> Elf:
    """Read a 64-bit little-endian ELF file."""
    data = path.read_bytes()
    assert data[:6] == b"\x7fELF\x02\x01", f"{path} is not a 64-bit little-endian ELF file"
    machine, header, sections = struct.unpack_from("<H", data, 18)[0], *struct.unpack_from("<QQ", data, 32)
    entry, count, section_entry, section_count = struct.unpack_from("<HHHH", data, 54)
    programs = [
        struct.unpack_from("<IIQQQQ", data, header + i * entry) for i in range(count)
    ]  # type, flags, offset, ...
    interpreter = next((_text(data, offset) for kind, _, offset, *_ in programs if kind == 3), "")
    types = {struct.unpack_from("<I", data, sections + i * section_entry + 4)[0] for i in range(section_count)}

    def offset_of(address: int) -> int:
        for kind, _, offset, virtual, _, size in programs:
            if kind == 1 and virtual <= address < virtual + size:
                return int(offset + address - virtual)
        raise AssertionError(f"{path}: address {address:#x} is in no segment")

    dynamic: list[tuple[int, int]] = []
    for kind, _, offset, _, _, size in programs:
        if kind == 2:
            dynamic = [struct.unpack_from("<QQ", data, offset + i) for i in range(0, size, 16)]
    dynamic = dynamic[: next((i for i, (tag, _) in enumerate(dynamic) if tag == 0), 0)]
    values = dict(dynamic)
    texts = offset_of(values[5]) if 5 in values else 0
    needed = tuple(_text(data, texts + value) for tag, value in dynamic if tag == _NEEDED)
    versions = set()
    record = offset_of(values[_VERNEED]) if _VERNEED in values else None
    while record is not None:
        _, names, _, first, following = struct.unpack_from("<HHIII", data, record)
        name = record + first
        for _ in range(names):
            _, _, _, text, step = struct.unpack_from("<IHHII", data, name)
            versions.add(_text(data, texts + text))
            name += step
        record = record + following if following else None
    return Elf(_MACHINES[machine], needed, tuple(sorted(versions)), interpreter, 2 in types)


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()
