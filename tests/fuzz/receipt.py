"""A receipt, and how it contradicts a profile."""

import json

from fuzz_changes import json_change as change
from fuzz_files import as_json, written
from receipts import receipt

from edgekit.deploy.contradictions import corrected_profile, find_contradictions
from edgekit.deploy.receipt import read_receipt
from edgekit.devices import load_device

__all__ = ["change", "read", "seeds"]


def seeds() -> list[bytes]:
    return as_json(receipt().to_json(), json.loads(json.dumps(receipt(contradictions=()).to_json())))


def read(data: bytes) -> None:
    found = read_receipt(written("receipt.json", data))
    _ = found.verdict, found.as_predicted, found.to_json()
    for name in ("jetson-orin-nano", "pi"):
        profile = load_device(name)
        find_contradictions(found, profile)
        corrected_profile(found, profile)
