"""Writes the sample output in README.md and docs/: each console block gets what its command prints now.

python tools/sample_output.py      rewrites the blocks that start with "$ edgekit"
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
WIDTH = 100  # columns, so that GitHub shows a block without a scroll bar
_BLOCK = re.compile(r"^```console\n\$ edgekit (.*)\n(?:.*\n)*?```\n", re.MULTILINE)


def refreshed(text: str) -> str:
    """A page's text with the current output in its console blocks.

    Raises:
        subprocess.CalledProcessError: A command fails.
    """
    return _BLOCK.sub(lambda block: f"```console\n$ edgekit {block[1]}\n{_output(block[1])}```\n", text)


def _output(arguments: str) -> str:
    """What ``edgekit ARGUMENTS`` prints into a pipe, without the user's own devices; spaces at line ends removed."""
    with tempfile.TemporaryDirectory() as empty:
        own = {"COLUMNS": f"{WIDTH}", "PYTHONIOENCODING": "utf-8", "PYTHONPATH": f"{ROOT}", "XDG_CONFIG_HOME": empty}
        done = subprocess.run(
            [sys.executable, "-m", "edgekit.cli", *shlex.split(arguments)],
            capture_output=True,
            encoding="utf-8",
            env={**os.environ, **own},
            check=True,
        )
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


if __name__ == "__main__":
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    for page in PAGES:
        page.write_text(refreshed(page.read_text(encoding="utf-8")), encoding="utf-8")
