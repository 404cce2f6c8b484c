"""Compiles the NEON kernels and finds their inner loops."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from kernel_cost.loops import busiest, functions, instructions_of, multiply_adds, vector_instructions

NATIVE = Path(__file__).parents[2] / "edgekit" / "native"
TABLES = ("neon_dotprod", "neon_i8mm")
TILE_ROWS = {"neon_dotprod": 4, "neon_i8mm": 8}
TILE_PRODUCTS = 64  # 4 rows by 16 outputs, 8 rows by 8 outputs
COMPILERS = {"gcc": ["aarch64-linux-gnu-g++"], "clang": ["clang++", "--target=aarch64-linux-gnu"]}
# Of CMakeLists.txt, which adds the extensions of each kernel file.
FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fno-exceptions", "-fPIC", "-Wno-psabi")


@dataclass(frozen=True)
class Format:
    """A format of weights: bits, block size, whether there are zero points, and bits of a scale."""

    bits: int
    block: int
    zeros: bool
    scale_bits: int = 32

    @property
    def name(self) -> str:
        return f"int{self.bits}, block {self.block}{', zero points' if self.zeros else ''}"

    @property
    def bytes_per_weight(self) -> float:
        """Codes, scales and zero points."""
        return (self.bits + (self.scale_bits + (self.bits if self.zeros else 0)) / self.block) / 8


FORMATS = (Format(4, 128, False), Format(4, 64, True), Format(8, 64, False))


@dataclass(frozen=True)
class Loop:
    """The inner loop of one kernel for one format.

    Attributes:
        work: ``decode``, ``few`` or ``prefill``.
        rows: Rows of activations that it multiplies.
        instructions: One iteration.
    """

    work: str
    format: Format
    rows: int
    instructions: tuple[str, ...]

    @property
    def multiply_adds(self) -> int:
        return multiply_adds(self.instructions)

    @property
    def weights(self) -> int:
        """Weights of one iteration, each multiplied with all rows."""
        return self.multiply_adds // self.rows

    @property
    def vector(self) -> int:
        return vector_instructions(self.instructions)


@dataclass(frozen=True)
class Table:
    """The loops of a kernel table, and its loop of products alone, which is the peak of the unit."""

    name: str
    loops: tuple[Loop, ...]
    peak: tuple[str, ...]

    def loop(self, work: str, fmt: Format, rows: int) -> Loop:
        """The loop for a format, with scales of any type."""
        fmt = replace(fmt, scale_bits=32)
        return next(loop for loop in self.loops if (loop.work, loop.format, loop.rows) == (work, fmt, rows))


@dataclass(frozen=True)
class Attention:
    """Attention of neon_bf16: one step of the loops of products, and the softmax of 64 scores of a row."""

    scores: tuple[str, ...]
    values: tuple[str, ...]
    softmax: tuple[str, ...]


def compile_kernels(table: str, compiler: str) -> str:
    """The assembly of a kernel file."""
    cmake = (NATIVE / "CMakeLists.txt").read_text()
    base = re.search(r"set\(armv82 (-march=[\w.-]+)\)", cmake)
    more = re.search(rf"kernels/{table}\.cpp PROPERTIES.*?\$\{{armv82\}}([\w+]+)", cmake)
    assert base, "CMakeLists.txt does not set armv82"
    assert more, f"CMakeLists.txt adds nothing to armv82 for {table}"
    source = NATIVE / "kernels" / f"{table}.cpp"
    command = [*COMPILERS[compiler], *FLAGS, base[1] + more[1], "-S", "-o", "-", str(source)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]} could not compile {table}.cpp")
    return done.stdout


def demangled(names: list[str]) -> list[str]:
    done = subprocess.run(["c++filt"], input="\n".join(names), check=True, capture_output=True, text=True)
    return [name.replace("(anonymous namespace)::", "") for name in done.stdout.splitlines()]


def find_loops(table: str, assembly: str) -> Table:
    """The loops of a table.

    Raises:
        SystemExit: A kernel was not found: it was renamed or inlined.
    """
    mangled = dict(functions(assembly))
    by_name = dict(zip(demangled(list(mangled)), mangled.values(), strict=True))

    def loop_of(pattern: str, products: int | None) -> tuple[str, ...]:
        found = [busiest(lines, products) for name, lines in by_name.items() if re.match(rf"(?:\w+ )?{pattern}", name)]
        loops = [loop for loop in found if loop]
        if not loops:
            raise SystemExit(
                f"{table} has no function {pattern} with a loop of products{f' of {products}' if products else ''}"
            )
        return tuple(max(loops, key=multiply_adds))

    loops = []
    for fmt in FORMATS:
        zeros = str(fmt.zeros).lower()
        kind = f"{fmt.bits}, {fmt.block}, {zeros}"
        loops.append(Loop("decode", fmt, 1, loop_of(f"decode<Format<{fmt.bits}, {fmt.block}>, {zeros}>", None)))
        for rows in (2, 4, 8):
            few = {"neon_dotprod": f"few_outputs<{kind}, {rows}>", "neon_i8mm": f"few_pairs<{kind}, {rows // 2}>"}[
                table
            ]
            loops.append(Loop("few", fmt, rows, loop_of(few, None)))
        # Zero points of 4 bits are subtracted when a panel is unpacked.
        prefill = f"prefill<{fmt.block}, {str(fmt.zeros and fmt.bits == 8).lower()}>"
        loops.append(Loop("prefill", fmt, TILE_ROWS[table], loop_of(prefill, TILE_PRODUCTS * fmt.block)))
    return Table(table, tuple(loops), loop_of(r"spin\(", None))


def find_attention(assembly: str) -> Attention:
    """The loops of neon_bf16.

    Raises:
        SystemExit: A function was renamed or inlined.
    """
    mangled = dict(functions(assembly))
    by_name = {
        name.partition("(")[0]: lines for name, lines in zip(demangled(list(mangled)), mangled.values(), strict=True)
    }
    try:
        scores, values = (busiest(by_name[name]) for name in ("score_bf16", "value_bf16"))
        softmax = instructions_of(by_name["soften_bf16"])
    except KeyError as missing:
        raise SystemExit(f"neon_bf16 has no function {missing}") from None
    if not scores or not values:
        raise SystemExit("the attention of neon_bf16 has no loop of products")
    return Attention(tuple(scores), tuple(values), tuple(softmax))
