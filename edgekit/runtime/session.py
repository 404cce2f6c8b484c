"""The session: what an app holds to talk to an artifact.

    with edgekit.load("smollm2-135m-cpu") as session:
        for piece in session.chat([{"role": "user", "content": "What is the capital of France?"}]):
            print(piece.text, end="", flush=True)

It joins an engine, a tokenizer, a chat template and a sampler, and keeps what is evaluated: a conversation's next turn
begins with the tokens of the last, so only the new ones are computed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ..artifact.manifest import RuntimeFacts, read_manifest
from ..errors import ContextLengthError, EngineError, TokenizerError
from ..sampling import Sampling
from .chat import ChatTemplate, Message
from .engine import Engine, EngineOptions, ResumableEngine, open_engine
from .generation import Completion, Generation, superseded
from .sampler import Sampler
from .thought import Piece, ThoughtSplitter, starts_inside
from .tokenizer import Tokenizer

__all__ = ["Completion", "Generation", "Message", "Piece", "Sampling", "Session", "load"]


class Session:
    """A loaded artifact and one conversation's KV cache. Not safe for use from two threads at once.

    Made by :func:`load`; a context manager that frees the model at its end.

    Args:
        engine: An open engine; the session closes it.
        tokenizer: The artifact's.
        template: Its chat template, or None.
        manifest: Its manifest.

    Attributes:
        engine: The engine.
        tokenizer: The tokenizer.
        manifest: What the artifact says of itself.
        sampling: The artifact's sampling defaults.
    """

    def __init__(
        self, engine: Engine, tokenizer: Tokenizer, template: ChatTemplate | None, manifest: RuntimeFacts
    ) -> None:
        self.engine = engine
        self.tokenizer = tokenizer
        self.manifest = manifest
        self.sampling = Sampling.from_manifest(manifest.sampling)
        self._template = template
        self._evaluated: list[int] = []  # ids whose keys and values the cache holds
        self._current: object = None  # stands for the one generation that may go on

    @property
    def has_chat_template(self) -> bool:
        """Whether :meth:`chat` can be used."""
        return self._template is not None

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int | None = None,
        sampling: Sampling | None = None,
        seed: int | None = None,
        stop_ids: Iterable[int] = (),
    ) -> Generation:
        """Continue a text.

        Args:
            prompt: Text, put after a beginning-of-sequence token where the model wants one, or ids, taken as they are.
            max_tokens: At most so many tokens; None: until the model stops or the context is full.
            sampling: How to choose tokens; None uses the artifact's defaults.
            seed: Makes the answer repeatable, on every machine: 0 or more, below 2^64. None draws a fresh seed.
            stop_ids: Ids that end the text, in addition to the model's own.

        Returns:
            An iterator of :class:`Piece`; ``complete()`` runs it to the end and returns a :class:`Completion`. It is
            lazy: nothing is computed before the first piece is asked for.

        Raises:
            ValueError: ``max_tokens`` or the seed is out of range, or the prompt is empty or not valid Unicode.
            ContextLengthError: The prompt is longer than the context; both lengths are named.
            EngineError: When the first piece is asked for: the session is closed.
        """
        started = time.perf_counter()
        ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else [int(i) for i in prompt]
        return self._start(ids, max_tokens, sampling, seed, stop_ids, None, started)

    def chat(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int | None = None,
        sampling: Sampling | None = None,
        seed: int | None = None,
        stop_ids: Iterable[int] = (),
    ) -> Generation:
        """Answer a conversation.

        Args:
            messages: ``{"role": "user" | "assistant" | "system", "content": text}`` each, the oldest first. Thoughts
                in earlier answers are dropped.
            max_tokens: As for :meth:`generate`; a reasoning model's thought counts.
            sampling: As for :meth:`generate`.
            seed: As for :meth:`generate`.
            stop_ids: As for :meth:`generate`.

        Returns:
            As :meth:`generate`; pieces of a reasoning model's thought are marked.

        Raises:
            TokenizerError: There is no chat template, or it refuses the messages.
            ValueError: As for :meth:`generate`, or a message is none.
            ContextLengthError: As for :meth:`generate`.
            EngineError: As for :meth:`generate`.
        """
        started = time.perf_counter()
        prompt = self.render(messages)
        splitter = ThoughtSplitter(inside=starts_inside(prompt)) if self.manifest.reasoning else None
        return self._start(self.tokenizer.encode(prompt), max_tokens, sampling, seed, stop_ids, splitter, started)

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt that :meth:`chat` makes of messages.

        Raises:
            TokenizerError: There is no chat template, or it refuses the messages.
            ValueError: A message is none.
        """
        if self._template is None:
            raise TokenizerError(
                f"{self.manifest.name} has no chat template",
                hint="continue plain text: --raw, or Session.generate",
            )
        return self._template.render(messages)

    def save_state(self, path: str | PathLike[str]) -> None:
        """Write to a file what the session has read and said, so that it need not be computed again.

        The file holds token ids and their keys and values, 20 to 130 kB a token in float16. It is for this
        artifact and this ``kv_type`` only, and as private as the conversation.

        Args:
            path: Replaced when it is there.

        Raises:
            EngineError: The engine has no such files, is closed, or the file cannot be written.
        """
        self._resumable().save(Path(path))

    def load_state(self, path: str | PathLike[str]) -> None:
        """Go on from a file that :meth:`save_state` wrote; what the session held is forgotten.

        A :meth:`chat` or :meth:`generate` whose prompt begins like the saved sequence evaluates only what is new. An
        answer that was in the making cannot go on.

        Args:
            path: The file.

        Raises:
            EngineError: The engine has no such files, or this is none, is cut off, or is of another artifact or another
                ``kv_type``. The session is then empty and can be used.
            ContextLengthError: The file holds more tokens than the context; the session is empty then, too.
        """
        engine = self._resumable()
        self._current, self._evaluated = None, []
        try:
            engine.load(Path(path))
        except EngineError:
            self.engine.rewind(0)
            raise
        self._evaluated = engine.tokens()

    def _resumable(self) -> ResumableEngine:
        if not isinstance(self.engine, ResumableEngine):
            raise EngineError(
                f"the engine {self.engine.name} cannot save or load what a session holds",
                hint="load the artifact with the native engine",
            )
        return self.engine

    def close(self) -> None:
        """Free the model. Closing twice is allowed."""
        self._current = None
        self._evaluated = []
        self.engine.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _start(
        self,
        prompt: list[int],
        max_tokens: int | None,
        sampling: Sampling | None,
        seed: int | None,
        stop_ids: Iterable[int],
        splitter: ThoughtSplitter | None,
        started: float,
    ) -> Generation:
        if max_tokens is not None and max_tokens < 1:
            raise ValueError(f"max_tokens is {max_tokens}; it must be at least 1")
        if not prompt:
            raise ValueError("the prompt is empty; the model needs at least one token to continue")
        if len(prompt) > self.engine.context:
            raise ContextLengthError(
                f"the prompt has {len(prompt)} tokens; the context holds {self.engine.context}",
                hint=f"shorten it, or ask for a larger context ({self.manifest.name}: at most "
                f"{self.manifest.model['context_length']})",
            )
        sampler = Sampler(sampling or self.sampling, self.engine.vocab_size, seed)
        current = self._current = object()

        def evaluate(ids: Sequence[int]) -> NDArray[np.float32]:
            if self._current is not current:
                raise superseded()
            if ids is prompt:
                logits = self._prefill(prompt)
                sampler.observe(prompt)
                return logits
            return self._append(ids)

        return Generation(
            evaluate=evaluate,
            room=lambda: self.engine.context - self.engine.position,
            tokenizer=self.tokenizer,
            sampler=sampler,
            prompt=prompt,
            stops=frozenset(self.manifest.tokens["eos"]) | frozenset(stop_ids),
            max_tokens=max_tokens,
            splitter=splitter,
            prepare_s=time.perf_counter() - started,
        )

    def _prefill(self, prompt: list[int]) -> NDArray[np.float32]:
        """Evaluate a prompt, all but what it shares with the tokens in the cache; the last logits (vocab_size,)."""
        # The last id is always evaluated: the cache holds keys and values, not logits.
        shared = common_prefix(self._evaluated, prompt[:-1])
        self.engine.rewind(shared)
        self._evaluated = self._evaluated[:shared]
        return self._append(prompt[shared:])

    def _append(self, ids: Sequence[int]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self.engine.evaluate(ids)[-1]
        self._evaluated.extend(ids)
        return logits


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids two sequences share from the start."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def load(
    artifact: str | PathLike[str],
    engine: str = "auto",
    context: int | None = None,
    threads: int | None = None,
    kv_type: str | None = None,
) -> Session:
    """Load an artifact.

    Args:
        artifact: The folder ``edgekit build`` made.
        engine: ``native``, ``ort`` (onnxruntime), or ``auto``: native for a quantized artifact, onnxruntime for any
            other and where it has the CUDA that the artifact was built for.
        context: Tokens of prompt and answer together; None: what the build planned for.
        threads: Threads for the arithmetic; None: one per physical core this process may use.
        kv_type: What keys and values are kept in, ``float16`` or ``int8`` (half the memory; native engine only); None:
            what the engine keeps by itself.

    Returns:
        A :class:`Session`; close it, or use it in a ``with`` statement.

    Raises:
        ArtifactError: The folder is no artifact.
        TokenizerError: Its tokenizer or chat template cannot be used.
        UnknownNameError: There is no such engine.
        ContextLengthError: The context is longer than the model's.
        EngineError: The engine cannot load the artifact, or not with this ``kv_type``.
        ValueError: A context or a number of threads below 1, or an unknown ``kv_type``.
    """
    folder = Path(artifact)
    options = EngineOptions(context=context, threads=threads, kv_type=kv_type)
    return open_session(folder, read_manifest(folder), options, engine)


def open_session(folder: Path, facts: RuntimeFacts, options: EngineOptions, engine: str = "auto") -> Session:
    """Open a folder whose manifest may not be written yet, as a build does with the artifact it is making.

    Args:
        folder: Holds the model and the tokenizer.
        facts: What its manifest says, or will say.
        options: Context, threads and KV cache type.
        engine: As for :func:`load`.

    Returns:
        A :class:`Session`; close it, or use it in a ``with`` statement.

    Raises:
        EdgekitError: As for :func:`load`.
    """
    tokenizer = Tokenizer.open(folder, facts.tokens)
    template = ChatTemplate.open(folder, tokenizer)
    opened = open_engine(folder, facts, options, engine)
    try:
        return Session(opened, tokenizer, template, facts)
    except BaseException:
        opened.close()
        raise
