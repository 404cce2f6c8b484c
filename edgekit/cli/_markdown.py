"""Divides Markdown that arrives in pieces into blocks: paragraphs, lists, tables and code, to be drawn when whole."""

from __future__ import annotations

import re

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


class MarkdownBlocks:
    """Collects text and returns the blocks that nothing can be added to any more.

    A block ends at an empty line outside code, unless an indented line follows, which belongs to a list.

    Attributes:
        rest: The text of the block that is not finished.
    """

    def __init__(self) -> None:
        self.rest = ""

    def push(self, text: str) -> list[str]:
        """Add text and return the blocks that it finishes, each without the empty lines around it."""
        self.rest += text
        blocks = []
        while (end := _end_of_block(self.rest)) is not None:
            block, self.rest = self.rest[:end].strip("\n"), self.rest[end:].lstrip("\n")
            if block:
                blocks.append(block)
        return blocks

    def flush(self) -> list[str]:
        """End the text and return what is left of it."""
        block, self.rest = self.rest.strip("\n"), ""
        return [block] if block else []


def _end_of_block(text: str) -> int | None:
    """Where the first block of a text ends; None if it may go on."""
    fence, empty, at = "", False, 0
    for line in text.splitlines(keepends=True):
        if empty and line.strip() and not line.startswith((" ", "\t")):
            return at
        found = _FENCE.match(line)
        if not line.endswith("\n"):
            return None
        if fence:
            if found and found[1][0] == fence[0] and len(found[1]) >= len(fence) and not line.strip().strip(fence[0]):
                return at + len(line)
        elif found:
            fence = found[1]
        else:
            empty = not line.strip()
        at += len(line)
    return None
