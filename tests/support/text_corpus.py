"""Random texts for tokenizers: all scripts, emoji, marks, control characters, white space, invalid UTF-8."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

# First and last code points of ranges that tokenizers treat differently, from many scripts.
RANGES = [
    (0x20, 0x7E), (0x00, 0x1F), (0x7F, 0xA0), (0xA1, 0xFF), (0x100, 0x24F), (0x250, 0x2FF), (0x300, 0x36F),
    (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x58F), (0x591, 0x5F4), (0x600, 0x6FF), (0x700, 0x7BF), (0x900, 0x97F),
    (0x980, 0x9FF), (0xA01, 0xAFF), (0xB01, 0xBFF), (0xC00, 0xCFF), (0xD00, 0xDFF), (0xE01, 0xE5B), (0xE80, 0xEDF),
    (0xF00, 0xFFF), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137F), (0x13A0, 0x13FF),
    (0x1680, 0x169C), (0x1780, 0x17FF), (0x1800, 0x18AF), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x1E00, 0x1EFF),
    (0x1F00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x20CF), (0x20D0, 0x20FF), (0x2100, 0x218F), (0x2190, 0x23FF),
    (0x2460, 0x27BF), (0x2900, 0x2BFF), (0x2E80, 0x2FDF), (0x3000, 0x303F), (0x3040, 0x30FF), (0x3130, 0x318F),
    (0x3200, 0x33FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA000, 0xA4CF), (0xA640, 0xA69F), (0xA720, 0xA7FF),
    (0xA8E0, 0xA8FF), (0xAA00, 0xAADF), (0xAC00, 0xD7A3), (0xD7B0, 0xD7FB), (0xE000, 0xE0FF), (0xF900, 0xFAFF),
    (0xFB00, 0xFB4F), (0xFB50, 0xFDFF), (0xFE00, 0xFE2F), (0xFF00, 0xFFEF), (0xFFF0, 0xFFFF), (0x10300, 0x1034F),
    (0x10400, 0x1044F), (0x11000, 0x1107F), (0x11100, 0x1114F), (0x11300, 0x1137F), (0x114B0, 0x114DF),
    (0x16FE0, 0x16FFF), (0x1B000, 0x1B12F), (0x1BC00, 0x1BCAF), (0x1D100, 0x1D1FF), (0x1D400, 0x1D7FF),
    (0x1E000, 0x1E02F), (0x1E900, 0x1E95F), (0x1EE00, 0x1EEFF), (0x1F1E6, 0x1F1FF), (0x1F300, 0x1F5FF),
    (0x1F600, 0x1F64F), (0x1F680, 0x1F6FF), (0x1F900, 0x1F9FF), (0x1FA70, 0x1FAFF), (0x1FB00, 0x1FBFF),
    (0x20000, 0x2A6DF), (0x2F800, 0x2FA1F), (0x30000, 0x3134F), (0xE0000, 0xE01EF), (0xF0000, 0xF00FF),
]  # fmt: skip
SPACES = "\t\n\x0b\x0c\r\x1c\x1f \x85\xa0\u1680\u2000\u2009\u200a\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
_EMOJI = [
    "👨\u200d👩\u200d👧\u200d👦",
    "🏳\ufe0f\u200d🌈",
    "👍🏽",
    "🇩🇪",
    "1\ufe0f\u20e3",
    "🙂",
    "❤\ufe0f",
    "🧑🏿\u200d🚀",
    "\u200d",
    "\ufe0f",
]
_SENTENCE = (
    "the of and Paris capital What's don't they'll I'VE we'Re it's 'tis ſ 'ſ 'S 'LL he'd 2024 3.14159 0x1F 1,000,000 "
    "naïve café cafe\u0301 Größe straße Привет мир Ελλάδα שלום العربية ١٢٣ हिन्दी ภาษาไทย 你好吗 日本語 한국어 "
    "\u1112\u1161\u11ab ﬁ ½ ² Ⅷ Å \u212b \u2126 \u1e9b\u0323 def return {} [] () != == -> // /* */ <b> </b> &amp; "
    "http://example.com/a?b=c#d user@example.com $x_1 C:\\ ... --- '''\"\"\" `code`"
)
_WORDS = _SENTENCE.split()
_PIECES = ("word", "word", "word", "range", "range", "space", "emoji", "number", "run", "anything", "special", "marks")


def texts(count: int, seed: int, special: Sequence[str] = ()) -> Iterator[str]:
    """Random texts.

    Args:
        count: How many.
        seed: Makes them repeatable.
        special: Tokens that some of the texts spell, whole or in part.
    """
    chance = random.Random(seed)  # noqa: S311
    for _ in range(count):
        pieces = chance.choice((1, 2, 3, 5, 8, 13, 21))
        joint = chance.choice(("", "", " ", " ", "\n", chance.choice(SPACES)))
        yield joint.join(_piece(chance, special) for _ in range(pieces))


def damaged(text: str, chance: random.Random) -> bytes:
    """The bytes of a text, some of which were changed, inserted or removed, so that it may not be UTF-8."""
    data = bytearray(text.encode("utf-8"))
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(data) + 1)
        kind = chance.randrange(3)
        if kind == 0:
            data[place:place] = bytes([chance.choice((0x80, 0xBF, 0xC0, 0xC3, 0xE2, 0xED, 0xF0, 0xF4, 0xFF))])
        elif place < len(data):
            data[place : place + 1] = b"" if kind == 1 else bytes([chance.randrange(256)])
    return bytes(data)


def _piece(chance: random.Random, special: Sequence[str]) -> str:
    kind = chance.choice(_PIECES)
    if kind == "range":
        first, last = chance.choice(RANGES)
        return "".join(chr(chance.randint(first, last)) for _ in range(chance.randint(1, 12)))
    if kind == "space":
        return "".join(
            chance.choice(SPACES if chance.random() < 0.5 else " \n\r\t") for _ in range(chance.randint(1, 6))
        )
    if kind == "emoji":
        return "".join(chance.choice(_EMOJI) for _ in range(chance.randint(1, 4)))
    if kind == "number":
        return str(chance.randrange(10 ** chance.randint(1, 15)))
    if kind == "run":
        return chance.choice(_WORDS)[: chance.randint(1, 3)] * chance.choice((2, 3, 7, 16, 60, 200))
    if kind == "anything":
        codes = (chance.randrange(0x110000) for _ in range(chance.randint(1, 6)))
        return "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)
    if kind == "special" and special:
        token = chance.choice(special)
        if chance.random() < 0.5:
            return token
        cut = chance.randint(0, len(token))
        return token[:cut] + chance.choice(("", " ", "x")) + token[cut:]
    if kind == "marks":
        base = chr(chance.choice((0x61, 0x41, 0x3B1, 0x1100, 0xAC00, 0x915, 0x3B)))
        marks = (
            chance.choice((*range(0x300, 0x370), 0x1161, 0x11A8, 0x93C, 0x5B0, 0x1D165))
            for _ in range(chance.randint(1, 5))
        )
        return base + "".join(map(chr, marks))
    return chance.choice(_WORDS)
