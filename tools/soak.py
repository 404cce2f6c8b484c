"""Uses the native engine for a long time in every way an application does, and checks that its memory stays flat.

    python tools/soak.py smollm2-135m-cpu --minutes 60

Each round opens and closes sessions, answers, cancels, saves and loads states, and lets threads fight for a session.
The resident memory is printed every minute. The script fails if it grows by more than the limit after the warm-up,
which is a tenth of the time, or if an answer changes.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import edgekit
from edgekit.errors import EdgekitError, SessionBusyError

CONTEXT = 256


def resident_mb() -> float:
    """The resident memory of this process in MB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    raise OSError("/proc/self/status has no VmRSS")


class Uses:
    """What an application does with an artifact.

    Args:
        artifact: The artifact's folder.
        folder: A folder for saved states.
        seed: Chooses prompts.
    """

    def __init__(self, artifact: Path, folder: Path, seed: int) -> None:
        self.artifact, self.folder, self.random = artifact, folder, random.Random(seed)  # noqa: S311
        self.session = self.open()
        self.expected = self.answer(self.session, list(range(20, 40)))

    def open(self, **changes: str) -> edgekit.Session:
        """A new session."""
        kv_type = changes.get("kv_type", "float16")
        return edgekit.load(self.artifact, "native", context=CONTEXT, threads=2, kv_type=kv_type)

    def answer(self, session: edgekit.Session, prompt: list[int]) -> list[int]:
        """The ids of a greedy answer."""
        return session.generate(prompt, max_tokens=12, temperature=0).complete().tokens

    def prompt(self) -> list[int]:
        """Random ids."""
        return [self.random.randrange(20, 150) for _ in range(self.random.randrange(1, 100))]

    def same_answer(self) -> None:
        """The answer to one prompt never changes."""
        found = self.answer(self.session, list(range(20, 40)))
        if found != self.expected:
            raise ValueError(f"the answer has changed from {self.expected} to {found}")

    def other_session(self) -> None:
        """Open, use and close a session."""
        with self.open(kv_type=self.random.choice(["float16", "int8"])) as session:
            self.answer(session, self.prompt())

    def sampled(self) -> None:
        """Answers with all filters."""
        self.session.generate(
            self.prompt(), max_tokens=20, temperature=0.9, top_k=20, top_p=0.9, repetition_penalty=1.1, seed=3
        ).complete()

    def left_half_read(self) -> None:
        """An answer that nobody reads to its end."""
        next(self.session.generate(self.prompt(), max_tokens=30), None)

    def cancelled(self) -> None:
        """An answer that another thread cancels."""
        answer = self.session.generate(self.prompt(), max_tokens=60)
        timer = threading.Timer(self.random.random() * 0.02, answer.cancel)
        timer.start()
        answer.complete()
        timer.join()

    def saved(self) -> None:
        """A state, and a damaged copy of it."""
        path = self.folder / "state"
        self.session.save_state(path)
        self.session.load_state(path)
        data = bytearray(path.read_bytes())
        data[self.random.randrange(len(data))] ^= 1
        path.write_bytes(data)
        try:
            self.session.load_state(path)
        except EdgekitError:
            return
        raise ValueError("a damaged state was loaded")

    def two_threads(self) -> None:
        """Threads that do not agree on who uses the session."""

        def use() -> None:
            with suppress(SessionBusyError, EdgekitError):
                self.answer(self.session, [21, 22, 23])

        threads = [threading.Thread(target=use) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def refused(self) -> None:
        """Calls with wrong arguments."""
        wrong: list[Callable[[], object]] = [
            lambda: self.session.generate([10**9], max_tokens=1).complete(),
            lambda: self.session.generate([21] * (CONTEXT + 1)),
            lambda: self.session.load_state(self.folder / "missing"),
            lambda: edgekit.load(self.folder),
        ]
        for call in wrong:
            with suppress(EdgekitError, ValueError):
                call()

    def text(self) -> None:
        """The tokenizer, with characters of all kinds."""
        text = "".join(chr(self.random.randrange(1, 0xD7FF)) for _ in range(200))
        self.session.tokenizer.decode(self.session.tokenizer.encode(text))


def soak(artifact: Path, minutes: float, limit_mb: float) -> int:
    """Repeat all uses; returns the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        uses = Uses(artifact, Path(folder), seed=1)
        rounds = (
            uses.same_answer, uses.other_session, uses.sampled, uses.left_half_read, uses.cancelled, uses.saved,
            uses.two_threads, uses.refused, uses.text,
        )  # fmt: skip
        start = last = time.monotonic()
        warm, count = 0.0, 0
        while (now := time.monotonic()) - start < minutes * 60:
            for use in rounds:
                use()
            count += 1
            if not warm and now - start > minutes * 6:
                warm = resident_mb()
            if now - last > 60:
                last = now
                print(f"{(now - start) / 60:.0f} min: {count} rounds, {resident_mb():.1f} MB", flush=True)
        uses.session.close()
        warm = warm or resident_mb()
    grown = resident_mb() - warm
    print(f"{count} rounds in {minutes:g} min: {warm:.1f} MB after the warm-up, {grown:+.1f} MB since")
    if grown > limit_mb:
        print(f"the memory has grown by more than {limit_mb:g} MB", file=sys.stderr)
    return int(grown > limit_mb)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "artifact", type=Path, help="an artifact that the native engine runs; a tiny one has more rounds"
    )
    parser.add_argument("--minutes", type=float, default=60, help="how long")
    parser.add_argument("--limit-mb", type=float, default=8, help="how much the resident memory may grow")
    arguments = parser.parse_args()
    return soak(arguments.artifact, arguments.minutes, arguments.limit_mb)


if __name__ == "__main__":
    sys.exit(main())
