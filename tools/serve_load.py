"""Load a server with OpenAI's API and measure it: several requests at once, pauses, second turns, and a soak test.

It works with any server that has /v1/completions and /v1/chat/completions, so servers can be compared by turns:

    python tools/serve_load.py throughput http://127.0.0.1:8080 --model NAME     total tokens per second by clients
    python tools/serve_load.py pause URL --model NAME       the longest pause of readers while a long prompt is read
    python tools/serve_load.py turns URL --model NAME       time to the first token of a first and of a second turn
    python tools/serve_load.py quote URL --model NAME       tokens per second of an answer that quotes its prompt
    python tools/serve_load.py overhead URL --model NAME --artifact FOLDER   of one request, against a session
    python tools/serve_load.py soak URL --model NAME        many requests, of which a third are left in the middle
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import edgekit
from edgekit import Session

WORDS = (
    "river", "stone", "window", "garden", "letter", "winter", "morning", "bridge", "paper", "engine", "forest",
    "kitchen", "island", "market", "teacher", "silver", "mountain", "signal", "harbor", "candle", "shadow", "journey",
)  # fmt: skip
_ATTEMPTS = 5  # to find prompts whose answers are as long as requested


@dataclass
class Answer:
    """What a client received.

    Attributes:
        text: The text, of the thought and of the answer.
        content: The text of the answer alone.
        times: When each event with text came, in seconds; the first one is when the request was sent.
        tokens: Generated tokens, if the server said so, else the events.
        finished: Whether the stream came to its end.
    """

    text: str = ""
    content: str = ""
    times: list[float] = field(default_factory=list)
    tokens: int = 0
    finished: bool = False


class Client:
    """Sends requests, each on its own connection.

    Args:
        url: The server's address, without a path.
        model: The model's name.
    """

    def __init__(self, url: str, model: str) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._model = parts.hostname or "127.0.0.1", parts.port or 80, model

    async def health(self) -> dict[str, Any]:
        """What the server says of itself."""
        reader, writer = await self._send("GET", "/health", b"")
        try:
            _, headers, rest = (await reader.read()).partition(b"\r\n\r\n")
            found: dict[str, Any] = json.loads(rest or headers)
            return found
        finally:
            writer.close()

    async def ask(
        self, body: dict[str, Any], *, leave_after: int | None = None, answer: Answer | None = None
    ) -> Answer:
        """Stream an answer.

        Args:
            body: The request, with ``prompt`` or ``messages``.
            leave_after: Close the connection after so many events with text.
            answer: Receives the answer while it comes.

        Raises:
            RuntimeError: The server refused the request.
        """
        found = answer or Answer()
        path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
        whole = {"model": self._model, "stream": True, "stream_options": {"include_usage": True}, **body}
        found.times.append(time.perf_counter())
        reader, writer = await self._send("POST", path, json.dumps(whole).encode())
        try:
            async for event in _events(reader):
                if event is None:
                    found.finished = True
                    break
                if "error" in event:
                    raise RuntimeError(event["error"])
                if usage := event.get("usage"):
                    found.tokens = usage["completion_tokens"]
                if text := _text(event, ("reasoning_content", "content", "text")):
                    found.text += text
                    found.content += _text(event, ("content", "text"))
                    found.times.append(time.perf_counter())
                    if leave_after is not None and len(found.times) > leave_after:
                        break
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        if len(found.times) == 1:  # an empty answer
            found.times.append(time.perf_counter())
        found.tokens = found.tokens or len(found.times) - 1
        return found

    async def _send(self, method: str, path: str, body: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        return reader, writer


async def _events(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, Any] | None]:
    """The events of a stream; None at its end.

    Raises:
        RuntimeError: The status is not 200.
    """
    status = int((await reader.readline()).split()[1])
    chunked = False
    while line := (await reader.readline()).strip():
        chunked |= line.lower() == b"transfer-encoding: chunked"
    if status != 200:
        raise RuntimeError(f"status {status}: {(await reader.read())[:500].decode(errors='replace')}")
    rest = b""
    while True:
        if chunked:
            size = int((await reader.readline()).strip() or b"0", 16)
            data = await reader.readexactly(size + 2)
            data = data[:-2]
        else:
            data = await reader.read(65536)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data: "):
                yield None if line.strip() == b"data: [DONE]" else json.loads(line[6:])


def _text(event: dict[str, Any], names: Sequence[str]) -> str:
    """The text of an event that has one of these names."""
    for choice in event.get("choices") or ():
        delta = choice.get("delta") or choice
        return "".join(delta.get(name) or "" for name in names)
    return ""


def prose(words: int, seed: int) -> str:
    """A text of so many random words."""
    rng = random.Random(seed)  # noqa: S311
    return " ".join(rng.choice(WORDS) for _ in range(words))


async def throughput(client: Client, counts: Sequence[int], tokens: int, rounds: int) -> dict[int, float]:
    """Total tokens per second by the number of clients: medians of rounds in which the numbers take turns.

    A round in which an answer ends by itself is repeated with other prompts: then fewer clients wait for the rest.
    """
    found: dict[int, list[float]] = {count: [] for count in counts}
    for turn in range(rounds):
        for count in counts:
            for attempt in range(_ATTEMPTS):
                first = 1000 * turn + 100 * attempt
                bodies = [{"prompt": prose(8, first + i), "max_tokens": tokens, "seed": i} for i in range(count)]
                start = time.perf_counter()
                answers = await asyncio.gather(*(client.ask(body) for body in bodies))
                seconds = time.perf_counter() - start
                if min(each.tokens for each in answers) >= tokens:
                    break
            found[count].append(sum(each.tokens for each in answers) / seconds)
    return {count: statistics.median(values) for count, values in found.items()}


@dataclass(frozen=True)
class Pauses:
    """Seconds between two events of readers: the usual pause, and the longest ones."""

    usual: float
    longest_before: float
    longest_while: float
    usual_while: float
    first_token: float  # of the long prompt


async def pauses(client: Client, readers: int, words: int) -> Pauses:
    """Read several answers, and send a long prompt meanwhile."""
    answers = [Answer() for _ in range(readers)]
    bodies = [{"prompt": prose(8, i), "max_tokens": 2000, "seed": i} for i in range(readers)]
    tasks = [asyncio.ensure_future(client.ask(body, answer=each)) for body, each in zip(bodies, answers, strict=True)]
    while min(len(each.times) for each in answers) < 40 and not any(task.done() for task in tasks):
        await asyncio.sleep(0.01)
    sent = time.perf_counter()
    long = await client.ask({"prompt": prose(words, time.time_ns()), "max_tokens": 2})
    read = long.times[1] if len(long.times) > 1 else time.perf_counter()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    before: list[float] = []
    during: list[float] = []
    for each in answers:
        for a, b in zip(each.times[5:], each.times[6:], strict=False):
            (before if b < sent else during if a < read else []).append(b - a)
    usual = statistics.median(during) if during else 0.0
    return Pauses(statistics.median(before), max(before), max(during, default=0.0), usual, read - sent)


async def second_turn(
    client: Client, words: int, pause_s: float, tokens: int = 200, think_tokens: int | None = None
) -> tuple[float, float]:
    """Time to the first token of a first turn, and of a second one ``pause_s`` seconds after the first answer.

    The second turn has the first answer without its thought, which ends after ``think_tokens``.
    """
    messages = [{"role": "user", "content": f"Summarize: {prose(words, int(time.time()))}"}]
    limits = {"max_tokens": tokens} if think_tokens is None else {"max_tokens": tokens, "think_tokens": think_tokens}
    first = await client.ask({"messages": messages, **limits})
    await asyncio.sleep(pause_s)
    turn = [{"role": "assistant", "content": first.content}, {"role": "user", "content": "Which word came first?"}]
    second = await client.ask({"messages": [*messages, *turn], "max_tokens": 5})
    return first.times[1] - first.times[0], second.times[1] - second.times[0]


async def quote(client: Client, words: int, tokens: int) -> float:
    """Tokens per second of an answer that repeats a text."""
    text = prose(words, 5)
    body = {"prompt": f"{text}\n\n{text}\n\n{text}\n\n", "max_tokens": tokens, "temperature": 0}
    found = await client.ask(body)
    return (found.tokens - 1) / (found.times[-1] - found.times[1])


async def overhead(client: Client, session: Session, tokens: int) -> tuple[float, float]:
    """Tokens per second after the first one, of a single request and of a session in this process."""
    asked = {"prompt": f"{prose(8, time.time_ns())}. How does a steam engine work? In short:", "max_tokens": tokens}
    found = await client.ask({**asked, "temperature": 0})
    served = (found.tokens - 1) / (found.times[-1] - found.times[1])
    alone = await asyncio.to_thread(session.generate(str(asked["prompt"]), max_tokens=tokens, temperature=0).complete)
    return served, alone.decode_tok_s or 0.0


@dataclass
class Soak:
    """What became of the requests of a soak test.

    Attributes:
        finished: Came to their end.
        left: Were left in the middle.
        different: Texts that were not those of the same request alone.
    """

    finished: int = 0
    left: int = 0
    different: list[str] = field(default_factory=list)


async def soak(client: Client, requests: int, clients: int, tokens: int) -> Soak:
    """Send requests by several clients, a third of which leave in the middle of the answer.

    Each text is compared with that of the same request alone. Rounding may lead to another text where the arithmetic
    depends on which requests are computed together; with EDGEKIT_ISA=scalar, it does not.
    """
    kinds = [
        {"prompt": prose(4 + 3 * i, i % 7), "max_tokens": tokens, "seed": i, "temperature": i % 2 * 0.8}
        for i in range(14)
    ]
    alone = [(await client.ask(body)).text for body in kinds]
    found, left = Soak(), list(range(requests))
    rng = random.Random(1)  # noqa: S311

    async def work() -> None:
        while left:
            number = left.pop()
            kind = rng.randrange(len(kinds))
            leave = rng.randrange(1, 10) if number % 3 == 0 else None
            answer = await client.ask(kinds[kind], leave_after=leave)
            found.finished += answer.finished
            found.left += not answer.finished
            whole, expected = answer.finished, alone[kind]
            if answer.text != (expected if whole else expected[: len(answer.text)]):
                found.different.append(f"{kind}: {answer.text!r} is not {expected!r}")

    await asyncio.gather(*(work() for _ in range(clients)))
    for _ in range(500):  # the server may not have noticed yet who left
        health = await client.health()
        if not health["active"] and not health["waiting"]:
            return found
        await asyncio.sleep(0.02)
    raise RuntimeError(f"requests are left in the server: {health}")


def resident_bytes(pid: int) -> int:
    """The resident memory of a process, without mapped files."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("RssAnon"))


