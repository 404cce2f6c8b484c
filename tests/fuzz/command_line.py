"""Arguments, environment variables and input of ``edgekit``: a JSON object with ``args``, ``env`` and ``stdin``.

What a command does with arguments that are valid is replaced where it takes long or leaves this folder: programs cannot
be started, and a build and a server stop after their checks.
"""

import contextlib
import io
import json
import os
import shutil
import signal
import sys
from functools import cache
from typing import Any
from unittest import mock

from fuzz_changes import near, text_change
from fuzz_files import artifact, as_json, checkpoint, offline, scratch, written
from tiny_artifact import write_tiny_artifact

from edgekit import cli
from edgekit.errors import EdgekitError

__all__ = ["change", "read", "seeds"]
_VARIABLES = ("HF_ENDPOINT", "COLUMNS", "LINES", "NO_COLOR", "SOURCE_DATE_EPOCH", "TERM", "XDG_CONFIG_HOME", "LANG")
_VALUES = (
    "", "-", "--", "0", "1", "-1", "2", "4", "8", "5.2", "1e400", "nan", "inf", "9" * 30, "9" * 5000, "0x10", "1_000",
    "٣", "true", "2GB", "1.5GiB", "300ms", "2s", "-2s", "1 GB", "5e-324 s", "cpu", "jetson", "pi", "phone", "laptop",
    "auto", "native", "ort", "cuda", "webgpu", "r1-1.5b", "smollm2-135m", "art", "ckpt", "receipt.json", "text.txt",
    "board.toml", "recipe.toml", "missing", ".", "..", "x" * 300, "a\nb", "\x1b[2J", "\udcff", "é", "\u202e", "[bold]",
    "{}", "%s", "https://", "https://[", "http://[::1", "https://huggingface.co/a/b", "hf.co/a/b", "hf://a/b", "a/b:Q4",
    "a/b@c", "owner/name/file.gguf", "ssh://[", "ssh://h/~/x", "ssh://h:99999/x", "ssh://h:x/y", "adb", "adb:", "1,2",
    ",", "128,-1", "out.svg", "out.tar.zst", "new", "ab" * 32, "127.0.0.1", "256.1.1.1", "m=art", "=", "m=",
)  # fmt: skip
_TYPED = (
    "/help\n/system Be brief.\nHello\n/retry\n/stats\n/save one\n/reset\n/load one\n/copy\n/exit\n",
    "/think hide\n/think 3\n/think free\nHello\n/think fold\n/retry\n/nothing\n",
)
_PIECES = (
    "/retry\n", "/reset\n", "/save two\n", "/load one\n", "/load text.txt\n", "/think 9" + "9" * 5000,
    "/think ", "Hello\n", "\n", "\0", "\xff",
)  # fmt: skip


def seeds() -> list[bytes]:
    lines = (
        "plan --device jetson", "plan r1-7b --device jetson --context 8192 --max-ttft 2s --min-decode 3 --json",
        "plan ckpt --device pi --max-memory 2GB --bits 5.2 --symmetric", "plan recipe.toml --all-devices",
        "plan a/b:Q4 --device cpu --lora a/b", "devices jetson --json", "devices board.toml",
        "devices --from-receipt receipt.json --out new.toml", "recipes r1-7b", "inspect art --engine native",
        "verify art --expect 4c1f --public-key key.pem", "build ckpt --device cpu --out new --method gptq --stop x",
        "build --checkpoint ckpt --device cpu --calibration text.txt --emit gptq --quality-tokens 64 --force",
        "run art --prompt hi --max-tokens 2 --temperature 0.5 --seed 3 --context 64 --raw",
        "run art --prompt hi --think-tokens 3 --thoughts hide --loop-guard all --kv-type int8 --max-tokens 2",
        "bench art --prompt-tokens 4,8 --gen-tokens 2 --repeat 1", "smoke art --device cpu --engine native",
        "serve m=art --host 0.0.0.0 --port 0 --api-key-file text.txt --memory 1GB --time-limit 2s --queue 1",
        "bundle art --device cpu --out new.tar.zst --push ssh://me@host:22/~/x --sustain 1", "keygen new.pem",
        "eval art --reference ckpt --text text.txt --chunk-tokens 8 --max-chunks 1", "--version", "plan --help",
    )  # fmt: skip
    given: list[dict[str, Any]] = [{"args": line.split(), "env": {}} for line in lines]
    for text, name in zip(_TYPED, ("art", "thinks"), strict=True):
        given.append({"args": ["run", name, "--max-tokens", "2"], "env": {}, "stdin": text})
    given.append({"args": ["run", "art", "--prompt", "-", "--max-tokens", "2"], "env": {}, "stdin": "Hello"})
    for line in lines[:2]:  # what they import takes seconds in a fuzzer
        read(json.dumps({"args": line.split(), "env": {}}).encode())
    given.append({"args": ["recipes"], "env": {"COLUMNS": "40", "TERM": "dumb", "HF_ENDPOINT": "https://x"}})
    return as_json(*given)


