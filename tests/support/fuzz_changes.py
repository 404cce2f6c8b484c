"""Changes to the inputs of tests/fuzz that keep their form, so that more of them reach what is behind a parser."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from mutations import TEXTS, TOML_VALUES, VALUES, WORDS

Change = Callable[[random.Random, bytes], "bytes | None"]


def json_change(choose: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes | None:
    """Change one to three values of a JSON text; None if it is not one.

    Args:
        choose: Makes the choices.
        data: The text.
        others: Texts that keys and values may be taken from.
    """
    try:
        content = json.loads(data)
        donor = json.loads(choose.choice(others)) if others else content
    except (ValueError, RecursionError):
        return None
    for _ in range(choose.choice((1, 1, 1, 2, 3))):
        content = _changed(choose, content, donor)
    try:
        return json.dumps(content, ensure_ascii=choose.random() < 0.5).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return None


def _changed(choose: random.Random, content: Any, donor: Any) -> Any:
    places = list(_places(content))
    if not places:
        return copy.deepcopy(choose.choice(VALUES))
    holder, key = choose.choice(places)
    action = choose.random()
    if action < 0.1:
        del holder[key]
    elif action < 0.25:
        taken = list(_places(donor))
        if taken:
            other, name = choose.choice(taken)
            value = copy.deepcopy(other[name])
            if isinstance(holder, list):
                holder.insert(choose.randrange(len(holder) + 1), value)
            elif isinstance(name, str):
                holder[name] = value
    elif action < 0.35:
        other, name = choose.choice(places)
        holder[key] = copy.deepcopy(other[name])
    elif action < 0.55:
        holder[key] = near(choose, holder[key])
    else:
        holder[key] = copy.deepcopy(choose.choice(VALUES))
    return content


def _places(content: Any, depth: int = 0) -> Any:
    """All (container, key) pairs, the first 20 of each container."""
    if isinstance(content, (dict, list)) and depth < 20:
        for key in list(content if isinstance(content, dict) else range(len(content)))[:20]:
            yield content, key
            yield from _places(content[key], depth + 1)


def near(choose: random.Random, value: Any) -> Any:
    """A value of the same type, or one that is easily confused with it."""
    if isinstance(value, bool):
        return choose.choice([not value, int(value), str(value).lower()])
    if isinstance(value, (int, float)):
        return choose.choice([value + 1, value - 1, value * 2, -value, value * 1000, value // 2, str(value), [value]])
    if isinstance(value, str):
        at = choose.randrange(len(value) + 1)
        piece = choose.choice(["", "\0", "\n", "../", "é", "\u202e", "\ud800", " ", "{", "%", ".*", value])
        return choose.choice([value[:at], value[at:], value[:at] + piece + value[at:], value.upper(), [value]])
    if isinstance(value, list):
        return choose.choice([value[:-1], value * 2, value[::-1], [value], value[0] if value else 0])
    if isinstance(value, dict):
        return choose.choice([list(value), list(value.values()), json.dumps(value), [value]])
    return value


def toml_change(choose: random.Random, data: bytes) -> bytes | None:
    """Change one to three lines of a TOML text."""
    lines = data.decode("utf-8", "replace").splitlines()
    for _ in range(choose.choice((1, 1, 2, 3))):
        if not lines:
            return None
        number = choose.randrange(len(lines))
        key, equals, value = lines[number].partition("=")
        action = choose.random()
        if action < 0.15:
            del lines[number]
        elif action < 0.3:
            lines.insert(choose.randrange(len(lines) + 1), lines[number])
        elif action < 0.8 and equals:
            lines[number] = f"{key}= {choose.choice(TOML_VALUES)}"
        elif equals:
            other = choose.choice(lines).partition("=")[2]
            lines[number] = f"{key}={choose.choice((other, value.upper(), value.replace('.', ''), value * 2))}"
        else:
            lines[number] = choose.choice(("[x]", "[[x]]", "x = 1", lines[number] + "x"))
    return "\n".join(lines).encode("utf-8", "replace")


def text_change(pieces: Sequence[str]) -> Change:
    """Changes to a text that insert these pieces and move its own."""

    def change(choose: random.Random, data: bytes) -> bytes | None:
        text = data.decode("utf-8", "replace")
        for _ in range(choose.choice((1, 1, 2, 4))):
            at, end = sorted(choose.randrange(len(text) + 1) for _ in range(2))
            action = choose.random()
            if action < 0.6:
                text = text[:at] + choose.choice(pieces) + text[at:]
            elif action < 0.8:
                text = text[:at] + text[end:]
            else:
                text = text[:end] + text[at:end] + text[end:]
        return text[:20_000].encode("utf-8", "replace")

    return change


def binary_change(choose: random.Random, data: bytes) -> bytes | None:
    """Change a number of a binary file, or move a part of it."""
    content = bytearray(data)
    if not content:
        return None
    for _ in range(choose.choice((1, 1, 2, 3))):
        at = choose.randrange(len(content) or 1)
        action = choose.random()
        if action < 0.5:
            width = choose.choice((1, 2, 4, 8))
            content[at : at + width] = (choose.choice(WORDS) % 2 ** (8 * width)).to_bytes(width, "little")
        elif action < 0.7:
            content[at : at + 1] = bytes([choose.randrange(256)])
        elif action < 0.8:
            content[at:at] = choose.choice(TEXTS)
        elif action < 0.9:
            del content[at : at + choose.choice((1, 4, 8, 40))]
        else:
            content[at:at] = content[at : at + choose.choice((4, 8, 40))]
    return bytes(content)
