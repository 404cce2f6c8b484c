"""``python -m edgekit.cli`` is the ``edgekit`` command."""

from . import main

main()
