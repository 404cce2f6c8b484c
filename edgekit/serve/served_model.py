"""One open artifact of a server: makes jobs of requests, and owns the scheduler that runs them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..artifact.manifest import RuntimeFacts
from ..errors import ContextLengthError, TokenizerError
from ..runtime.answer import Answer
from ..runtime.chat import ChatTemplate
from ..runtime.constraint import Constraint, Constraints, rules_of
from ..runtime.engine import Engine, open_engine
from ..runtime.logprobs import Logprobs
from ..runtime.native_engine import NativeEngine
from ..runtime.prefix_cache import next_start
from ..runtime.prompt import Prompt
from ..runtime.sampler import Sampler
from ..runtime.thought import ThoughtSplitter, starts_inside
from ..runtime.tokenizer import Tokenizer
from ..runtime.tool_calls import CallReader
from ..runtime.tools import Tools, ToolTemplate
from ..runtime.watch import Watch
from ..sampling import Sampling
from .answer_request import AnswerRequest
from .chat_request import ChatRequest
from .completion_request import DEFAULT_TOKENS, CompletionRequest, TokenizeRequest
from .format_budget import FormatBudget
from .job import Event, Job
from .options import ServeOptions
from .request_error import RequestError
from .scheduler import Scheduler

Emit = Callable[[Event], None]


class ServedModel:
    """An open artifact.

    Args:
        name: Its name in requests.
        manifest: Its manifest.
        tokenizer: Its tokenizer.
        template: Its chat template, or None.
        engine: An open engine; the model closes it.
        options: The server's settings.
        weight_bytes: The size of the weights.

    Attributes:
        memory_bytes: The most memory of the weights, the KV caches and the beginnings of earlier prompts.
    """

    def __init__(
        self,
        name: str,
        manifest: RuntimeFacts,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        engine: Engine,
        options: ServeOptions,
        weight_bytes: int = 0,
    ) -> None:
        self.name, self.manifest = name, manifest
        self.context, self.kv_type, self._vocab_size = engine.context, engine.kv_type, engine.vocab_size
        self._tokenizer, self._template, self._options = tokenizer, template, options
        self._tools = ToolTemplate(template) if template else None
        self._constraints = Constraints(tokenizer, engine.vocab_size, manifest.tokens["eos"])
        self._preparing = threading.Lock()  # held while a constraint is made
        self._formats = FormatBudget()
        self._sampling = Sampling.from_manifest(manifest.sampling)
        caches = engine.cache_bytes * (max(options.parallel, options.caches) if isinstance(engine, NativeEngine) else 1)
        tree = caches if options.prefix_bytes is None else options.prefix_bytes
        self.memory_bytes = weight_bytes + caches + tree
        self.scheduler = Scheduler(
            engine, parallel=options.parallel, caches=options.caches, queue=options.queue, tree_bytes=tree
        )

    @classmethod
    def open(
        cls, name: str, folder: Path, manifest: RuntimeFacts, options: ServeOptions, weight_bytes: int = 0
    ) -> ServedModel:
        """Open an artifact.

        Raises:
            EdgekitError: As for :func:`edgekit.load`.
        """
        tokenizer = Tokenizer.open(folder, manifest.tokens, concurrent=True)
        template = ChatTemplate.open(folder, tokenizer, reasoning=manifest.reasoning)
        engine = open_engine(folder, manifest, options.engine_options, options.engine)
        try:
            return cls(name, manifest, tokenizer, template, engine, options, weight_bytes)
        except BaseException:
            engine.close()
            raise

    def chat_jobs(self, request: ChatRequest, emits: Sequence[Emit]) -> list[Job]:
        """Jobs that answer a conversation.

        Args:
            request: The request.
            emits: One for each job, as for :class:`~edgekit.serve.job.Job`.

        Raises:
            RequestError: The request asks for what this model cannot do.
            EdgekitError: The template rejects the messages, or the prompt is longer than the context.
            ValueError: A message or a sampling setting is not valid.
        """
        reasoning = self.manifest.reasoning
        if request.wants_thought and not reasoning:
            raise RequestError(
                f"{self.name} does not think before it answers; leave out reasoning_effort and think_tokens",
                param="reasoning_effort",
                code="unsupported_parameter",
            )
        prompt = self._prompt(request.messages, request.variables, request.tools)
        inside = starts_inside(prompt.marked)
        answer, form = request.answer, self._tools.form if self._tools and request.tools else None
        if request.tools and form:
            answer = replace(answer, grammar=request.tools.grammar(form, answer.grammar, self._tokenizer.token_id))
        ids = self._encoded(prompt)
        alone = reasoning and len(emits) == 1 and not request.tools
        start = partial(self._next_start, request) if alone else None
        constraints = self._constrained(answer, len(emits), after_thought=reasoning)
        jobs = []
        for number, emit in enumerate(emits):
            splitter = ThoughtSplitter(inside, held=answer.grammar is not None) if reasoning else None
            watch = Watch(request.think_tokens if reasoning else None, inside=reasoning and inside)
            tools = request.tools
            calls = CallReader(form, tools.names, single=not tools.parallel) if form and tools else None
            held = constraints[number]
            jobs.append(
                self._job(answer, ids, splitter, watch, emit, held, number=number, calls=calls, next_start=start)
            )
        return jobs

    def completion_jobs(self, request: CompletionRequest, emits: Sequence[Emit]) -> list[Job]:
        """Jobs that continue a text; as :meth:`chat_jobs`."""
        prompt = request.prompt
        if isinstance(prompt, list):
            outside = next((i for i in prompt if not 0 <= i < self._vocab_size), None)
            if outside is not None:
                raise RequestError(
                    f"prompt has the token id {outside}; the ids of {self.name} are 0 to {self._vocab_size - 1}",
                    param="prompt",
                )
            ids = prompt
            self._check_prompt(ids)
        else:
            ids = self._encoded(prompt)
        constraints = self._constrained(request.answer, len(emits), after_thought=False)
        return [
            self._job(request.answer, ids, None, Watch(), emit, constraints[number], DEFAULT_TOKENS, number=number)
            for number, emit in enumerate(emits)
        ]

    def echoed(self, request: CompletionRequest) -> str:
        """The prompt, if the request wants it before its answer; raises as :meth:`completion_jobs` does."""
        if not request.echo:
            return ""
        if isinstance(request.prompt, str):
            return request.prompt
        self._check_prompt(request.prompt)  # before time is spent on it
        return self._tokenizer.decode(request.prompt)

    def tokenize(self, request: TokenizeRequest) -> list[int]:
        """The ids of a text or of a conversation's prompt.

        Raises:
            EdgekitError: The template rejects the messages.
            ValueError: A message is not valid.
        """
        text = request.prompt if isinstance(request.prompt, str) else self._prompt(request.prompt, {})
        return self._tokenizer.encode(text, request.add_bos)

    def close(self) -> None:
        """End all jobs and free the model."""
        self.scheduler.close()

    def _prompt(
        self, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any], tools: Tools | None = None
    ) -> Prompt:
        if self._template is None or self._tools is None:
            raise TokenizerError(f"{self.name} has no chat template", hint="use /v1/completions")
        return self._template.prompt(
            self._tools.messages(messages, tools), tools=self._tools.definitions(tools), variables=variables
        )

    def _job(
        self,
        request: AnswerRequest,
        ids: list[int],
        splitter: ThoughtSplitter | None,
        watch: Watch,
        emit: Emit,
        constraint: Constraint | None,
        tokens: int | None = None,
        *,
        number: int,
        calls: CallReader | None = None,
        next_start: Callable[[str], list[int]] | None = None,
    ) -> Job:
        """The job of a prompt.

        Args:
            constraint: Of this answer.
            tokens: How many to generate at most if the request does not say.
            number: Of the job among those of the request.
        """
        seed = None if request.seed is None else (request.seed + number) % (1 << 64)
        sampler = Sampler(request.sampling.applied_to(self._sampling), self._vocab_size, seed)
        sampler.observe(ids)
        logprobs = None if request.logprobs is None else Logprobs(request.logprobs, self._tokenizer)
        stops = frozenset(self.manifest.tokens["eos"])
        answer = Answer(
            tokenizer=self._tokenizer,
            sampler=sampler,
            prompt=list(ids),
            stops=stops,
            stop_texts=(*self.manifest.stop_texts, *request.stop),
            max_tokens=self._max_tokens(request, tokens),
            splitter=splitter,
            watch=watch,
            logprobs=logprobs,
            constraint=constraint,
            calls=calls,
        )
        return Job(answer, emit, self._options.time_limit_s, logprobs, stops, next_start, number)

    def _encoded(self, prompt: str | Prompt) -> list[int]:
        """The ids of a prompt, which must fit. One that is far too long is not encoded, which would take seconds."""
        size = len(prompt.text if isinstance(prompt, Prompt) else prompt)
        if size > self.context and (least := self._tokenizer.least_tokens(prompt)) > self.context:
            raise self._too_long(f"at least {least}")
        ids = self._tokenizer.encode(prompt)
        self._check_prompt(ids)
        return ids

    def _check_prompt(self, ids: list[int]) -> None:
        if not ids:
            raise RequestError("the prompt is empty; the model needs at least one token", param="prompt")
        if len(ids) > self.context:
            raise self._too_long(str(len(ids)))

    def _too_long(self, count: str) -> ContextLengthError:
        longest = self.manifest.model["context_length"]
        larger = f", or start the server with a larger --context ({self.name} allows up to {longest} tokens)"
        return ContextLengthError(
            f"the prompt has {count} tokens; the context holds {self.context}",
            hint=f"shorten the prompt{larger if self.context < longest else ''}",
        )

    def _next_start(self, request: ChatRequest, content: str) -> list[int]:
        """What the next prompt of a conversation begins with, when this is the answer to the request."""

        def encode(question: str) -> list[int]:
            turn = [{"role": "assistant", "content": content}, {"role": "user", "content": question}]
            return self._tokenizer.encode(self._prompt([*request.messages, *turn], request.variables, request.tools))

        return next_start(encode)

    def _constrained(self, request: AnswerRequest, count: int, *, after_thought: bool) -> list[Constraint | None]:
        """Constraints for so many answers to a request; each is None if the answers may be any text."""
        grammar = request.grammar
        if grammar is None:
            return [None] * count
        param = "tools" if grammar.schema is None and grammar.regex is None else request.grammar_field
        with self._preparing:
            try:
                rules = rules_of(grammar, after_thought=after_thought)
                with self._formats.taken(len(rules)) as held:
                    first = self._constraints.of_rules(rules)
                    held.until_freed(first)
            except ValueError as error:
                raise RequestError(str(error), param=param) from None
        return [first, *(first.copy() for _ in range(count - 1))]

    def _max_tokens(self, request: AnswerRequest, default: int | None) -> int | None:
        asked, field, most = request.max_tokens, request.max_tokens_field, self._options.max_tokens
        if asked is not None and most is not None and asked > most:
            raise RequestError(f"{field} is {asked}; this server allows at most {most}", param=field)
        return min((each for each in (default, most) if each is not None), default=None) if asked is None else asked
