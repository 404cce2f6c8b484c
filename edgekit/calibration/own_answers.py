"""The model's own answers to the prompts edgekit ships: the default texts to calibrate it on.

They are what the model will see on a device: its template, its way to reason, its languages. They are sampled from a
draft of it, rounded to nearest and run by the native core, with the recipe's settings and fixed seeds; several at once,
as reading the weights is what costs (:meth:`~edgekit.runtime.native_engine.NativeEngine.step`).

The draft runs in a process of its own (``python -m edgekit.calibration.own_answers``): the weights that the engine maps
are no memory of the build. JSON in, JSON Lines out: ``{"tokens": n}`` as it goes on, then
``{"texts": [[id, ...], ...]}`` or ``{"error": message}``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from .. import native
from ..artifact.manifest import Manifest, read_manifest
from ..errors import CalibrationError, EdgekitError
from ..export.model import export_model
from ..models.spec import ModelSpec
from ..runtime.chat import ChatTemplate
from ..runtime.engine import EngineOptions
from ..runtime.native_engine import NativeEngine
from ..runtime.sampler import Sampler
from ..runtime.tokenizer import Tokenizer
from ..sampling import Sampling
from ..scheme import QuantizationConfig, QuantizationScheme
from ..weights.checkpoint import WeightSource
from .texts import TEXT_TOKENS, Texts, first_texts, shipped_prompts

_EIGHT_BIT_PARAMETERS = 10**9  # above, the draft has 4 bits: what it costs is reading its weights, once a token
_CACHES_BYTES = 512 << 20  # of the KV caches of all answers that are in the making


def own_texts(
    folder: Path,
    spec: ModelSpec,
    source: WeightSource,
    files: Mapping[str, bytes],
    manifest: Manifest,
    tokens: int,
    threads: int,
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> Texts:
    """Let the model answer the prompts, again and again with other seeds, until there is enough.

    Args:
        folder: An empty one, for the draft.
        spec: The model.
        source: Its weights.
        files: Its tokenizer and configuration files.
        manifest: What the artifact will say of itself.
        tokens: How many are wanted, prompts included.
        threads: For everything.
        progress: Called with (tokens done, tokens in all).

    Raises:
        EdgekitError: The draft cannot be made or run.
    """
    wide = QuantizationScheme(8, 32, True)
    narrow = wide if spec.parameters < _EIGHT_BIT_PARAMETERS else QuantizationScheme(4, 32, False)
    context = min(TEXT_TOKENS, spec.context_length)
    export_model(
        folder, spec, source, QuantizationConfig(narrow, narrow, wide),
        activation_type="float32", max_context=context, threads=threads,
    )  # fmt: skip
    for name, content in files.items():
        (folder / name).write_bytes(content)
    model = {**manifest.model, "context_length": context}
    dataclasses.replace(manifest, activation_type="float32", model=model, golden=None).write(folder)
    request = {"folder": str(folder.resolve()), "tokens": tokens, "context": context, "threads": threads}
    for said in _run(request):
        if "error" in said:
            raise CalibrationError(f"the model's own answers to calibrate on: {said['error']}")
        if "texts" in said:
            progress(tokens, tokens)
            texts: Texts = said["texts"]
            return texts
        progress(min(said["tokens"], tokens), tokens)
    raise AssertionError("the last line is an error or the texts")


def _run(request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What the process says, line by line, or its last word as an error; it ends with whoever listens."""
    package = str(Path(__file__).resolve().parents[2])  # this edgekit, from wherever it was imported
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    last: dict[str, Any] = {}
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints,
        subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints,
            text=True, encoding="utf-8", env={**os.environ, "PYTHONPATH": path},
        ) as process,
    ):  # fmt: skip
        try:
            if process.stdin is None or process.stdout is None:
                raise AssertionError("both are pipes")
            with suppress(BrokenPipeError):  # one that died before it read says why below
                process.stdin.write(json.dumps(request))
                process.stdin.close()
            for line in process.stdout:
                last = json.loads(line)
                yield last
            code = process.wait()
        finally:
            process.kill()
        if not last.keys() & {"texts", "error"}:
            complaints.seek(0)
            words = (complaints.read().strip() or "no message").splitlines()[-1]
            yield {"error": f"their process ended with code {code}: {words}"}


