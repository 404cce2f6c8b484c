"""Reads the README and the pages in docs/ as the tests see them: fenced blocks, shell commands, links, inline code.

The language of a fenced block says how it is checked (tests/test_docs.py, tests/test_docs_run.py):

    sh        run for real, the blocks of a page one after another in one folder
    console   "$ command", then its output, which the program must still print
    bash      checked without running it: it takes long, or needs a device or a file of the reader's
    python    run in one namespace for each page
    other     only its paths are checked
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))
TOP = ("devices", "docs", "edgekit", "examples", "recipes", "tests", "tools")  # the folders that paths start with

_FENCE = re.compile(r"^```([a-z]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_ASSIGNMENT = re.compile(r"^[A-Za-z_]+=")


@dataclass(frozen=True)
class Block:
    """A fenced block; ``line`` is the line of its opening fence, counted from 1."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command of a shell block, as words, without variables set before it or redirections behind it."""

    place: str
    words: tuple[str, ...]

    @property
    def program(self) -> str:
        return self.words[0].rpartition("/")[2]

    def __str__(self) -> str:
        return f"{self.place}: {shlex.join(self.words)}"


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of a page, of some languages or of all."""
    text = page.read_text(encoding="utf-8")
    found = (Block(page, text.count("\n", 0, m.start()) + 1, m[1], m[2]) for m in _FENCE.finditer(text))
    return [block for block in found if not languages or block.language in languages]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """Targets of the links and pictures of a page."""
    return _LINK.findall(_INLINE.sub("code", prose(page)))


def inline_code(page: Path) -> list[str]:
    """What stands between backquotes in a page's prose."""
    return _INLINE.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors GitHub gives the headings of a page."""
    headings = (heading.strip().lower().replace("`", "") for heading in _HEADING.findall(prose(page)))
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


def commands(page: Path) -> list[Command]:
    """Every command in the shell and console blocks of a page, but for lines with a command substitution."""
    found = []
    for block in blocks(page, "sh", "bash", "console"):
        lines = block.text.replace("\\\n", " ").splitlines()
        if block.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        for line in lines:
            if "$(" not in line:
                found += [Command(block.place, words) for words in _simple_commands(line) if words]
    return found


def mentions(page: Path) -> list[Command]:
    """The ``edgekit`` commands in a page's inline code, which may leave out required arguments.

    The generated usage lines (``[OPTIONS]``) are left to the test that they are fresh.
    """
    found = (shlex.split(code) for code in inline_code(page) if re.match(r"edgekit (?!.*\[OPTIONS\])", code))
    return [Command(page.name, tuple(words)) for words in found]


def _simple_commands(line: str) -> list[tuple[str, ...]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.commenters = "#"
    found: list[list[str]] = [[]]
    skip = False
    for word in lexer:
        if word and set(word) <= set("();&|"):
            found.append([])
        elif word and set(word) <= set("<>"):
            skip = True  # the file of a redirection
        elif skip:
            skip = False
        elif found[-1] or not _ASSIGNMENT.match(word):
            found[-1].append(word)
    return [tuple(words) for words in found]
