"""Kills builds of a tiny model at random moments, and looks at what is left, and at what the same command gives then.

    python tests/support/kill_builds.py --kills 200
    python tests/support/kill_builds.py --kills 50 --signal SIGTERM --signal SIGINT,SIGINT

After a kill, a folder under its final name must be whole: the old one or the new one. Then the same command must give
the bytes that it gives undisturbed, and leave nothing else: beside the output, in the temporary folder, in the cache.
After a signal that a process can handle, nothing may be left even before that. Builds run in forked processes, so that
each takes a fraction of a second; they call the command line's own main function.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tiny_checkpoint import write_checkpoint
from tiny_gptq import SHAPES

TEXT = "The capital of France is Paris. What is the capital of Italy? Rome. " * 40
WAYS: dict[str, tuple[str, ...]] = {
    "rtn": (),
    "gptq": ("--method", "gptq", "--calibration", "TEXT", "--calibration-tokens", "128"),
    "scaled": ("--scale", "--calibration", "TEXT"),
    "rotated": ("--rotate",),
    "widths": ("--bits", "6", "--calibration", "TEXT"),
    "force": ("--force",),
    "emit gptq": ("--symmetric", "--emit", "gptq"),
    "emit web": ("--emit", "web", "--force"),
    "gate": ("--quality-tokens", "64"),
}
EXISTS = 51  # the exit code of OutputExistsError


@dataclass
class Outcome:
    """What was seen: how often each thing happened, and what was wrong."""

    seen: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Builds:
    """A folder with a checkpoint, in which builds run, and what they give undisturbed.

    Args:
        root: A new folder.
        ways: Names of WAYS.
    """

    def __init__(self, root: Path, ways: Sequence[str]) -> None:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401

        import edgekit.build.steps  # noqa: F401

        self._root = root
        self.work = root / "work"
        for name in ("tmp", "cache"):
            (root / name).mkdir(parents=True)
        self._checkpoint = write_checkpoint(root / "checkpoint", "llama", **SHAPES)
        (root / "text").write_text(TEXT)
        self._old = self._built("old", ("--bits", "8"))
        self.references = {way: self._built(way, WAYS[way]) for way in ways}
        self.seconds = {way: self._seconds(way) for way in ways}
        self._kept = set((root / "cache").rglob("*"))  # the choice of kernels

    def start(self, way: str) -> int:
        """Start a build in a process of its own; returns its id."""
        return self._start(WAYS[way])

    def prepare(self, way: str) -> None:
        """Empty the work folder; with ``--force``, put an old artifact there."""
        shutil.rmtree(self.work, ignore_errors=True)
        if "--force" in WAYS[way]:
            shutil.copytree(self._old, self.work)
        else:
            self.work.mkdir()

    def problems(self, way: str) -> list[str]:
        """Folders under their final names that are neither the old ones nor the new ones."""
        found = []
        if "--force" in WAYS[way]:
            found += [f"{path.name} is gone" for path in self._old.iterdir() if not (self.work / path.name).is_dir()]
        for name in sorted(path.name for path in self.work.iterdir() if not path.name.startswith(".")):
            content = contents(self.work / name)
            allowed = [contents(self.references[way] / name)]
            if "--force" in WAYS[way]:
                allowed.append(contents(self._old / name))
            if content not in allowed:
                found.append(f"{name} is neither the old nor the new one")
        return found

    def leftovers(self, way: str) -> list[str]:
        """What no finished build leaves."""
        finished = {path.name for path in self.references[way].iterdir()}
        beside = [path.name for path in self.work.iterdir() if path.name not in finished]
        others = {path for name in ("tmp", "cache") for path in (self._root / name).rglob("*")} - self._kept
        return beside + [str(path.relative_to(self._root)) for path in sorted(others)]

    def repeat(self, way: str) -> list[str]:
        """Run the same command to its end; list what is wrong afterwards."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.start(way), 0)[1])
        if code == EXISTS and not self.different(way) and "--force" not in WAYS[way]:
            code = 0  # the killed build had just finished
        if code:
            return [f"the same command ended with exit code {code}: {(self._root / 'log').read_text()[-300:]}"]
        return self.different(way) + [f"left: {name}" for name in self.leftovers(way)]

    def different(self, way: str) -> list[str]:
        """Outputs that are missing or differ from those of an undisturbed build."""
        names = [path.name for path in self.references[way].iterdir()]
        return [f"{n} differs" for n in names if contents(self.work / n) != contents(self.references[way] / n)]

    def arguments(self, options: Sequence[str]) -> list[str]:
        """The arguments of edgekit for a build with these options."""
        gate = () if "--quality-tokens" in options else ("--no-gate",)
        words = [str(self._root / "text") if word == "TEXT" else word for word in (*options, *gate)]
        source, out = str(self._checkpoint), str(self.work / "x")
        return ["build", "--checkpoint", source, "--device", "cpu", "--out", out, "--threads", "2", *words]

    @property
    def environment(self) -> dict[str, str]:
        """What the processes of a build see."""
        tmp, cache = str(self._root / "tmp"), str(self._root / "cache")
        return {"SOURCE_DATE_EPOCH": "1700000000", "TMPDIR": tmp, "EDGEKIT_CACHE": cache}

    def _built(self, name: str, options: Sequence[str]) -> Path:
        self.work.mkdir()
        process = self._start(options)
        if os.waitpid(process, 0)[1]:
            raise AssertionError(f"{name}: {(self._root / 'log').read_text()}")
        return self.work.rename(self._root / name.replace(" ", "-"))

    def _seconds(self, way: str) -> float:
        self.prepare(way)
        started = time.perf_counter()
        os.waitpid(self.start(way), 0)
        return time.perf_counter() - started

    def _start(self, options: Sequence[str]) -> int:
        process = os.fork()
        if process:
            return process
        try:
            log = os.open(self._root / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for stream in (1, 2):
                os.dup2(log, stream)
            os.environ |= self.environment
            tempfile.tempdir = None
            sys.argv = ["edgekit", *self.arguments(options)]
            from edgekit.cli import main

            main()
            os._exit(0)
        except SystemExit as ended:
            sys.stderr.flush()
            os._exit(ended.code if isinstance(ended.code, int) else 1)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(99)


def contents(folder: Path) -> dict[str, bytes] | None:
    """Every file below a folder; None if it does not exist."""
    if not folder.is_dir():
        return None
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def kill(builds: Builds, way: str, signals: Sequence[signal.Signals], rng: random.Random, outcome: Outcome) -> None:
    """Kill one build at a random moment, and look."""
    builds.prepare(way)
    process = builds.start(way)
    time.sleep(rng.uniform(0, 1.05 * builds.seconds[way]))
    for number, each in enumerate(signals):
        if number:
            time.sleep(rng.choice([0, 0.001, 0.01, 0.1]))
        os.kill(process, each)
    status = os.waitpid(process, 0)[1]
    names = "+".join(each.name for each in signals)
    finished = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
    outcome.seen[f"{way}, {names}: " + ("ended before" if finished else "killed")] += 1
    wrong = builds.problems(way)
    handled = signal.SIGKILL not in signals and os.WIFEXITED(status)
    if handled:
        kept = (".x.calibration", ".x.widths")  # what the same command resumes
        wrong += [f"{names} left {name}" for name in builds.leftovers(way) if not name.startswith(kept)]
    outcome.seen["with leftovers"] += bool(builds.leftovers(way))
    wrong += builds.repeat(way)
    outcome.wrong += [f"{way}, {names}: {each}" for each in wrong]


def kill_builds(
    root: Path, kills: int, signals: Sequence[Sequence[signal.Signals]], seed: int, ways: Sequence[str] = tuple(WAYS)
) -> Outcome:
    """Kill builds, every way in turn.

    Args:
        root: A new folder.
        kills: How many.
        signals: What to send, in turn; several signals are sent to one build.
        seed: Of the random moments.
        ways: Names of WAYS.
    """
    builds, rng, outcome = Builds(root, ways), random.Random(seed), Outcome()  # noqa: S311
    for number in range(kills):
        kill(builds, ways[number % len(ways)], signals[number % len(signals)], rng, outcome)
    return outcome


def main() -> None:
    """Read the command line, kill, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="how many builds to kill")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments")
    parser.add_argument("--way", action="append", choices=list(WAYS), help="kill only these builds")
    parser.add_argument(
        "--signal", action="append", help="send these signals, separated by commas, instead of SIGKILL; may be repeated"
    )
    arguments = parser.parse_args()
    signals = [[signal.Signals[name] for name in each.split(",")] for each in arguments.signal or ["SIGKILL"]]
    with tempfile.TemporaryDirectory(prefix="kill-builds-") as root:
        outcome = kill_builds(Path(root), arguments.kills, signals, arguments.seed, arguments.way or tuple(WAYS))
    for what, count in sorted(outcome.seen.items()):
        print(f"{count:5} {what}")
    print(*outcome.wrong, sep="\n")
    print(f"{arguments.kills} kills, {len(outcome.wrong)} faults")
    sys.exit(bool(outcome.wrong))


if __name__ == "__main__":
    main()
