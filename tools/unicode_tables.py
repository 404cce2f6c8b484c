"""Writes edgekit/native/text/unicode_tables.inl: what the native tokenizer needs of Unicode.

    python tools/unicode_tables.py

The facts are asked of the tokenizers library itself, because ids must be the same: its regular expressions, its digits
and its normalizer have three different Unicode versions.
"""

from __future__ import annotations

import argparse
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

OUT = Path(__file__).parents[1] / "edgekit" / "native" / "text" / "unicode_tables.inl"
CODES = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
LETTER, NUMBER, SPACE, NFC, WORD = 1, 2, 3, 4, 8
BLOCK = 128  # code points in a block of the two-level table
_AT_ONCE = 4096
_LINE = 118
_HANGUL = range(0xAC00, 0xD7A4)
_JAMO = [*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)]  # those that join the character before


def matched(pattern: str) -> set[int]:
    """The code points that a regular expression for one character matches."""
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    found = set(CODES)
    for start in range(0, len(CODES), _AT_ONCE):
        text = "".join(map(chr, CODES[start : start + _AT_ONCE]))
        for word, _ in split.pre_tokenize_str(text):
            found -= set(map(ord, word))
    return found


def digits() -> set[int]:
    """The code points that the pre-tokenizer Digits splits off."""
    split = pre_tokenizers.Digits(individual_digits=True)
    return {code for code in CODES if len(split.pre_tokenize_str(f"a{chr(code)}a")) == 3}


def words() -> set[int]:
    """The code points that an added token with single_word must not touch."""
    tokenizer = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    tokenizer.add_tokens([AddedToken("aa", single_word=True)])
    one = tokenizer.token_to_id("aa")
    return {code for code in CODES if one not in tokenizer.encode(f"{chr(code)}aa").ids}


def classes(flagged: set[int]) -> bytes:
    """The class of each code point, with bits for NFC and word characters."""
    table = bytearray(0x110000)
    for kind, pattern in ((LETTER, r"\p{L}"), (NUMBER, r"\p{N}"), (SPACE, r"\s")):
        for code in matched(pattern):
            table[code] |= kind
    for code in flagged:
        table[code] |= NFC
    for code in words():
        table[code] |= WORD
    return bytes(table)


def two_levels(table: bytes) -> tuple[list[int], list[int]]:
    """Each block's number, and the different blocks with two code points in a byte, the first one in the low half."""
    blocks: dict[bytes, int] = {}
    numbers = []
    for start in range(0, len(table), BLOCK):
        block = table[start : start + BLOCK]
        numbers.append(blocks.setdefault(block, len(blocks)))
    assert len(blocks) <= 256
    return numbers, [block[i] | block[i + 1] << 4 for block in blocks for i in range(0, BLOCK, 2)]


def decompositions() -> dict[int, tuple[int, ...]]:
    """The full canonical decompositions, without those of Hangul syllables."""
    nfd = normalizers.NFD()
    found = {code: tuple(map(ord, nfd.normalize_str(chr(code)))) for code in CODES if code not in _HANGUL}
    return {code: parts for code, parts in found.items() if parts != (code,)}


def combining_classes(decomposed: Iterable[int]) -> dict[int, int]:
    """The canonical combining class of each code point that has one: how NFD orders it among marks of known classes."""
    nfd = normalizers.NFD()

    def after(code: int, mark: int) -> bool:
        """Whether the code point moves behind a mark that follows it."""
        return code != mark and nfd.normalize_str(f"a{chr(code)}{chr(mark)}") == f"a{chr(mark)}{chr(code)}"

    low, high = 0x334, 0x345  # the classes 1 and 240
    marks: dict[int, int] = {}
    for code in CODES:
        value = unicodedata.combining(chr(code))
        if value in (1, 240) or (value and after(code, low)):  # the library's Unicode version may lack it
            marks.setdefault(value, code)
    skipped = set(decomposed)
    found = {}
    for code in CODES:
        if code in skipped or code in _HANGUL:
            continue
        below_high = nfd.normalize_str(f"a{chr(high)}{chr(code)}") == f"a{chr(code)}{chr(high)}"
        if not below_high and not after(code, low):
            continue  # 0
        found[code] = next(value for value in sorted(marks) if not after(code, marks[value]))
    return found


