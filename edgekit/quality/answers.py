"""Asks an artifact a few questions, to find what averages do not show: a thought or an answer that never ends.

The questions are asked in a worker process (``worker.py``) with the native engine, which needs little memory besides
the mapped file. If they cannot be asked, the result says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..artifact.manifest import RuntimeFacts
from ..host import available_memory
from ..runtime.engine import EngineOptions
from ..runtime.loading import open_session
from ..runtime.session import Session
from ..runtime.thought import THINK_CLOSE, THINK_OPEN, starts_inside
from ..worker import run_worker, serve
from .held_out import user

# Easy, so that the thoughts are short; of several kinds; and not among the calibration prompts or the held-out texts.
QUESTIONS = (
    "What is 17 + 25?",
    "Name three planets and say one thing about each of them.",
    "Write two sentences about a walk in the snow.",
)
# Room for an answer: more than a good model needs, so that one which does not end in it never ends. SmolLM2-135M takes
# 20 to 154 tokens (12 answers, its recipe's sampling). R1's distills think for some hundred tokens before they answer.
# At the 6 tokens per second of an 8B model on a CPU, 2048 tokens take 6 minutes; only a model without an end uses them.
ROOM, THOUGHT_ROOM = 512, 2048
MAX_PERIOD = 64  # tokens of the longest period that counts as a loop: two or three sentences
MIN_REPEATS = 4  # lists and tables may repeat a short pattern three times
MIN_LOOP_TOKENS = 48  # a row of dashes or dots is not a loop
_CHECK_EVERY = 16  # tokens between two checks for a loop


@dataclass(frozen=True)
class Answer:
    """One answer.

    Args:
        question: The question.
        text: The generated text.
        tokens: Number of generated tokens.
        finish_reason: ``stop``, ``length``, ``context``, or ``loop`` if it was ended because it repeats itself.
        loop_tokens: Period of the repetition at its end; None if it does not loop.
        thought_closed: Whether an opened thought has ended; None if none was opened.
        room: Tokens that it could have had.
    """

    question: str
    text: str
    tokens: int
    finish_reason: str
    loop_tokens: int | None
    thought_closed: bool | None
    room: int

    @property
    def ended(self) -> bool:
        """Whether the model ended it."""
        return self.finish_reason == "stop"


def room_for(reasoning: bool) -> int:
    """Tokens within which a good model ends the answer to each of the :data:`QUESTIONS`."""
    return THOUGHT_ROOM if reasoning else ROOM


def ended_in_time(answers: Sequence[Answer], reasoning: bool) -> bool | None:
    """Whether no more than half of the answers never ended.

    An answer that a short context has cut off is not counted. One that loops never ends.

    Returns:
        None if no answer can be counted.
    """
    endless = sum(_never_ended(a, reasoning) for a in answers)
    counted = endless + sum(a.ended for a in answers)
    return 2 * endless <= counted if counted else None


def _never_ended(answer: Answer, reasoning: bool) -> bool:
    return not answer.ended and (answer.loop_tokens is not None or answer.room >= room_for(reasoning))


def loop_period(ids: Sequence[int]) -> int | None:
    """Find the period of the repetition at the end of a sequence.

    A sequence loops when its end is one block of at most ``MAX_PERIOD`` tokens, ``MIN_REPEATS`` times or more in a row,
    over at least ``MIN_LOOP_TOKENS`` tokens.

    Returns:
        The period in tokens, or None if the sequence does not loop.
    """
    for period in range(1, MAX_PERIOD + 1):
        length = max(MIN_REPEATS * period, MIN_LOOP_TOKENS)
        tail = ids[len(ids) - length :] if length <= len(ids) else ()
        if len(tail) > 0 and list(tail[period:]) == list(tail[:-period]):
            return period
    return None


def thought_closed(prompt: str, text: str) -> bool | None:
    """Whether the thought that the prompt or the answer opened has ended; None if neither opened one."""
    if not starts_inside(prompt) and not text.lstrip().startswith(THINK_OPEN):
        return None
    return THINK_CLOSE in text


def answer(session: Session, question: str, seed: int, max_tokens: int) -> Answer:
    """Ask one question with the artifact's sampling defaults, and stop an answer that loops."""
    prompt = session.render([user(question)]) if session.has_chat_template else f"{question}\n\n"
    if session.has_chat_template:
        generation = session.chat([user(question)], max_tokens=max_tokens, seed=seed, loop_guard="off")
    else:
        generation = session.generate(prompt, max_tokens=max_tokens, seed=seed)
    period = None
    for number, _ in enumerate(generation, 1):
        if number % _CHECK_EVERY == 0 and (period := loop_period(generation.completion.tokens)) is not None:
            break
    done = generation.stop() if period is not None else generation.completion
    period = loop_period(done.tokens)
    return Answer(
        question=question,
        text=done.text,
        tokens=len(done.tokens),
        finish_reason="loop" if period is not None else done.finish_reason,
        loop_tokens=period,
        thought_closed=thought_closed(prompt, done.text) if session.manifest.reasoning else None,
        room=max_tokens,
    )


def ask(folder: Path, facts: RuntimeFacts, data_bytes: int, threads: int) -> tuple[list[Answer], str]:
    """Ask an artifact the :data:`QUESTIONS`.

    Args:
        folder: The artifact.
        facts: What its manifest will say.
        data_bytes: Size of its weights, which must fit into the available memory, since each token reads them all.
        threads: Threads of the engine.

    Returns:
        The answers, and an empty string; or no answers, and the reason.
    """
    available = available_memory()
    if available is not None and data_bytes > available:
        return [], f"its {data_bytes / 1e9:.1f} GB of weights exceed the {available / 1e9:.1f} GB of available memory"
    request = {"folder": str(folder.resolve()), "facts": facts.facts_json(), "threads": threads}
    found = list(run_worker(__name__, request))[-1]
    if "error" in found:
        return [], found["error"]
    return [Answer(**a) for a in found["answers"]], ""


def _answers(request: Mapping[str, Any], send: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    """Ask the questions, in the worker, until more than half of them have no end."""
    options = EngineOptions(threads=request["threads"])
    with open_session(Path(request["folder"]), RuntimeFacts(**request["facts"]), options, "native") as session:
        # A short context needs the rest for the prompt.
        most = min(room_for(session.manifest.reasoning), session.engine.context // 2)
        answers: list[Answer] = []
        for seed, question in enumerate(QUESTIONS):
            answers.append(answer(session, question, seed, most))
            if 2 * sum(_never_ended(a, session.manifest.reasoning) for a in answers) > len(QUESTIONS):
                break
        return {"answers": [asdict(a) for a in answers]}


if __name__ == "__main__":
    serve(_answers)
