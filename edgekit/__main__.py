"""The ``edgekit`` command, also ``python -m edgekit``. A signal while it starts ends it without a traceback."""

from __future__ import annotations

import os
import signal
from types import FrameType


def main() -> None:
    """Run the command line; see :func:`edgekit.cli.main`."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, _end)
    from .cli import main as run

    run()


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)  # what shells report for a program that the signal ended


if __name__ == "__main__":
    main()
