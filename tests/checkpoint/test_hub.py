"""Fetching from the Hugging Face hub: a server on the loopback interface plays the hub and can break connections.

huggingface_hub reads its environment when it is imported, so each fetch runs in its own process.
"""

import errno
import json
import os
import random
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from local_hub import COMMIT, serving

from edgekit.checkpoint import hub as hub_module
from edgekit.errors import DiskFullError

pytestmark = pytest.mark.slow  # each test downloads with a process of its own

REPOSITORY = "someone/tiny"
# Before 1.0, huggingface_hub shows bars of its own, and reads fewer of its settings when it is imported.
RECENT = int(version("huggingface_hub").partition(".")[0]) >= 1
BIG = random.Random(0).randbytes(25_000_000)  # noqa: S311

FETCH = """
import json, sys
from edgekit.checkpoint.hub import fetch_hub
from edgekit.errors import EdgekitError
reports = []
try:
    folder = fetch_hub(sys.argv[1], sys.argv[2], lambda *report: reports.append(report))
    print(json.dumps({"folder": str(folder), "reports": reports[-1:]}))
except EdgekitError as error:
    print(json.dumps({"error": type(error).__name__, "message": error.message, "hint": error.hint}))
"""


@pytest.fixture
def hub():
    files = {
        "config.json": b'{"model_type": "llama"}',
        "model.safetensors": BIG,
        "tokenizer.json": b"{}",
        "chat_template.jinja": b"{{ x }}",
        "pytorch_model.bin": b"not wanted",
        "README.md": b"not wanted",
        "onnx/config.json": b"not wanted",
    }
    with serving(files) as server:
        yield server


