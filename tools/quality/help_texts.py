"""English technical prose that every Python brings along, to calibrate on and to measure on: its own help topics.

python tools/quality/help_texts.py FOLDER        writes calibrate.txt (the first two thirds) and measure.txt (the rest)
"""

from __future__ import annotations

import sys
from pathlib import Path
from pydoc_data.topics import topics

MEASURED = 60_000  # characters: enough for eight chunks of 512 tokens


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    names = sorted(topics)
    cut = len(names) * 2 // 3
    (folder / "calibrate.txt").write_text("\n\n".join(topics[name] for name in names[:cut]))
    (folder / "measure.txt").write_text("\n\n".join(topics[name] for name in names[cut:])[:MEASURED])


if __name__ == "__main__":
    main()
