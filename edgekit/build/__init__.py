"""From a request to a checked artifact folder."""
