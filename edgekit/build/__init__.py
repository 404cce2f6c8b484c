"""From a request to a checked artifact folder. ``pipeline.py`` shows the steps in order."""
