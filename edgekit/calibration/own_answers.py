"""The model's own answers to the prompts that edgekit ships: the default calibration texts.

They resemble what the model will see on a device: its chat template, its way of reasoning, its languages. A draft of
the model, rounded to nearest and run by the native engine, generates them with the recipe's sampling settings and fixed
seeds. Several answers are generated at once, since reading the weights is what costs
(:meth:`~edgekit.runtime.native_engine.NativeEngine.step`).

The draft runs in a worker process (``worker.py``), so that the weights the engine maps do not count as the build's
memory. The worker sends ``{"tokens": n}`` as it goes, then ``{"texts": [[id, ...], ...]}``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from .. import native
from ..artifact.manifest import RuntimeFacts
from ..errors import CalibrationError
from ..export.model import export_model
from ..models.spec import ModelSpec
from ..progress import Share, no_share
from ..runtime.chat import ChatTemplate
from ..runtime.engine import EngineOptions
from ..runtime.native_engine import NativeEngine
from ..runtime.sampler import Sampler
from ..runtime.tokenizer import Tokenizer
from ..sampling import Sampling
from ..scheme import QuantizationConfig, QuantizationScheme
from ..weights.source import WeightSource
from ..worker import run_worker, serve
from .texts import TEXT_TOKENS, Texts, first_texts, shipped_prompts

_EIGHT_BIT_PARAMETERS = 10**9  # larger models get a 4-bit draft, since every token reads all its weights
_CACHES_BYTES = 512 << 20  # limit for the KV caches of all answers in progress


def own_texts(
    folder: Path,
    facts: RuntimeFacts,
    spec: ModelSpec,
    source: WeightSource,
    files: Mapping[str, bytes],
    tokens: int,
    threads: int,
    progress: Share = no_share,
) -> Texts:
    """Let the model answer the prompts, repeatedly with other seeds, until there are enough tokens.

    Args:
        folder: An empty folder for the draft.
        facts: What the artifact's manifest will say.
        spec: The model.
        source: Its weights.
        files: Its tokenizer and configuration files.
        tokens: Tokens to produce, prompts included.
        threads: Threads that build and run the draft.
        progress: Called with (tokens done, tokens in all).

    Raises:
        EdgekitError: The draft cannot be built or run.
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
    draft = replace(facts, activation_type="float32", model={**facts.model, "context_length": context})
    request = {
        "folder": str(folder.resolve()), "facts": draft.facts_json(), "tokens": tokens, "context": context,
        "threads": threads,
    }  # fmt: skip
    for message in run_worker(__name__, request):
        if "error" in message:
            raise CalibrationError(f"generating the model's own answers to calibrate on: {message['error']}")
        if "texts" in message:
            progress(tokens, tokens)
            texts: Texts = message["texts"]
            return texts
        progress(min(message["tokens"], tokens), tokens)
    raise AssertionError("the last message is an error or the texts")


@dataclass(frozen=True)
class _Growing:
    """An answer in progress.

    Args:
        number: Number of its prompt.
        ids: Token ids, the prompt's included.
        engine: Holds its KV cache.
        sampler: Chooses its tokens.
    """

    number: int
    ids: list[int]
    engine: NativeEngine
    sampler: Sampler


@dataclass
class PromptAnswers:
    """Answers prompts, several at once.

    Args:
        reader: Evaluates the prompts and computes the steps of all answers.
        spare: Engines for answers in progress, forks of ``reader``.
        prompts: Token ids of each prompt.
        sampling: How tokens are chosen; the seed is the number of the prompt.
        stops: Ids that end an answer.
    """

    reader: NativeEngine
    spare: list[NativeEngine]
    prompts: Sequence[Sequence[int]]
    sampling: Sampling
    stops: frozenset[int]
    _numbers: Iterator[int] = field(init=False, default_factory=count)
    _growing: list[_Growing] = field(init=False, default_factory=list)
    _done: dict[int, list[int]] = field(init=False, default_factory=dict)

    def texts(self, tokens: int, report: Callable[[int], None]) -> Texts:
        """Produce ``tokens`` tokens of prompts and answers, in order of the prompts; the last texts may be incomplete.

        Args:
            tokens: Tokens to produce.
            report: Called with the number of tokens so far.
        """
        while (found := self._tokens()) < tokens:
            report(found)
            while self.spare and self._tokens() < tokens:
                self._begin()
            self._step()
        texts = self._done | {a.number: a.ids for a in self._growing}
        return first_texts([texts[number] for number in sorted(texts)], tokens)

    def _tokens(self) -> int:
        return sum(map(len, self._done.values())) + sum(len(a.ids) for a in self._growing)

    def _begin(self) -> None:
        number = next(self._numbers)
        ids = list(self.prompts[number % len(self.prompts)])[: self.reader.context]
        if len(ids) == self.reader.context:
            self._done[number] = ids
            return
        self.reader.rewind(0)
        logits = self.reader.evaluate(ids)[-1]
        engine = self.spare.pop()
        engine.copy(self.reader)
        sampler = Sampler(self.sampling, self.reader.vocab_size, seed=number)
        sampler.observe(ids)
        self._grow(_Growing(number, ids, engine, sampler), logits)

    def _step(self) -> None:
        """Generate one more token of each answer."""
        growing, self._growing = self._growing, []
        if not growing:
            return
        rows = self.reader.step([a.engine for a in growing], [a.ids[-1] for a in growing])
        for each, logits in zip(growing, rows, strict=True):
            self._grow(each, logits)

    def _grow(self, each: _Growing, logits: Any) -> None:
        token = each.sampler.sample(logits)
        each.ids.append(token)
        if token in self.stops or len(each.ids) == self.reader.context:
            self._done[each.number] = each.ids
            self.spare.append(each.engine)
        else:
            self._growing.append(each)


def _answers(request: Mapping[str, Any], send: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    """Answer the prompts with the draft, in the worker."""
    folder, facts = Path(request["folder"]), RuntimeFacts(**request["facts"])
    tokenizer = Tokenizer.open(folder, facts.tokens)
    template = ChatTemplate.open(folder, tokenizer, reasoning=facts.reasoning)
    options = EngineOptions(context=request["context"], threads=request["threads"])
    reader = NativeEngine.open(folder, facts, options)
    together = max(1, min(native.MOST_TOGETHER, _CACHES_BYTES // max(1, reader.cache_bytes)))

    def render(prompt: str) -> list[int]:
        return tokenizer.encode(prompt if template is None else template.prompt([{"role": "user", "content": prompt}]))

    answers = PromptAnswers(
        reader,
        [reader.fork() for _ in range(together)],
        [render(prompt) for prompt in shipped_prompts()],
        Sampling.from_manifest(facts.sampling),
        frozenset(facts.tokens["eos"]),
    )
    return {"texts": answers.texts(request["tokens"], lambda tokens: send({"tokens": tokens}))}


if __name__ == "__main__":
    serve(_answers)