_typed = text_change(_PIECES)


@cache
def _options() -> list[str]:
    context = cli.cli.make_context("edgekit", ["plan"], resilient_parsing=True)
    commands = [cli.cli.get_command(context, name) for name in cli.cli.list_commands(context)]
    return sorted({name for command in commands if command for param in command.params for name in param.opts})


def change(choose: Any, data: bytes) -> bytes | None:
    try:
        content = json.loads(data)
        args, env, stdin = list(content["args"]), dict(content["env"]), str(content.get("stdin", ""))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    for _ in range(choose.choice((1, 1, 2, 3))):
        at, action = choose.randrange(len(args) + 1), choose.random()
        if stdin and choose.random() < 0.8:
            stdin = (_typed(choose, stdin.encode(errors="replace")) or b"").decode(errors="replace")
        elif action < 0.1:
            env[choose.choice(_VARIABLES)] = choose.choice(_VALUES)
        elif action < 0.35:
            args[at:at] = [choose.choice(_options()), choose.choice(_VALUES)][: choose.choice((1, 2, 2))]
        elif action < 0.45:
            args[at:at] = [choose.choice(_VALUES)]
        elif at < len(args):
            args[at : at + 1] = choose.choice(([], [choose.choice(_VALUES)], [str(near(choose, str(args[at])))]))
    return json.dumps({"args": args, "env": env, "stdin": stdin}).encode()


@cache
def _folder() -> str:
    """A folder with what the seeds name. Everything is written into it, as no argument may leave it."""
    root = scratch() / "command-line"
    root.mkdir()
    shutil.copytree(artifact("command-line-artifact"), root / "art")
    write_tiny_artifact(root / "thinks", reasoning=True)
    shutil.copytree(checkpoint("command-line-checkpoint"), root / "ckpt")
    for name, text in (
        ("text.txt", "Once upon a time there was a small model.\n" * 20),
        ("receipt.json", json.dumps({"format": "edgekit-receipt", "format_version": 1})),
        ("board.toml", "name = 'board'\n"),
        ("recipe.toml", "name = 'mine'\nparent = 'smollm2-135m'\n"),
    ):
        written(f"{root.name}/{name}", text.encode())
    return str(root)


def _text(value: object) -> str:
    """A text as the system passes arguments: without NUL, bytes that are not UTF-8 as surrogates."""
    return os.fsdecode(str(value).encode("utf-8", "surrogatepass")).replace("\0", "")


def _leaves(arg: str) -> bool:
    path = arg.partition("=")[2] or arg
    return path.startswith(("/", "~")) or ".." in arg


def _takes_long(args: list[str]) -> bool:
    """Whether a command measures this machine, compiles, or was asked to repeat something often."""
    if {"smoke", "bench"} & set(args) and any(len(arg) > 3 and arg.isdecimal() for arg in args):
        return True
    return bool({"probe", "compile", "--sustain"} & set(args))


def _stop(*_: object, **__: object) -> Any:
    raise EdgekitError("stopped")


def read(data: bytes) -> None:
    try:
        content = json.loads(data)
        args = [_text(arg) for arg in content["args"][:20]]
        env = {name: _text(content["env"][name]) for name in _VARIABLES if name in content["env"]}
        stdin = str(content.get("stdin", ""))
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    typed = [line.partition(" ")[2].strip() for line in stdin.splitlines()]
    if any(map(_leaves, [*args, *typed, env.get("XDG_CONFIG_HOME", "")])) or _takes_long(args):
        return
    variables = {**env, "EDGEKIT_CACHE": f"{scratch()}/cache", "XDG_STATE_HOME": str(scratch())}
    folder, here = _folder(), os.getcwd()
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace") for _ in range(2))
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with (
        offline(),
        mock.patch.object(sys, "argv", ["edgekit", *args]),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode("utf-8", "surrogatepass")))),
        mock.patch.dict(os.environ, variables),
        mock.patch("edgekit.build.pipeline._write", _stop),
        mock.patch("edgekit.serve.server.serve", _stop),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        contextlib.suppress(SystemExit),
    ):
        os.chdir(folder)
        try:
            cli._run()
        finally:
            os.chdir(here)
            for number, handler in handlers:
                signal.signal(number, handler)
            _clean(folder)


def _clean(folder: str) -> None:
    kept = {"art", "thinks", "ckpt", "text.txt", "receipt.json", "board.toml", "recipe.toml"}
    for name in set(os.listdir(folder)) - kept:
        path = os.path.join(folder, name)
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
