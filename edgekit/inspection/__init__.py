"""Describes a finished artifact: what is in it (``contents.py``), and where an engine runs it (``placement.py``)."""