@pytest.fixture
def fetch(tmp_path):
    """Fetch from the hub at ``url`` in a new process with an empty cache."""

    def run(url, repository=REPOSITORY, revision=COMMIT, **more):
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))},
            "HF_ENDPOINT": url,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
            **more,
        }
        done = subprocess.run(
            [sys.executable, "-c", FETCH, repository, revision],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize("revision", [COMMIT, "main"])
def test_fetch_downloads_the_files_of_a_checkpoint(hub, fetch, revision):
    result = fetch(hub.url, revision=revision)
    folder = Path(result["folder"])
    wanted = {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"}
    assert {p.name for p in folder.rglob("*")} == wanted
    assert folder.name == COMMIT
    assert (folder / "model.safetensors").read_bytes() == BIG
    total = sum(len(hub.files[name]) for name in wanted)
    if RECENT:
        assert result["reports"] == [["downloading someone/tiny", total, total]]


@pytest.mark.slow
def test_a_broken_download_is_resumed(hub, fetch):
    hub.break_at = 21_000_000  # huggingface_hub writes in pieces of 10 MiB, so it can resume after two of them
    folder = Path(fetch(hub.url)["folder"])
    assert (folder / "model.safetensors").read_bytes() == BIG
    asked = [range_ for method, path, range_ in hub.requests if method == "GET" and path.endswith("model.safetensors")]
    assert len(asked) == 2
    assert asked[0] is None
    start = int(asked[1].removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= 21_000_000


@pytest.mark.slow
def test_a_second_fetch_downloads_nothing(hub, fetch):
    first = fetch(hub.url)["folder"]
    hub.requests.clear()
    assert fetch(hub.url)["folder"] == first
    assert [path for method, path, _ in hub.requests if method == "GET" and "/resolve/" in path] == []
    assert fetch("http://127.0.0.1:9", HF_HUB_OFFLINE="1")["folder"] == first


def test_no_server(fetch):
    result = fetch("http://127.0.0.1:9", revision="main")  # with a commit, huggingface_hub retries for half a minute
    assert result["error"] == "NetworkError"
    assert f"fetching {REPOSITORY} at main" in result["message"]
    assert "Connect" in result["message"]
    assert "HF_ENDPOINT" in result["hint"]


def test_offline_and_not_in_the_cache(hub, fetch):
    result = fetch(hub.url, HF_HUB_OFFLINE="1")
    assert result["error"] == "NetworkError"
    assert "HF_HUB_OFFLINE is set" in result["hint"]
    assert hub.requests == []


@pytest.mark.parametrize("revision", ["no-such-branch", "f" * 40])
def test_unknown_revision(hub, fetch, revision):
    result = fetch(hub.url, revision=revision)
    assert result["error"] == "SourceError"
    assert "does not have this revision" in result["message"]


def test_unknown_repository(hub, fetch):
    result = fetch(hub.url, repository="someone/else")
    assert result["error"] == "SourceError"
    assert "does not exist or is private" in result["message"]


def test_an_invalid_repository_name(hub, fetch):
    result = fetch(hub.url, repository="not a/repository/name")
    assert result["error"] == "SourceError"


@pytest.mark.parametrize(
    ("status", "code", "kind", "message"),
    [
        (403, "GatedRepo", "SourceError", "requires permission"),
        (403, "", "SourceError", "access denied"),
        (500, "", "NetworkError", "500"),
    ],
)
def test_a_hub_that_refuses(hub, fetch, status, code, kind, message):
    hub.status = (status, code)
    result = fetch(hub.url, revision="main")
    assert result["error"] == kind
    assert message in result["message"]


LIST = """
import json, sys
from edgekit.checkpoint.hub import fetch_hub_bytes, fetch_hub_description, list_hub
from edgekit.errors import EdgekitError
try:
    found = list_hub("someone/tiny")
    if sys.argv[1:]:
        fetch_hub_description("someone/tiny", found.commit)
        piece = fetch_hub_bytes("someone/tiny", found.commit, "model.safetensors", 5, 25)
        end = fetch_hub_bytes("someone/tiny", found.commit, "model.safetensors", 25_000_000, 25_000_010)
        print(json.dumps([found.commit, found.names, piece.hex(), end.hex()]))
    else:
        print(json.dumps([found.commit, found.names]))
except EdgekitError as error:
    print(json.dumps([type(error).__name__, error.hint]))
"""


def listed(hub, cache, *arguments, **more):
    command = [sys.executable, "-c", LIST, *arguments]
    environment = {**hub.environment(cache), **more}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_repository_is_described_without_its_weights(hub, tmp_path):
    commit, names, piece, end = listed(hub, tmp_path, "describe")
    assert commit == COMMIT
    assert names == sorted(hub.files)
    assert (piece, end) == (BIG[5:25].hex(), "")
    assert hub.fetched("model.safetensors") == ["bytes=5-24", "bytes=25000000-25000009"]
    assert not list(tmp_path.rglob("*.safetensors"))
    kind, hint = listed(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert kind == "NetworkError"
    assert "HF_HUB_OFFLINE is set" in hint


def test_a_server_without_ranges_is_read_up_to_the_end_of_the_range(hub, tmp_path):
    hub.ranges = False
    _, _, piece, end = listed(hub, tmp_path, "describe")
    assert (piece, end) == (BIG[5:25].hex(), "")
    assert hub.cut == 1  # of two answers, one is read to its end


@pytest.mark.parametrize(
    "about",
    [
        {"sha": None},
        {"sha": "main"},
        {"siblings": [{"rfilename": "a.safetensors"}, {"rfilename": 3}]},
        {"siblings": [{}]},
        {"siblings": 3},
    ],
)
def test_a_hub_that_does_not_answer_as_one(hub, tmp_path, about):
    hub.about = about
    kind, hint = listed(hub, tmp_path)
    assert kind in ("SourceError", "NetworkError")
    assert "check" in hint


def test_names_that_lead_out_or_cannot_be_shown_are_not_listed(hub, tmp_path):
    names = ["../a.gguf", "/a.gguf", "a/../../b.gguf", "a\0.gguf", "read\u3000me.md", "模型.gguf", "a/b.gguf"]
    hub.about = {"siblings": [{"rfilename": name} for name in names]}
    assert listed(hub, tmp_path) == [COMMIT, ["a/b.gguf", "模型.gguf"]]


@pytest.mark.parametrize(
    "variable",
    [
        {"HF_ENDPOINT": "http://["},
        {"HF_ENDPOINT": "http://127.0.0.1:99999"},
        {"HF_HUB_DOWNLOAD_TIMEOUT": "soon"},
        {"HF_TOKEN": "é"},
    ],
)
def test_a_setting_that_is_not_valid(hub, tmp_path, variable):
    kind, hint = listed(hub, tmp_path, **variable)
    if RECENT:
        assert kind == "SourceError"
        assert "HF_" in hint
    else:
        assert kind in ("SourceError", "NetworkError", COMMIT)


def test_a_cache_that_is_no_folder_is_not_the_networks_fault(hub, fetch):
    result = fetch(hub.url, HF_HOME="/dev/null")
    assert result["error"] == "SourceError"
    assert "HF_HOME" in result["hint"]


def test_without_a_connection_the_cache_is_listed(hub, fetch, tmp_path):
    fetch(hub.url)
    fetch(hub.url, revision="main")
    commit, names = listed(hub, tmp_path / "hf", HF_HUB_OFFLINE="1")
    assert commit == COMMIT
    assert "model.safetensors" in names
    (reference,) = (tmp_path / "hf").rglob("refs/main")
    for content in (b"\xff", b"elsewhere", b"x" * 2000):
        reference.write_bytes(content)
        assert listed(hub, tmp_path / "hf", HF_HUB_OFFLINE="1")[0] == "NetworkError"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("Data processing error: File I/O error: No space left on device (os error 28)"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_full_disk_is_not_the_networks_fault(error, wrapped):
    failure = error
    if wrapped:
        failure = ConnectionError("download failed")
        failure.__cause__ = error
    found = hub_module._hub_error("someone/tiny", "main", failure)
    assert type(found) is DiskFullError
    assert "HF_HOME" in found.hint
