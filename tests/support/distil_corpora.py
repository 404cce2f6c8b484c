"""Keeps of long fuzzing what is worth repeating: the fewest small inputs that reach all the code that was reached.

    python tests/support/distil_corpora.py FINDINGS [NAME ...]                       targets of tests/fuzz
    python tests/support/distil_corpora.py FINDINGS [NAME ...] --binaries FOLDER     those of tests/native

FINDINGS/NAME/corpus is the corpus that ``fuzz_readers.py --findings FINDINGS`` left, FINDINGS/NAME that of a binary.
What is kept goes to tests/fuzz/corpora/NAME.zip or tests/native/corpora/NAME.zip, and with it those inputs of the
archive that are still needed. ``fuzz_readers.py``, pytest and the gate begin with them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import fuzz_readers

NATIVE = Path(__file__).parents[1] / "native" / "corpora"
MOST_BYTES = 8192  # of an input
_OPTIONS = ("-set_cover_merge=1", "-use_counters=0", "-rss_limit_mb=4000", "-timeout=60")
_TIME = (1980, 1, 1, 0, 0, 0)  # in the archive, so that equal inputs make equal files


def read_archive(path: Path) -> list[bytes]:
    """The inputs in an archive, the smallest first; none if there is no archive."""
    if not path.exists():
        return []
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in archive.namelist()]


def write_archive(path: Path, inputs: set[bytes]) -> None:
    """Write inputs to an archive, the smallest first."""
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for number, data in enumerate(sorted(inputs, key=lambda each: (len(each), each))):
            archive.writestr(zipfile.ZipInfo(f"{number:04}", _TIME), data, zipfile.ZIP_DEFLATED)


def distil(command: list[str], corpus: Path, archive: Path, environment: dict[str, str]) -> tuple[int, int]:
    """Write the archive of one target.

    Args:
        command: Runs the target as a program of libFuzzer.
        corpus: What fuzzing has found.
        archive: Its inputs are considered too.
        environment: Of the command, in addition to this process's.

    Returns:
        The numbers of inputs before and after.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-distil-") as work:
        given, kept = Path(work, "given"), Path(work, "kept")
        given.mkdir()
        kept.mkdir()
        found = [path for path in corpus.iterdir() if path.is_file() and path.stat().st_size <= MOST_BYTES]
        for number, data in enumerate([*read_archive(archive), *(path.read_bytes() for path in found)]):
            (given / str(number)).write_bytes(data)
        arguments = [*command, *_OPTIONS, str(kept), str(given)]
        ended = subprocess.run(arguments, env={**os.environ, **environment}, capture_output=True, check=False)
        inputs = {path.read_bytes() for path in kept.iterdir()}
        if ended.returncode or not inputs:
            raise RuntimeError(f"{' '.join(arguments)} has failed:\n{ended.stderr[-4000:].decode(errors='replace')}")
        write_archive(archive, inputs)
        return len(list(given.iterdir())), len(inputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("findings", type=Path, help="the folder with the corpora")
    parser.add_argument("names", nargs="*", metavar="NAME", help="targets; all that have a corpus if none is named")
    parser.add_argument("--binaries", type=Path, help="the folder with NAME_fuzz of each native target")
    arguments = parser.parse_args()
    folder = arguments.findings.resolve()
    for name in arguments.names or sorted(path.name for path in folder.iterdir() if path.is_dir()):
        if arguments.binaries:
            command = [str(arguments.binaries.resolve() / f"{name}_fuzz")]
            corpus, archive = folder / name, NATIVE / f"{name}.zip"
        else:
            command = [sys.executable, fuzz_readers.__file__, name, "--as-libfuzzer"]
            corpus, archive = folder / name / "corpus", fuzz_readers.corpus(name)
        with tempfile.TemporaryDirectory(prefix="edgekit-fuzz-") as scratch:
            before, after = distil(command, corpus, archive, {"TMPDIR": scratch})
        print(f"{name}: {before} inputs, {after} kept, {archive.stat().st_size} bytes", flush=True)


if __name__ == "__main__":
    main()
