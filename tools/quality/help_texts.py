"""Writes English technical prose to calibrate and to evaluate on: the help topics that come with every Python.

python tools/quality/help_texts.py FOLDER        writes calibrate.txt (the first two thirds) and measure.txt (the rest)
"""

from __future__ import annotations

import argparse
from pathlib import Path
from pydoc_data.topics import topics

MEASURED = 60_000  # characters: enough for eight chunks of 512 tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(exist_ok=True)
    names = sorted(topics)
    cut = len(names) * 2 // 3
    (folder / "calibrate.txt").write_text("\n\n".join(topics[name] for name in names[:cut]))
    (folder / "measure.txt").write_text("\n\n".join(topics[name] for name in names[cut:])[:MEASURED])


if __name__ == "__main__":
    main()
