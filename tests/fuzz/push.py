"""The address of a device, and what it prints while a bundle is copied to it."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

import fuzz_changes
from fuzz_files import as_json, written
from receipts import receipt

from edgekit.deploy.bundle import SMOKE, SUMS, Bundle
from edgekit.deploy.push import _MARK, push
from edgekit.deploy.remote import Output, connect
from edgekit.errors import EdgekitError
from edgekit.json_file import parse_json_object

__all__ = ["change", "read", "seeds"]
_LOOK = "\n".join(
    (
        "machine aarch64",
        "Features\t: fp asimd asimddp",
        "free /dev/root 100 50 5000000 50% /",
        "has sha256sum",
        f"{'0' * 64}  ./bin/old",
        "",
    )
)


def seeds() -> list[bytes]:
    whole = {"look": [0, _LOOK, ""], "sum": "same", "finish": [0, "", ""], "smoke": [0, "", ""]}
    whole["receipt"] = receipt().to_json()
    return as_json(
        {"address": "ssh://me@host:22/~/edgekit", **whole},
        {"address": "adb:serial", **whole, "smoke": [62, "x", "y"]},
        {"address": "ssh://[::1]/a%20b", **whole, "receipt": "{}"},
        {"address": "adb", "look": [1, "", "mkdir: Permission denied"]},
        {"address": "adb", **whole, "sum": f"{'0' * 64}  x"},
    )


change = partial(fuzz_changes.json_change, others=seeds())


@cache
def _bundle() -> Bundle:
    files = {name: b"the text of " + name.encode() for name in (f"bin/{SMOKE}", "artifact-model", SUMS)}
    paths = [written(f"push/{name.replace('/', '-')}", content) for name, content in files.items()]
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.name != SUMS}
    return Bundle(paths[0].parent, "tiny-jetson", "aarch64", digests)


@dataclass
class _Device:
    """A device whose answers are those of the input."""

    answers: dict[str, Any]
    name: str
    folder: str
    sent: str = ""

    def run(self, command: str) -> Output:
        command = command.removeprefix(f"echo; echo {_MARK}; ")
        if command.startswith("sha256sum"):
            wanted = self.answers.get("sum")
            return Output(0, f"{self.sent}  x\n" if wanted == "same" else str(wanted), "")
        if command.startswith("cat "):
            found = self.answers.get("receipt")
            return Output(0, found if isinstance(found, str) else json.dumps(found), "")
        kind = "look" if "uname" in command else "smoke" if SMOKE in command and "chmod" not in command else "finish"
        return self._output(kind)

    def _output(self, kind: str) -> Output:
        given = self.answers.get(kind)
        code, out, err = given if isinstance(given, list) and len(given) == 3 else (0, "", "")
        return Output(code if isinstance(code, int) else 1, str(out), str(err))

    def send(self, file: Path, target: str) -> None:
        self.sent = hashlib.sha256(file.read_bytes()).hexdigest()


def read(data: bytes) -> None:
    content = parse_json_object(data, "input")
    name, folder = "device", "~/edgekit"
    address = content.get("address")
    with mock.patch("shutil.which", return_value="/bin/true"), mock.patch("edgekit.deploy.remote.subprocess.run"):
        try:
            with connect(address if isinstance(address, str) else "adb") as remote:
                name, folder = remote.name, remote.folder
        except EdgekitError as error:
            _ = error.message, error.hint
    push(_bundle(), _Device(content, name, folder), sustain_s=1)
