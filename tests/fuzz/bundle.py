"""bundle.json of a bundle that is to be replaced."""

from fuzz_changes import json_change as change
from fuzz_files import as_json, written

from edgekit.deploy.bundle import ABOUT, FORMAT, _check_free

__all__ = ["change", "read", "seeds"]


def seeds() -> list[bytes]:
    return as_json({"format": FORMAT, "format_version": 1, "name": "m", "library": None, "notes": []}, {"format": "x"})


def read(data: bytes) -> None:
    _check_free(written(f"bundle/{ABOUT}", data).parent, packed=False)
