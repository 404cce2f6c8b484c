"""Finds the loops of functions in assembly of gcc or clang for 64-bit ARM, and counts their instructions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Multiply-adds of one instruction on registers of 128 bits.
MULTIPLY_ADDS = {"sdot": 16, "udot": 16, "usdot": 16, "smmla": 32, "ummla": 32, "usmmla": 32, "bfdot": 8, "bfmmla": 16}
# With float operands, fmla is arithmetic of the product in attention and applies scales elsewhere, so it is not listed.

_LABEL = re.compile(r"([.\w$]+):")
_BRANCH = re.compile(r"(?:b|b\.?\w\w|b\.?any|b\.?none|cbn?z|tbn?z)\s(?:.*,\s*)?(\.L\w+)$")
_VECTOR = re.compile(r"\b[vqdsh]\d+\b")
_MEMORY = ("ld", "st", "prfm")


@dataclass(frozen=True)
class Loop:
    """The instructions from a label to the last branch back to it, and the loops among them.

    Attributes:
        start: Index of the first instruction in the function.
        body: Its instructions, those of the inner loops included.
        inner: The outermost loops inside it.
    """

    start: int
    body: tuple[str, ...]
    inner: tuple[Loop, ...]

    @property
    def multiply_adds(self) -> int:
        """The products of one pass over the text, inner loops counted once."""
        return multiply_adds(self.body)

    def unrolled(self, products: int) -> list[str]:
        """The instructions of one iteration, with the inner loop that multiplies repeated as often as it runs.

        Args:
            products: Multiply-adds of one iteration.

        Raises:
            ValueError: The inner loops cannot add up to this.
        """
        inner = [loop for loop in self.inner if loop.multiply_adds]
        if not inner and self.multiply_adds == products:
            return list(self.body)
        if len(inner) == 1:
            repeated = inner[0]
            outside = self.multiply_adds - repeated.multiply_adds
            times, rest = divmod(products - outside, repeated.multiply_adds)
            if rest == 0 and times > 0:
                first = repeated.start - self.start
                before, after = self.body[:first], self.body[first + len(repeated.body) :]
                return [*before, *(repeated.unrolled(repeated.multiply_adds) * times), *after]
        raise ValueError(
            f"expected {products} multiply-adds in an iteration, found {self.multiply_adds}; inner loops: {len(inner)}"
        )


def multiply_adds(instructions: Sequence[str]) -> int:
    """Integer and bfloat16 multiply-adds of all dot and matrix products."""
    return sum(MULTIPLY_ADDS.get(_mnemonic(text), 0) for text in instructions)


def vector_instructions(instructions: Sequence[str]) -> int:
    """Instructions that compute with vector registers; loads, stores and prefetches are left out."""
    return sum(not text.startswith(_MEMORY) and _VECTOR.search(text) is not None for text in instructions)


def functions(assembly: str) -> Iterator[tuple[str, list[str]]]:
    """Mangled name, and lines, of each function."""
    name, lines = "", list[str]()
    starts = set(re.findall(r"^\s*\.type\s+([\w.$]+),\s*[%@]function", assembly, re.MULTILINE))
    for line in assembly.splitlines():
        text = line.partition("//")[0].strip()
        label = _LABEL.fullmatch(text)
        if label and label[1] in starts:
            name, lines = label[1], []
        elif name and text.startswith(".size") and name in text:
            yield name, lines
            name = ""
        elif name and text:
            lines.append(text)


def instructions_of(lines: Sequence[str]) -> list[str]:
    """The instructions of a function in the order of its text."""
    return [
        re.sub(r"\s+", " ", text) for text in lines if not _LABEL.fullmatch(text) and not text.startswith((".", "#"))
    ]


def loops(lines: Sequence[str]) -> list[Loop]:
    """The outermost loops of a function, in the order of its text."""
    instructions = list[str]()
    labels = dict[str, int]()
    spans = dict[int, int]()  # from the first instruction of a loop to behind its last
    for text in lines:
        if label := _LABEL.fullmatch(text):
            labels[label[1]] = len(instructions)
        elif not text.startswith((".", "#")):
            instructions.append(re.sub(r"\s+", " ", text))
            branch = _BRANCH.match(instructions[-1])
            if branch and branch[1] in labels:
                spans[labels[branch[1]]] = len(instructions)
    return _nested(instructions, spans, 0, len(instructions))


def _nested(instructions: list[str], spans: dict[int, int], begin: int, end: int) -> list[Loop]:
    found, at = list[Loop](), begin
    for start in sorted(spans):
        if start < at or spans[start] > end:
            continue
        inside = {first: last for first, last in spans.items() if first > start and last <= spans[start]}
        inner = _nested(instructions, inside, start, spans[start])
        found.append(Loop(start, tuple(instructions[start : spans[start]]), tuple(inner)))
        at = spans[start]
    return found


def all_loops(outermost: Sequence[Loop]) -> Iterator[Loop]:
    """Loops and those inside them, the outer ones first."""
    for loop in outermost:
        yield loop
        yield from all_loops(loop.inner)


def busiest(lines: Sequence[str], products: int | None = None) -> list[str] | None:
    """One iteration of the loop of a function that multiplies the most.

    Args:
        lines: The function.
        products: Multiply-adds of one iteration, where an outer loop is meant: the innermost loop that has them is
            taken. Without it, the innermost loop with the most is taken.
    """
    known = [loop for loop in all_loops(loops(lines)) if loop.multiply_adds]
    if products is None:
        innermost = [loop for loop in known if not any(inner.multiply_adds for inner in loop.inner)]
        return list(max(innermost, key=lambda loop: loop.multiply_adds).body) if innermost else None
    for loop in reversed(known):  # the inner ones first
        try:
            return loop.unrolled(products)
        except ValueError:
            continue
    return None


def _mnemonic(text: str) -> str:
    return text.partition(" ")[0]