@dataclass(frozen=True)
class _Growing:
    """An answer in the making: its prompt's number, its ids with the prompt's, and what makes it."""

    number: int
    ids: list[int]
    engine: NativeEngine
    sampler: Sampler


class _Answers:
    """Answers to the prompts, several in the making at once.

    Args:
        reader: Reads the prompts, and does the work of all.
        spare: Engines without an answer in the making.
        render: A prompt's ids.
        sampling: How to choose tokens; an answer's seed is its prompt's number.
        stops: Ids that end an answer.
    """

    def __init__(
        self,
        reader: NativeEngine,
        spare: list[NativeEngine],
        render: Callable[[str], list[int]],
        sampling: Sampling,
        stops: frozenset[int],
    ) -> None:
        self._reader, self._spare, self._render = reader, spare, render
        self._sampling, self._stops = sampling, stops
        self._numbers, self._prompts = count(), shipped_prompts()
        self._growing: list[_Growing] = []
        self._done: dict[int, list[int]] = {}

    def texts(self, tokens: int, report: Callable[[int], None]) -> Texts:
        """So many tokens of prompts and answers, in the prompts' order; the last ones may lack their ends."""
        while (found := self._tokens()) < tokens:
            report(found)
            while self._spare and self._tokens() < tokens:
                self._begin()
            self._step()
        texts = self._done | {a.number: a.ids for a in self._growing}
        return first_texts([texts[number] for number in sorted(texts)], tokens)

    def _tokens(self) -> int:
        return sum(map(len, self._done.values())) + sum(len(a.ids) for a in self._growing)

    def _begin(self) -> None:
        number = next(self._numbers)
        ids = self._render(self._prompts[number % len(self._prompts)])[: self._reader.context]
        if len(ids) == self._reader.context:
            self._done[number] = ids
            return
        self._reader.rewind(0)
        logits = self._reader.evaluate(ids)[-1]
        engine = self._spare.pop()
        engine.copy(self._reader)
        sampler = Sampler(self._sampling, self._reader.vocab_size, seed=number)
        sampler.observe(ids)
        self._grow(_Growing(number, list(ids), engine, sampler), logits)

    def _step(self) -> None:
        """Another token of each answer."""
        growing, self._growing = self._growing, []
        if not growing:
            return
        rows = self._reader.step([a.engine for a in growing], [a.ids[-1] for a in growing])
        for each, logits in zip(growing, rows, strict=True):
            self._grow(each, logits)

    def _grow(self, each: _Growing, logits: Any) -> None:
        token = each.sampler.sample(logits)
        each.ids.append(token)
        if token in self._stops or len(each.ids) == self._reader.context:
            self._done[each.number] = each.ids
            self._spare.append(each.engine)
        else:
            self._growing.append(each)


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the build hears Ctrl-C, and ends this process
    request = json.load(sys.stdin)
    try:
        folder = Path(request["folder"])
        manifest = read_manifest(folder)
        tokenizer = Tokenizer.open(folder, manifest)
        template = ChatTemplate.open(folder, tokenizer)
        reader = NativeEngine.open(
            folder, manifest, EngineOptions(context=request["context"], threads=request["threads"])
        )
        together = max(1, min(native.MOST_TOGETHER, _CACHES_BYTES // max(1, reader.cache_bytes)))

        def render(prompt: str) -> list[int]:
            text = prompt if template is None else template.render([{"role": "user", "content": prompt}])
            return tokenizer.encode(text)

        answers = _Answers(
            reader, [reader.fork() for _ in range(together)], render, Sampling.from_manifest(manifest.sampling),
            frozenset(manifest.tokens["eos"]),
        )  # fmt: skip
        _say({"texts": answers.texts(request["tokens"], lambda tokens: _say({"tokens": tokens}))})
    except (EdgekitError, ValueError) as error:
        _say({"error": str(error)})


def _say(what: Mapping[str, Any]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    _main()
