"""Changes files as damage and attackers would: values of JSON and TOML, bytes, and the file itself."""

from __future__ import annotations

import copy
import json
import os
import random
import socket
from pathlib import Path
from typing import Any

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 64, 0.5, -0.5, 1.0, 1e-9, 1e30, -1e30, 1e308,
    2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 10**40,
    "", " ", "x", "false", "true", "null", "0", "1", "NaN", "../x", "/etc/passwd", "a\0b", "\ud800", "\u202e", "é",
    "x" * 300, "x" * 100_000, [], [0], [1, 2], ["x"], [None], [[]], [-1], [1e30], list(range(200)), [2**63],
    {}, {"a": 1}, {"": ""}, {"content": "x"}, {"content": 3}, [{}], [{"id": 0}],
)  # fmt: skip
TEXTS = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0", b"01", b"1" * 5000, b"[" * 2000, b'{"a":' * 2000, b"'x'", b"//",
    b'"\\ud800"', b'"\xff"', b"\xef\xbb\xbf", b"\0", b"nan", b"inf", b"1979-05-27", b"0x10", b'"""', b"[[a]]", b"{}",
)  # fmt: skip
TOML_VALUES = (
    "nan", "inf", "-1", "0", "1", "1e400", "9" * 30, "9" * 5000, '""', '"x"', "[]", "{}", "true", '"-5 GB"',
    '"1e300 GB"', '"0 GB"', "1979-05-27", "[" * 500 + "]" * 500, '"\\ud800"', "0.5", "1e-300",
    *(f"{{ value = {v}, source = 'x' }}" for v in ("-1", "0", "nan", "1e300", "1e-300", "9223372036854775807", "'x'")),
)  # fmt: skip
WORDS = (0, 1, -1, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 + 5, 10**6, 2**62, 2**63 - 1, -(2**63))


def mutate(choose: random.Random, path: Path) -> str:
    """Change a file; returns what was done."""
    way = choose.random()
    if way < 0.05:
        return _replace_file(choose, path)
    if path.suffix == ".json" and way < 0.85:
        return _mutate_json(choose, path)
    if path.suffix == ".toml" and way < 0.85:
        return _mutate_toml(choose, path)
    return _mutate_bytes(choose, path)


def _replace_file(choose: random.Random, path: Path) -> str:
    content = path.read_bytes() if path.exists() else b""
    path.unlink(missing_ok=True)
    way = choose.choice(
        ["gone", "empty", "folder", "pipe", "link to itself", "dangling", "zero", "socket", "nul", "[]"]
    )
    if way in ("empty", "nul", "[]"):
        path.write_bytes({"empty": b"", "nul": b"\0" * len(content), "[]": b"[]"}[way])
    elif way == "folder":
        path.mkdir()
    elif way == "pipe":
        os.mkfifo(path)
    elif way == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    elif way != "gone":
        path.symlink_to({"link to itself": path.name, "dangling": "nowhere", "zero": "/dev/zero"}[way])
    return way


def _mutate_json(choose: random.Random, path: Path) -> str:
    """Change, remove or add one value; its place is chosen level by level, so that long lists do not dominate."""
    content = json.loads(path.read_text()) if path.exists() else {}
    holder: Any = content
    way = []
    while isinstance(holder, (dict, list)) and holder:
        key = choose.choice(list(holder)) if isinstance(holder, dict) else choose.randrange(len(holder))
        way.append(key)
        if not isinstance(holder[key], (dict, list)) or not holder[key] or choose.random() < 0.25:
            break
        holder = holder[key]
    shown = ".".join(map(str, way))[:60]
    if not way:
        holder = content
    action = choose.random()
    if not way or action < 0.06:
        key = choose.choice(["bits", "new", "", "rope_theta", "factor", "chat_template", "__class__", "eos_token_id"])
        value = copy.deepcopy(choose.choice(VALUES))
        if isinstance(holder, dict):
            holder[key] = value
        else:
            holder.append(value)
        did = f"{shown} + {key} = {value!r}"
    elif action < 0.12:
        del holder[way[-1]]
        did = f"{shown} removed"
    elif action < 0.35:
        holder[way[-1]] = value = _near(choose, holder[way[-1]])
        did = f"{shown} = {value!r}"
    elif action < 0.42:
        marker = "a marker that is nowhere else"
        holder[way[-1]] = marker
        text = choose.choice(TEXTS)
        path.write_bytes(json.dumps(content).encode().replace(json.dumps(marker).encode(), text))
        return f"{shown} = {text[:20]!r} as text"
    elif action < 0.45:
        body = json.dumps(holder[way[-1]])
        holder[way[-1]] = marker = "a marker that is nowhere else"
        twice = f"{body}, {json.dumps(way[-1])}: {body}" if isinstance(way[-1], str) else body
        path.write_text(json.dumps(content).replace(json.dumps(marker), twice))
        return f"{shown} twice"
    else:
        holder[way[-1]] = value = copy.deepcopy(choose.choice(VALUES))
        did = f"{shown} = {value!r}"
    path.write_text(json.dumps(content))
    return did[:140]


