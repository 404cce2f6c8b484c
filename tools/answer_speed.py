"""Compares the decoding speed of answers with and without a feature of the runtime, on the same requests, by turns.

    python tools/answer_speed.py ARTIFACT quote     guessing tokens, where the answer repeats a document
    python tools/answer_speed.py ARTIFACT thought   guessing tokens, where the model reasons step by step
    python tools/answer_speed.py ARTIFACT free      guessing tokens, where nothing is repeated
    python tools/answer_speed.py ARTIFACT schema    holding the answer to a JSON schema, without guesses

For each request, it prints the speed with and without the feature, and their ratio; at the end, the median ratio.
Guesses never change an answer, which is checked. `schema` needs the extra `structured`.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edgekit
from edgekit.runtime.generation import Completion
from edgekit.runtime.session import Session

_DOCUMENT = """\
The harbour of Port Ellery was built in 1874, when the fishing fleet of the village had grown to forty boats. The \
engineer, Thomas Wray, chose granite from the quarry at Hollin Head, eleven miles to the north, and had it brought by \
barge. The work stopped twice: in the winter of 1875, when a storm carried away the scaffolding, and in 1877, when \
the money ran out. A loan from the county paid for the last two piers, which were finished in the spring of 1879. The \
light at the end of the western pier burned oil until 1931 and has been electric since. Today the harbour is home to \
nine fishing boats, a ferry and about sixty yachts. The council plans to dredge the inner basin, which is now only two \
metres deep at low water."""

REQUESTS = {
    "quote": (
        f"Repeat this text word for word:\n\n{_DOCUMENT}",
        f"Correct the spelling of this text and return all of it:\n\n{_DOCUMENT}",
        f"Quote the sentences of this text that contain a year:\n\n{_DOCUMENT}",
    ),
    "thought": (
        "A train leaves A at 9:00 at 60 km/h. Another leaves B, 300 km away, at 10:00 at 90 km/h. Where do they meet?",
        "Find all integers n such that n^2 + 19n + 92 is a perfect square. Think step by step and verify.",
        "In how many ways can 5 different balls be put into 3 identical boxes so that none is empty? Think carefully.",
        "Write a Python function that merges overlapping intervals, explain it, then test it by hand.",
        "Prove that the square root of 3 is irrational, step by step, then explain each step to a student.",
    ),
    "free": (
        "Write a strange poem about glass, tar and winter, without repeating a word.",
        "Invent forty unusual names for towns, without explanations.",
        "Describe a dream in short, odd sentences.",
        "List random nouns.",
        "Describe a market at night in rich language.",
    ),
    "schema": (
        "Invent a person: name, age, ten hobbies and a long biography. Answer in JSON.",
        "Invent a town: a mayor as name, age, ten hobbies and a long biography. Answer in JSON.",
    ),
}
_TEMPERATURES = {"quote": 0.0, "thought": 0.6, "free": 1.3, "schema": 0.7}
_SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "hobbies": {"type": "array", "items": {"type": "string"}, "minItems": 8, "maxItems": 12},
        "biography": {"type": "string", "minLength": 300},
    },
    "required": ["name", "age", "hobbies", "biography"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "person", "schema": _SCHEMA, "strict": True}}


@dataclass(frozen=True)
class Pair:
    """The same request with the feature and without.

    Attributes:
        on_tok_s: Tokens per second after the first one, with the feature.
        off_tok_s: The same without it.
        tokens: The length of the answer with the feature.
        guessed: How many of these tokens had been guessed.
    """

    on_tok_s: float
    off_tok_s: float
    tokens: int
    guessed: int

    @property
    def ratio(self) -> float:
        """The speed with the feature by the speed without."""
        return self.on_tok_s / self.off_tok_s


def measure(artifact: Path, what: str, *, tokens: int, rounds: int, threads: int | None) -> Iterator[Pair]:
    """Answer each request with the feature and without; which comes first alternates.

    Args:
        artifact: A folder of ``edgekit build``.
        what: A key of :data:`REQUESTS`.
        tokens: The most tokens of an answer.
        rounds: How often each request is made, with other seeds.
        threads: Threads of the engine; None for its default.

    Raises:
        RuntimeError: Guesses have changed an answer.
    """
    guessing = what != "schema"
    with (
        edgekit.load(artifact, engine="native", threads=threads, speculate=guessing) as on,
        edgekit.load(artifact, engine="native", threads=threads, speculate=False) as off,
    ):
        for session in (on, off):  # the first answer measures kernels; and both caches hold the same from then on
            _answer(session, "Hello", what, 4, 0, constrained=session is on and not guessing)
        for number in range(rounds):
            for i, request in enumerate(REQUESTS[what]):
                done: dict[bool, Completion] = {}
                for feature in (True, False) if (number + i) % 2 else (False, True):
                    session = on if feature else off
                    constrained = feature and not guessing
                    done[feature] = _answer(session, request, what, tokens, number, constrained=constrained)
                if guessing and done[True].text != done[False].text:
                    raise RuntimeError(f"guesses have changed the answer to {request!r}")
                speeds = [done[feature].decode_tok_s or 0.0 for feature in (True, False)]
                yield Pair(speeds[0], speeds[1], len(done[True].tokens), done[True].accepted_tokens)


def _answer(session: Session, request: str, what: str, tokens: int, seed: int, *, constrained: bool) -> Completion:
    message: list[dict[str, Any]] = [{"role": "user", "content": request}]
    return session.chat(
        message,
        max_tokens=tokens,
        temperature=_TEMPERATURES[what],
        seed=seed,
        loop_guard="off",
        response_format=FORMAT if constrained else None,
    ).complete()


def main() -> None:
    """Measure an artifact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path, metavar="ARTIFACT", help="a folder of edgekit build")
    parser.add_argument("what", choices=list(REQUESTS))
    parser.add_argument("--tokens", type=int, default=200, help="the most tokens of an answer (default: 200)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each request is made (default: 3)")
    parser.add_argument("--threads", type=int, help="threads of the engine (default: the engine's)")
    options = parser.parse_args()
    pairs = []
    for pair in measure(
        options.artifact, options.what, tokens=options.tokens, rounds=options.rounds, threads=options.threads
    ):
        pairs.append(pair)
        print(
            f"with {pair.on_tok_s:.1f} tok/s, without {pair.off_tok_s:.1f} tok/s, ratio {pair.ratio:.2f}; "
            f"{pair.guessed} of {pair.tokens} tokens guessed",
            flush=True,
        )
    print(f"median ratio {statistics.median(pair.ratio for pair in pairs):.2f}")


if __name__ == "__main__":
    main()
