"""A few answers of an artifact, to see what no average shows: a thought that never closes, an answer that never ends.

Run in a process of its own (``python -m edgekit.quality.answers``): the weights that the engine maps are no memory of
the build, and a crash of an engine is no crash of the build. JSON in, JSON out.

The engine is the native one, which needs little memory beside the mapped file. What cannot be checked is said.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import EdgekitError
from ..runtime.session import Session, load
from ..runtime.thought import THINK_CLOSE, THINK_OPEN, starts_inside
from .held_out import user

# Easy, so that a thought is short; of several kinds; and no prompts of the calibration's or of the held-out texts.
QUESTIONS = (
    "What is 17 + 25?",
    "Name three planets and say one thing about each of them.",
    "Write two sentences about a walk in the snow.",
)
MAX_TOKENS = (
    512  # a thought on such a question has 50 to 300; at the 6 tokens a second of an 8B model, a minute and a half
)
MAX_PERIOD = 64  # of a loop, in tokens: two or three sentences
MIN_REPEATS = 4  # lists and tables repeat a short pattern three times and mean it
MIN_LOOP_TOKENS = 48  # a row of dashes or dots is no loop yet
_LOOK_EVERY = 16  # tokens between two looks for a loop while generating


@dataclass(frozen=True)
class Answer:
    """What is known of one answer.

    Args:
        question: What was asked.
        text: What came.
        tokens: How many.
        finish_reason: ``stop``, ``length``, ``context``, or ``loop`` where it was ended because it repeats itself.
        loop_tokens: The period of the repetition it ends with; None for an answer that does not loop.
        thought_closed: The thought that was open has ended; None where none was opened.
    """

    question: str
    text: str
    tokens: int
    finish_reason: str
    loop_tokens: int | None
    thought_closed: bool | None


def loop_period(ids: Sequence[int]) -> int | None:
    """The period of the repetition that a sequence ends with, or None.

    A sequence loops when its end is one block of at most ``MAX_PERIOD`` tokens, ``MIN_REPEATS`` times or more in a row,
    over at least ``MIN_LOOP_TOKENS`` tokens.
    """
    for period in range(1, MAX_PERIOD + 1):
        length = max(MIN_REPEATS * period, MIN_LOOP_TOKENS)
        tail = ids[len(ids) - length :] if length <= len(ids) else ()
        if len(tail) > 0 and list(tail[period:]) == list(tail[:-period]):
            return period
    return None


def thought_closed(prompt: str, text: str) -> bool | None:
    """Whether the thought that prompt or answer opened has ended; None when none was opened."""
    if not starts_inside(prompt) and not text.lstrip().startswith(THINK_OPEN):
        return None
    return THINK_CLOSE in text


def answer(session: Session, question: str, seed: int, max_tokens: int) -> Answer:
    """Ask one question, with the artifact's own way to sample; an answer that loops is ended."""
    prompt = session.render([user(question)]) if session.has_chat_template else f"{question}\n\n"
    if session.has_chat_template:
        generation = session.chat([user(question)], max_tokens=max_tokens, seed=seed)
    else:
        generation = session.generate(prompt, max_tokens=max_tokens, seed=seed)
    period = None
    for number, _ in enumerate(generation, 1):
        if number % _LOOK_EVERY == 0 and (period := loop_period(generation.completion.tokens)) is not None:
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
    )


def ask(folder: Path, data_bytes: int, threads: int) -> tuple[list[Answer], str]:
    """Let an artifact answer :data:`QUESTIONS`.

    Args:
        folder: The artifact.
        data_bytes: Of its weights, which should fit into the memory at hand: each token reads them all.
        threads: For the engine.

    Returns:
        The answers, and why there are none, where there are none.
    """
    available = available_bytes()
    if available is not None and data_bytes > available:
        return [], f"its {data_bytes / 1e9:.1f} GB of weights are more than the {available / 1e9:.1f} GB of free memory"
    request = json.dumps({"folder": str(folder.resolve()), "threads": threads})
    package = str(Path(__file__).resolve().parents[2])  # this edgekit, from wherever it was imported
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=request,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        check=False,
    )
    try:
        found = json.loads(done.stdout)
    except json.JSONDecodeError:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        return [], f"the process that runs the artifact ended with code {done.returncode}: {last}"
    if "error" in found:
        return [], found["error"]
    return [Answer(**a) for a in found["answers"]], ""


def available_bytes() -> int | None:
    """Memory that can be had without pushing other programs out; None where nobody says. Source: proc(5), meminfo."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    sizes = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
    return int(sizes["MemAvailable"][0]) * 1024 if "MemAvailable" in sizes else None


def _main() -> dict[str, Any]:
    request = json.load(sys.stdin)
    try:
        with load(request["folder"], engine="native", threads=request["threads"]) as session:
            # What a short context holds: the rest of it is for the prompt.
            most = min(MAX_TOKENS, session.engine.context // 2)
            answers = [answer(session, q, seed, most) for seed, q in enumerate(QUESTIONS)]
    except (EdgekitError, ValueError) as error:
        return {"error": str(error)}
    return {"answers": [asdict(a) for a in answers]}


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    print(json.dumps(_main(), ensure_ascii=False))