def pairs(full: dict[int, tuple[int, ...]]) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
    """Decompositions (code, first, second) in one step, and compositions (first, second, code).

    A code point that only stands for another one has the second 0.
    """
    nfc = normalizers.NFC()
    whole = {parts: code for code, parts in sorted(full.items(), reverse=True) if len(parts) > 1}
    apart, together = [], []
    for code, parts in sorted(full.items()):
        if len(parts) == 1:
            apart.append((code, parts[0], 0))
            continue
        first = parts[0] if len(parts) == 2 else whole[parts[:-1]]
        composes = nfc.normalize_str(chr(code)) == chr(code)
        if composes and len(parts) > 2:
            first = ord(nfc.normalize_str("".join(map(chr, parts[:-1]))))
        apart.append((code, first, parts[-1]))
        if composes:
            together.append((first, parts[-1], code))
    return apart, sorted(together)


def ranges(values: dict[int, int]) -> list[tuple[int, int, int]]:
    """(first, last, value) of neighbouring code points with the same value."""
    found: list[tuple[int, int, int]] = []
    for code, value in sorted(values.items()):
        if found and found[-1][1] == code - 1 and found[-1][2] == value:
            found[-1] = (found[-1][0], code, value)
        else:
            found.append((code, code, value))
    return found


def array(kind: str, name: str, items: Iterable[int]) -> str:
    """A C++ array, in lines of the usual length."""
    lines, line = [], " "
    for item in items:
        text = f" {item:#x}," if item > 255 else f" {item},"
        if len(line) + len(text) > _LINE:
            lines.append(line)
            line = " "
        line += text
    return f"constexpr {kind} {name}[] = {{\n" + "\n".join([*lines, line]) + "\n};\n"


def written() -> str:
    """The content of the file."""
    full = decompositions()
    combining = combining_classes(full)
    apart, together = pairs(full)
    nfc = normalizers.NFC()
    changed = {code for code in full if nfc.normalize_str(chr(code)) != chr(code)}
    table = classes(changed | set(combining) | {second for _, second, _ in together} | set(_JAMO))
    numbers, blocks = two_levels(table)
    more = sorted(digits() - {code for code in CODES if table[code] & 3 == NUMBER})
    version = tokenizers.__version__
    text = f"""/* Unicode tables, written by tools/unicode_tables.py from tokenizers {version}. Do not edit.
 *
 * kBlockOf     the block of each {BLOCK} code points
 * kBlocks      two code points in a byte; bits 0 and 1: 1 letter (L), 2 number (N), 3 white space; bit 2: may change in
 *              NFC; bit 3: part of a word
 * kMoreDigits  numbers to the pre-tokenizer Digits only
 * kApart       code << 42 | first << 21 | second: the canonical decomposition in one step
 * kTogether    first << 42 | second << 21 | code: where NFC composes
 * kCombining   first code << 32 | last code << 8 | canonical combining class
 *
 * All are sorted. */
"""
    text += array("uint8_t", "kBlockOf", numbers) + array("uint8_t", "kBlocks", blocks)
    text += array("uint32_t", "kMoreDigits", more)
    text += array("uint64_t", "kApart", (code << 42 | first << 21 | second for code, first, second in apart))
    text += array("uint64_t", "kTogether", (first << 42 | second << 21 | code for first, second, code in together))
    text += array("uint64_t", "kCombining", (a << 32 | b << 8 | value for a, b, value in ranges(combining)))
    return text


def main() -> None:
    """Write the file."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    OUT.write_text(written(), encoding="utf-8")


if __name__ == "__main__":
    main()