async def run(options: argparse.Namespace) -> None:
    """Do what the command line says."""
    client = Client(options.url, options.model)
    await client.ask({"prompt": "Hello", "max_tokens": 4})
    if options.what == "throughput":
        found = await throughput(client, (1, 4, 8), options.tokens, options.rounds)
        for count, rate in found.items():
            print(f"{count} clients: {rate:.1f} tok/s, {rate / found[1]:.2f} of one")
    elif options.what == "pause":
        for _ in range(options.rounds):
            gap = await pauses(client, 3, options.words)
            print(
                f"usual {gap.usual * 1e3:.0f} ms; longest before {gap.longest_before / gap.usual:.2f}, while a long "
                f"prompt is read {gap.longest_while / gap.usual:.2f} times that (median "
                f"{gap.usual_while / gap.usual:.2f}); it was read in {gap.first_token:.1f} s"
            )
    elif options.what == "turns":
        for _ in range(options.rounds):
            first, second = await second_turn(client, options.words, options.pause_s, think_tokens=options.think_tokens)
            print(f"first token: turn 1 {first:.2f} s, turn 2 {second:.3f} s, {second / first:.1%}")
    elif options.what == "overhead":
        with edgekit.load(options.artifact, threads=options.threads) as session:
            both = [await overhead(client, session, options.tokens) for _ in range(options.rounds)]
        ratio = statistics.median(served / alone for served, alone in both)
        print(f"server {both[-1][0]:.1f} tok/s, session {both[-1][1]:.1f} tok/s; median ratio {ratio:.3f}")
    elif options.what == "quote":
        rates = [await quote(client, 80, options.tokens) for _ in range(options.rounds)]
        print(f"{statistics.median(rates):.1f} tok/s")
    else:
        before = resident_bytes(options.pid) if options.pid else 0
        for i in range(options.rounds):
            start = time.perf_counter()
            done = await soak(client, options.requests, options.clients, options.tokens)
            memory = f", {(resident_bytes(options.pid) - before) / 1e6:+.1f} MB" if options.pid else ""
            print(
                f"round {i + 1}: {done.finished} finished, {done.left} left, {len(done.different)} different texts, "
                f"{time.perf_counter() - start:.0f} s{memory}"
            )


def main() -> None:
    """Measure a server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["throughput", "pause", "turns", "quote", "overhead", "soak"])
    parser.add_argument("url", metavar="URL")
    parser.add_argument("--model", required=True)
    parser.add_argument("--tokens", type=int, default=64, help="of an answer (default: 64)")
    parser.add_argument("--words", type=int, default=1000, help="of a long prompt (default: 1000)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--think-tokens", type=int, metavar="N", help="of the first turn, if the model thinks")
    parser.add_argument("--pause-s", type=float, default=5, help="between two turns (default: 5)")
    parser.add_argument("--requests", type=int, default=1000, help="of the soak test (default: 1000)")
    parser.add_argument("--clients", type=int, default=50, help="of the soak test (default: 50)")
    parser.add_argument("--artifact", type=Path, metavar="FOLDER", help="what the server serves, for overhead")
    parser.add_argument("--threads", type=int, help="of the session that is compared with the server")
    parser.add_argument("--pid", type=int, help="the server's process, whose memory the soak test prints")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