def _near(choose: random.Random, value: Any) -> Any:
    """A value of the same type, or one that is easily confused with it."""
    if isinstance(value, bool):
        return choose.choice([not value, int(value), str(value).lower()])
    if isinstance(value, (int, float)):
        return choose.choice(
            [value + 1, value - 1, value * 2, -value, value * 1000, value / 2, str(value), [value], value * 1.0]
        )
    if isinstance(value, str):
        return choose.choice(
            [value[1:], value + "x", value.upper(), value * 2, [value], value.encode("utf-8", "replace")[:1].hex()]
        )
    if isinstance(value, list):
        return choose.choice(
            [value[:-1], value * 2, value[::-1], {str(i): v for i, v in enumerate(value[:9])}, value[0] if value else 0]
        )
    if isinstance(value, dict):
        return choose.choice([list(value), list(value.values()), {**value, "x": 1}, json.dumps(value)])
    return value


def _mutate_toml(choose: random.Random, path: Path) -> str:
    lines = path.read_text().splitlines()
    number = choose.choice([i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")])
    before = lines[number]
    way = choose.random()
    if way < 0.1:
        del lines[number]
    elif way < 0.15:
        lines.insert(number, before)
    elif way < 0.2:
        lines.insert(number, choose.choice(["x = 1", "[x]", "[[x]]", "x.y.z = 1", '"" = 1', "= 1", "\\", "é = 1"]))
    else:
        key, equals, value = before.partition("=")
        new = choose.choice(TOML_VALUES)
        found = [i for i, c in enumerate(value) if c.isdigit()]
        if found and choose.random() < 0.4:  # a digit, or a factor of a thousand
            at = choose.choice(found)
            new = value[:at] + choose.choice(["-", "0", "9", "1000000", "."]) + value[at + 1 :]
        lines[number] = f"{key}{equals} {new}" if equals else f"{before}x"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"{before[:40]} -> {lines[number][:60] if number < len(lines) else 'removed'}"


def _mutate_bytes(choose: random.Random, path: Path) -> str:
    content = bytearray(path.read_bytes()) if path.exists() else bytearray(b"x")
    size = len(content)
    if not size:
        content = bytearray(b"x")
    # Headers are at the beginning; most of a file of weights is numbers, which any value may be.
    limit = size if choose.random() < 0.3 else min(size, 4096)
    at = choose.randrange(max(1, limit))
    way = choose.choice(["flip", "flip", "byte", "word", "word", "cut", "insert", "remove", "junk"])
    if way == "flip":
        content[at] ^= 1 << choose.randrange(8)
    elif way == "byte":
        content[at] = choose.choice([0, 1, 127, 128, 255, 34, 123, 91])
    elif way == "word":
        width = choose.choice([4, 8])
        content[at : at + width] = (choose.choice(WORDS) % 2 ** (8 * width)).to_bytes(width, "little")
    elif way == "cut":
        del content[at:]
    elif way == "insert":
        content[at:at] = choose.choice(TEXTS)
    elif way == "remove":
        del content[at : at + choose.choice([1, 2, 8, 100])]
    else:
        content[at : at + 64] = choose.randbytes(64)
    path.unlink(missing_ok=True)
    path.write_bytes(bytes(content))
    return f"{way} at {at}"
