"""The session, which an application uses to run an artifact.

    with edgekit.load("smollm2-135m-cpu") as session:
        for piece in session.chat([{"role": "user", "content": "What is the capital of France?"}]):
            print(piece.text, end="", flush=True)

A session combines an engine, a tokenizer, a chat template and a sampler. It keeps the KV cache between calls: the next
turn of a conversation begins with the same tokens as the last one, so only the new tokens are evaluated.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.manifest import RuntimeFacts
from ..errors import ContextLengthError
from ..sampling import Sampling, SamplingOverrides
from .chat import ChatTemplate, Message, check_messages
from .chat_prompts import ChatPrompts, TemplateInputs
from .constraint import Constraints
from .engine import Engine, SpeculatingEngine
from .engine_lease import Lease, LeasedEngine
from .generation import Completion, Generation
from .history import OnFull
from .logprobs import Logprobs
from .request import AnswerRequest, token_ids
from .response_format import ResponseFormat
from .sampler import Sampler
from .thought import Piece, ThoughtSplitter
from .tokenizer import Tokenizer
from .tool_calls import CallReader
from .tools import tools_of
from .watch import LoopGuard, Watch

__all__ = ["Completion", "Generation", "Message", "Piece", "Sampling", "Session"]


class Session:
    """A loaded artifact with the KV cache of one conversation.

    One thread at a time may use a session; a second one gets a SessionBusyError. But an answer waits while another
    thread saves the state between two of its tokens. :meth:`cancel` may be called from any thread. Sessions of the
    same artifact share its weights and threads, so load it once for each conversation.

    :func:`load` creates sessions. A session is a context manager that frees the model at its end.

    Args:
        engine: An open engine; the session closes it.
        tokenizer: The artifact's tokenizer.
        template: The artifact's chat template, or None.
        manifest: The artifact's manifest.
        prepare: As for :func:`load`.

    Attributes:
        engine: The engine.
        tokenizer: The tokenizer.
        manifest: The manifest.
        sampling: The artifact's default sampling settings.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        manifest: RuntimeFacts,
        prepare: bool = False,
    ) -> None:
        self.engine = engine
        self.tokenizer = tokenizer
        self.manifest = manifest
        self.sampling = Sampling.from_manifest(manifest.sampling)
        self._prompts = ChatPrompts(template, tokenizer, manifest.name)
        self._leased = LeasedEngine(engine, prepares=prepare)
        self._constraints = Constraints(tokenizer, engine.vocab_size, manifest.tokens["eos"])
        self._generation: weakref.ref[Generation] | None = None  # the latest

    @property
    def has_chat_template(self) -> bool:
        """Whether :meth:`chat` can be used."""
        return self._prompts.has_template

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int | None = None,
        sampling: Sampling | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        stop_ids: Iterable[int] = (),
        logprobs: int | None = None,
        response_format: ResponseFormat | None = None,
        loop_guard: LoopGuard = "thought",
    ) -> Generation:
        """Continue a text.

        Args:
            prompt: Text, to which a beginning-of-sequence token is added if the model wants one, or token ids, which
                are used unchanged.
            max_tokens: The largest number of tokens to generate. None: until the model stops or the context is full.
            sampling: How to choose tokens; None uses the artifact's defaults.
            temperature, top_p, top_k, min_p, repetition_penalty: Single settings of :class:`Sampling`, which replace
                those of ``sampling``.
            seed: Seeds the sampler: 0 or more, below 2^64; None draws a fresh seed. The same calls on a new session
                give the same answers, with the same engine, kernels and number of threads. Others round differently,
                and it matters which tokens the session held already; where two tokens are nearly as likely, another
                one can then be chosen.
            stop: A text, or several, that end the answer and are not part of it, in addition to the model's own.
            stop_ids: Ids that end the answer, in addition to the model's own.
            logprobs: Report the log probability of each token, with this many of the most likely tokens: 0 to 20. See
                :attr:`Completion.logprobs`.
            response_format: Hold the answer to a format: a JSON schema, a pydantic model or dataclass (see
                :meth:`Completion.parse`), :class:`Choice`, :class:`Regex`, or OpenAI's ``response_format``. Needs the
                extra ``structured``.
            loop_guard: ``all`` ends a text that repeats itself; other values have no effect here.

        Returns:
            An iterator of :class:`Piece`. Its method ``complete()`` generates everything and returns a
            :class:`Completion`. Nothing is computed before the first piece is requested.

        Raises:
            ValueError: A value is out of range, the prompt is empty or not valid Unicode, or the answer cannot be held
                to the ``response_format``.
            MissingPackageError: ``response_format`` needs a package that is not installed.
            ContextLengthError: The prompt is longer than the context; the message names both lengths.
            EngineError: The session is closed; raised when the first piece is requested.
        """
        started = time.perf_counter()
        ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else token_ids(prompt, "the prompt")
        request = AnswerRequest.of(
            sampling or self.sampling,
            SamplingOverrides(temperature, top_p, top_k, min_p, repetition_penalty),
            max_tokens=max_tokens,
            seed=seed,
            stop_ids=stop_ids,
            stop=stop,
            logprobs=logprobs,
            response_format=response_format,
        )
        return self._start(ids, request, None, Watch(None, loop_guard), started)

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str = "auto",
        documents: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        sampling: Sampling | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        stop_ids: Iterable[int] = (),
        logprobs: int | None = None,
        response_format: ResponseFormat | None = None,
        think_tokens: int | None = None,
        loop_guard: LoopGuard = "thought",
        on_full: OnFull = "error",
    ) -> Generation:
        """Answer a conversation.

        Args:
            messages: The messages (:class:`Message`), oldest first. Their content is text: a special token that is
                spelled in it does not become one. For a reasoning model, the thought that opens an earlier answer is
                dropped.
            tools: Functions that the model may call, as OpenAI's API describes them. The calls are in
                :attr:`Completion.tool_calls`. A model whose template does not describe functions gets the descriptions
                in the system's message.
            tool_choice: ``auto`` lets the model decide, ``none`` keeps the functions from it, ``required`` or the name
                of a function makes it call one, which needs the extra ``structured``.
            documents: Texts to answer from, ``{"title": ..., "text": ...}``, for templates that support documents.
            variables: Further variables of the model's chat template, such as Qwen3's ``enable_thinking``, or a
                replacement of a special token, such as ``bos_token``.
            max_tokens: As for :meth:`generate`. The tokens of a thought count.
            sampling, temperature, top_p, top_k, min_p, repetition_penalty: As for :meth:`generate`.
            seed, stop, stop_ids, logprobs: As for :meth:`generate`.
            response_format: As for :meth:`generate`. The thought of a reasoning model is free, and the answer behind it
                is held to the format. White space at the start of such a model's answer is dropped.
            think_tokens: The most tokens of a reasoning model's thought, which is then closed with a sentence and
                ``</think>``; the answer follows. None is limited only by ``max_tokens`` and the context.
            loop_guard: Where to look for text that repeats itself: in the ``thought``, in ``all`` of the answer, or
                ``off``. The repeated tokens first become less likely for a while. If the text repeats itself again, a
                thought is closed; an answer ends, and its ``finish_reason`` is ``loop``.
            on_full: ``error`` refuses messages that do not fit. ``slide`` leaves out the oldest turns if there is no
                room for ``max_tokens``, or a quarter of the context, after the messages, until they take at most half
                of the context. Later turns begin at the same question as long as there is room, so that only what is
                new is evaluated. It keeps the system's message and counts what it left out
                (:attr:`Completion.dropped_messages`).

        Returns:
            As for :meth:`generate`. Pieces of a reasoning model's thought are marked.

        Raises:
            TokenizerError: There is no chat template, or it rejects the messages.
            ValueError: As for :meth:`generate`, or a message is not valid.
            ContextLengthError: As for :meth:`generate`.
            EngineError: As for :meth:`generate`.
        """
        started = time.perf_counter()
        request = AnswerRequest.of(
            sampling or self.sampling,
            SamplingOverrides(temperature, top_p, top_k, min_p, repetition_penalty),
            max_tokens=max_tokens,
            seed=seed,
            stop_ids=stop_ids,
            stop=stop,
            logprobs=logprobs,
            response_format=response_format,
        )
        self._leased.require_own_process()
        check_messages(messages)
        inputs = TemplateInputs(tools_of(tools, tool_choice), documents, variables)
        form = self._prompts.call_form(inputs.tools)
        if inputs.tools and form:
            request = replace(request, grammar=inputs.tools.grammar(form, request.grammar, self.tokenizer.token_id))
        with self._leased.without_preparing():
            prompt = self._prompts.fitted(messages, inputs, self.engine.context, request.max_tokens, on_full)
        inside = prompt.opens_thought
        splitter = ThoughtSplitter(inside, held=request.grammar is not None) if self.manifest.reasoning else None
        watch = Watch(think_tokens, loop_guard, inside=splitter is not None and inside)
        asked = [dict(message) for message in prompt.messages]

        def next_ids(text: str, question: str) -> list[int]:
            turn = [{"role": "assistant", "content": text}, {"role": "user", "content": question}]
            return self._prompts.ids([*asked, *turn], inputs)

        def ended(lease: Lease, completion: Completion) -> None:
            if inside:
                self._prompts.remember(asked, completion.text)
            if self._leased.prepares and completion.finish_reason != "interrupted":
                lease.prepare(partial(next_ids, completion.text))

        dropped = len(messages) - len(prompt.messages)
        calls = CallReader(form, inputs.tools.names) if inputs.tools and form else None
        return self._start(prompt.ids, request, splitter, watch, started, ended if splitter else None, dropped, calls)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The text of the prompt that :meth:`chat` uses for these arguments.

        Show it, but do not encode it: :meth:`chat` encodes what messages spell as text, which a string cannot express.

        Raises:
            TokenizerError: There is no chat template, or it rejects the messages.
            ValueError: A message is not valid.
        """
        inputs = TemplateInputs(tools_of(tools, "auto"), documents, variables)
        return self._prompts.prompt(messages, inputs).text

    def save_state(self, path: str | PathLike[str]) -> None:
        """Save the conversation's tokens and KV cache to a file, so that they need not be computed again.

        The file needs 20 to 130 kB per token in float16. It can be loaded only with the same artifact and ``kv_type``.
        It contains the text of the conversation: a new file can be read by its owner alone, and a file that is replaced
        keeps its permissions.

        Args:
            path: The file; an existing file is replaced when the new one is complete. A link is followed.

        Raises:
            EngineError: The engine cannot save its state or is closed, or the file cannot be written.
        """
        self._leased.save(Path(path))

    def load_state(self, path: str | PathLike[str]) -> None:
        """Load a file that :meth:`save_state` has written. It replaces the session's KV cache.

        If the next prompt begins with the saved tokens, only its remaining tokens are evaluated. An unfinished answer
        cannot be continued.

        Args:
            path: The file.

        Raises:
            EngineError: The engine cannot load a state, or the file is not a saved state, is truncated, or belongs to
                another artifact or ``kv_type``. The session is then empty but usable.
            ContextLengthError: The file has more tokens than the context. The session is then empty but usable.
        """
        self._leased.load(Path(path))

    def cancel(self) -> None:
        """End the answer that is being generated, also while its prompt is read; see :meth:`Generation.cancel`.

        May be called from any thread. Returns at once, and does nothing if there is no answer.
        """
        generation = self._generation() if self._generation is not None else None
        if generation is not None:
            generation.cancel()

    def close(self) -> None:
        """Free the model. An answer that another thread is generating ends first. Closing twice is allowed.

        In a fork of the process that loaded the artifact, this does nothing.
        """
        self._leased.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _start(
        self,
        prompt: list[int],
        request: AnswerRequest,
        splitter: ThoughtSplitter | None,
        watch: Watch,
        started: float,
        ended: Callable[[Lease, Completion], None] | None = None,
        dropped: int = 0,
        calls: CallReader | None = None,
    ) -> Generation:
        if not prompt:
            raise ValueError("the prompt is empty; the model needs at least one token to continue")
        if len(prompt) > self.engine.context:
            longest = self.manifest.model["context_length"]
            larger = f", or use a larger context ({self.manifest.name} allows up to {longest} tokens)"
            raise ContextLengthError(
                f"the prompt has {len(prompt)} tokens; the context holds {self.engine.context}",
                hint=f"shorten the prompt{larger if self.engine.context < longest else ''}",
            )
        sampler = Sampler(request.sampling, self.engine.vocab_size, request.seed)
        constraint = None
        if request.grammar is not None:
            constraint = self._constraints.start(request.grammar, after_thought=splitter is not None)
        lease = self._leased.lease()

        def evaluate(ids: Sequence[int]) -> NDArray[np.float32]:
            if ids is not prompt:
                return lease.append(ids)
            logits = lease.prompt(prompt)
            sampler.observe(prompt)
            return logits

        generation = Generation(
            evaluate=evaluate,
            room=lambda: self.engine.context - self.engine.position,
            tokenizer=self.tokenizer,
            sampler=sampler,
            prompt=prompt,
            stops=frozenset(self.manifest.tokens["eos"]) | request.stop_ids,
            stop_texts=(*self.manifest.stop_texts, *request.stop_texts),
            max_tokens=request.max_tokens,
            splitter=splitter,
            watch=watch,
            logprobs=None if request.logprobs is None else Logprobs(request.logprobs, self.tokenizer),
            constraint=constraint,
            calls=calls,
            dropped_messages=dropped,
            accepted=self.engine.accepted if isinstance(self.engine, SpeculatingEngine) else lambda: 0,
            ended=partial(ended, lease) if ended else None,
            prepare_s=time.perf_counter() - started,
            cancel_evaluation=self._leased.cancel,
            is_current=lambda: lease.is_valid,
        )
        self._generation = weakref.ref(generation)
        return generation
