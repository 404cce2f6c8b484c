"""Coverage-guided fuzzing of everything that reads what others have written, with atheris.

    python tests/support/fuzz_readers.py [NAME ...] --seconds 3 --findings FOLDER
    python tests/support/fuzz_readers.py --seconds 2 --turn 5 --turn-seconds 60

Each file of tests/fuzz is a target: ``seeds()`` gives inputs, ``read(data)`` reads one, and ``change(choose, data)``,
if there is one, changes one and keeps its form. A target may end with one of its ``ALLOWED`` errors, EdgekitError if it
names none, within 5 seconds of processor time and 1 GB of memory, or its ``MEGABYTES``. Anything else is a finding: its
input is written to FOLDER/NAME, once for each place in the code. A finding that has been repaired goes to
tests/fuzz/cases/NAME, from where it is a seed and a case of tests/test_fuzz_readers.py. What earlier fuzzing has
reached is in tests/fuzz/corpora; see distil_corpora.py.

A gate has no time for a minute of each target. With ``--turn``, one target in eight has its minute in each run.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[1] / "fuzz"
SECONDS, MEGABYTES = 5, 1000
TURNS = 8
_PREFIX = "finding"
_MEMORY = "/dev/shm"  # noqa: S108


def names() -> list[str]:
    """The targets."""
    return sorted(path.stem for path in FOLDER.glob("*.py"))


@cache
def load(name: str) -> ModuleType:
    """Import a target, once in a process: some write files at fixed places."""
    spec = importlib.util.spec_from_file_location(f"fuzz_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cases(name: str) -> list[Path]:
    """The inputs that were findings once."""
    return sorted((FOLDER / "cases" / name).glob("*"))


def corpus(name: str) -> Path:
    """The archive of the inputs that reach what earlier fuzzing has reached."""
    return FOLDER / "corpora" / f"{name}.zip"


def read(target: ModuleType, data: bytes) -> str:
    """Read one input; returns what is wrong, or an empty string."""
    import edgekit
    from edgekit.errors import EdgekitError

    began = time.process_time()
    try:
        target.read(data)
    except getattr(target, "ALLOWED", (EdgekitError,)):
        pass
    except Exception as error:
        package = f"{Path(edgekit.__file__).parent}{os.sep}"
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(package)]
        at = f"{Path(frames[-1].filename).name}-{frames[-1].lineno}" if frames else "elsewhere"
        return f"{type(error).__name__}-{at}"
    return "slow" if time.process_time() - began > SECONDS else ""


def in_turn(turn: int) -> set[str]:
    """The targets that have more time in a run. Each is in one of ``TURNS`` turns."""
    return set(names()[turn % TURNS :: TURNS])


def _inputs(name: str, target: ModuleType) -> Iterator[bytes]:
    yield from target.seeds()
    yield from (path.read_bytes() for path in cases(name))
    if corpus(name).exists():
        with zipfile.ZipFile(corpus(name)) as archive:
            yield from map(archive.read, archive.namelist())


def _current() -> Path:
    """Where a fuzzing process keeps the input that it reads, in case that ends the process itself."""
    return Path(tempfile.gettempdir()) / "current"


def fuzz(name: str, findings: Path, arguments: list[str]) -> None:
    """Fuzz one target in this process, which ends here.

    Args:
        name: The target.
        findings: A folder for its findings.
        arguments: Of libFuzzer.
    """
    import atheris

    corpus = findings / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    found: set[str] = set()
    current = os.open(_current(), os.O_RDWR | os.O_CREAT, 0o600)

    def one(data: bytes) -> None:
        os.pwrite(current, data, 0)
        os.ftruncate(current, len(data))
        what = read(target, data)
        if what and what not in found:
            found.add(what)
            (findings / f"{_PREFIX}-{what}").write_bytes(data)

    with atheris.instrument_imports(include=["edgekit", "jinja2"]):  # also what the first reading imports
        target = load(name)
        for number, data in enumerate(_inputs(name, target)):
            (corpus / f"seed-{number}").write_bytes(data)
            one(data)
    change = getattr(target, "change", None)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        choose = random.Random(seed)  # noqa: S311
        changed = change(choose, data) if change is not None and choose.random() < 0.8 else None
        return (atheris.Mutate(data, max_size) if changed is None else changed)[:max_size]

    most = getattr(target, "MEGABYTES", MEGABYTES)
    options = [f"-timeout={6 * SECONDS}", f"-rss_limit_mb={most}", f"-artifact_prefix={findings}/{_PREFIX}-"]
    fixed = ["-report_slow_units=86400", "-max_len=200000", "-verbosity=0", "-print_final_stats=1", "-len_control=0"]
    atheris.Setup([name, *options, *fixed, *arguments, str(corpus)], one, custom_mutator=mutate)
    atheris.Fuzz()


def run_as_libfuzzer(name: str, arguments: list[str]) -> None:
    """Run one target as a program of libFuzzer, which starts itself again to merge corpora, and end this process."""
    import atheris

    with atheris.instrument_imports(include=["edgekit", "jinja2"]):
        target = load(name)
        for data in target.seeds():
            read(target, data)
    program = shlex.join([sys.executable, __file__, name, "--as-libfuzzer"])
    atheris.Setup([program, *arguments], lambda data: (read(target, data), None)[1])
    atheris.Fuzz()


def _run(name: str, findings: Path, seconds: float, seed: int) -> tuple[str, bool]:
    """Fuzz a target in a process of its own; a line about it, and whether it passed."""
    here = [sys.executable, __file__, name, "--one", "--findings", str(findings), "--seconds", str(seconds)]
    here += ["--seed", str(seed)]
    memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None  # a disk would limit the number of executions
    with tempfile.TemporaryDirectory(
        prefix="edgekit-fuzz-", dir=memory
    ) as folder:  # libFuzzer ends without cleaning up
        given = {**os.environ, "TMPDIR": folder}
        ended = subprocess.run(here, capture_output=True, text=True, errors="replace", check=False, env=given)
        current = Path(folder) / "current"
        if ended.returncode < 0 and current.exists():
            ended_by = signal.Signals(-ended.returncode).name
            shutil.copy(current, findings / name / f"{_PREFIX}-{ended_by}")
    output = re.sub(r"INFO: Instrumenting .*\n", "", ended.stdout + ended.stderr)
    done = re.search(r"stat::number_of_executed_units:\s+(\d+)", output)
    peak = re.search(r"stat::peak_rss_mb:\s+(\d+)", output)
    found = sorted(path.name for path in (findings / name).glob(f"{_PREFIX}-*"))
    figures = f"{done[1] if done else '?'} executions, {peak[1] if peak else '?'} MB"
    line = f"{name}: {figures}{''.join(f', {each}' for each in found)}"
    passed = ended.returncode == 0 and done is not None and not found
    return line if passed or found else f"{line}, exit code {ended.returncode}\n{output[-4000:]}", passed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="targets; all if none is named")
    parser.add_argument("--seconds", type=float, default=3, help="time of each target")
    parser.add_argument("--turn", type=int, metavar="N", help="a number of any size that chooses targets for more time")
    parser.add_argument("--turn-seconds", type=float, default=60, help="time of the targets that --turn chooses")
    parser.add_argument("--seed", type=int, default=1, help="of the changes")
    parser.add_argument("--findings", type=Path, help="a folder for findings and corpora; a temporary one if left out")
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time")
    parser.add_argument("--one", action="store_true", help="fuzz a single target in this process")
    parser.add_argument("--as-libfuzzer", nargs=argparse.REMAINDER, help="run a single target with these options")
    arguments = parser.parse_args()
    wrong = set(arguments.names) - set(names())
    if wrong:
        parser.error(f"no target is named {', '.join(sorted(wrong))}; there are {', '.join(names())}")
    if arguments.one:
        given = [f"-max_total_time={round(arguments.seconds)}", f"-seed={arguments.seed}"]
        fuzz(arguments.names[0], arguments.findings / arguments.names[0], given)
    if arguments.as_libfuzzer is not None:
        run_as_libfuzzer(arguments.names[0], arguments.as_libfuzzer)
    findings = arguments.findings or Path(tempfile.mkdtemp(prefix="edgekit-findings-"))
    chosen = arguments.names or names()
    longer = set() if arguments.turn is None else in_turn(arguments.turn)
    times = {name: arguments.turn_seconds if name in longer else arguments.seconds for name in chosen}
    chosen = sorted(
        chosen, key=lambda name: -times[name]
    )  # the long ones first, so that no job waits for one at the end
    with ThreadPoolExecutor(arguments.jobs) as pool:
        ran = []
        for line, passed in pool.map(lambda name: _run(name, findings, times[name], arguments.seed), chosen):
            print(line, flush=True)
            ran.append(passed)
    if not all(ran):
        print(f"{ran.count(False)} of {len(ran)} targets failed; the inputs are in {findings}")
    return 0 if all(ran) else 1


if __name__ == "__main__":
    sys.exit(main())
