"""Nothing is sent: every process of edgekit turns onnxruntime's telemetry off before the library is loaded."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_checkpoint import write_checkpoint

SOURCE = Path(__file__).parents[1] / "edgekit"
MODEL = """
import numpy, onnx
from onnx import helper
graph = helper.make_graph(
    [helper.make_node("Identity", ["a"], ["b"])], "g", [helper.make_tensor_value_info("a", 1, [1])],
    [helper.make_tensor_value_info("b", 1, [1])])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
ort.InferenceSession(model).run(None, {"a": numpy.ones(1, numpy.float32)})
"""
EDGEKIT = "from edgekit.ort import import_onnxruntime; ort = import_onnxruntime()"
PLAIN = "import onnxruntime as ort"


def stored(home: Path, statement: str) -> list[str]:
    """The files that a process leaves in an empty home folder after it ran a model."""
    # A nearly empty environment: continuous integration, which CI and others announce, sends no events.
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE.parent)}
    subprocess.run([sys.executable, "-c", statement + MODEL], env=environment, check=True)
    return sorted(path.name for path in home.rglob("*") if path.is_file())


def test_no_process_of_edgekit_stores_events(tmp_path: Path) -> None:
    assert stored(tmp_path, EDGEKIT) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the events are stored in other folders")
def test_the_check_above_would_see_them(tmp_path: Path) -> None:
    """As long as onnxruntime has telemetry at all, which it has from 1.32 on."""
    import onnxruntime

    if tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 32):
        pytest.skip("this onnxruntime has no telemetry")
    assert "deviceid" in stored(tmp_path, PLAIN)


COMMANDS = """
set -e
edgekit() { "$PYTHON" -c "from edgekit.cli import main; main()" "$@" > out.txt || { cat out.txt; exit 1; }; }
edgekit recipes
edgekit devices
edgekit plan --device cpu "$CHECKPOINT"
edgekit build --device cpu --checkpoint "$CHECKPOINT" --out artifact \\
  --method gptq --calibration-tokens 64 --emit gptq_v2
edgekit verify artifact
edgekit inspect artifact
edgekit probe --limits-only --out machine.toml
for engine in native ort; do
  edgekit smoke artifact --engine $engine
  edgekit run artifact --engine $engine --prompt hello --max-tokens 2
  edgekit bench artifact --engine $engine --prompt-tokens 8 --gen-tokens 8 --repeat 1
done
"""


def recorded(folder: Path, *command: str) -> list[str]:
    """What a command tries to send from a new network namespace, which needs the permission to create one."""
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine lets us make no network namespace")
    recorder = [*unshare, sys.executable, str(Path(__file__).parent / "support" / "network_recorder.py")]
    environment = {
        "HOME": str(folder),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(SOURCE.parent),
        "PYTHON": sys.executable,
        "CHECKPOINT": str(folder / "checkpoint"),
        "COLUMNS": "80",
    }  # without CI, see above
    done = subprocess.run(
        [*recorder, str(folder / "report.txt"), *command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / "report.txt").read_text().splitlines()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
def test_no_command_sends_anything(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint")
    assert recorded(tmp_path, "bash", "-c", COMMANDS) == []


@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_the_check_above_would_see_it(tmp_path: Path, address: str) -> None:
    family = "AF_INET6" if ":" in address else "AF_INET"
    attempt = f"import socket; s = socket.socket(socket.{family}); s.settimeout(0.1); s.connect_ex(({address!r}, 443))"
    assert recorded(tmp_path, sys.executable, "-c", attempt) == [f"tcp {address}:443"]


def test_an_application_that_loaded_onnxruntime_first_sends_no_more_events() -> None:
    check = f"import onnxruntime; calls = []; onnxruntime.disable_telemetry_events = lambda: calls.append(1)\n{EDGEKIT}"
    done = subprocess.run([sys.executable, "-c", check + "\nprint(calls)"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[1]"


def test_the_environment_of_child_processes_turns_it_off() -> None:
    check = f"{EDGEKIT}; import os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_the_hub_is_not_told_what_else_is_installed() -> None:
    check = (
        "import edgekit.checkpoint.hub\n"
        "from huggingface_hub import constants; print(constants.HF_HUB_DISABLE_TELEMETRY)"
    )
    environment = {
        name: value for name, value in os.environ.items() if name not in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    }
    done = subprocess.run([sys.executable, "-c", check], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_nothing_else_imports_onnxruntime() -> None:
    """Type checkers may, and what runs after the import (submodules, whose parent is loaded)."""
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        checking = {
            inner
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        found = [
            node.lineno
            for node in ast.walk(tree)
            if isinstance(node, ast.Import) and node not in checking
            if any(alias.name.split(".")[0] == "onnxruntime" for alias in node.names)
        ]
        assert not found or path.name == "ort.py", f"{path}:{found}"
