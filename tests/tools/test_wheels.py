"""The wheels: what is in them, and that they install and run where there is nothing else.

An aarch64 wheel runs under qemu in a Debian root, which EDGEKIT_ARM_ROOT names (mmdebstrap makes one in seconds).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import wheels
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from shared_models import SharedModels

import edgekit
from edgekit.deploy.compile import Compiled, compile_native
from edgekit.deploy.targets import target_named
from edgekit.errors import MissingPackageError

ROOT = Path(__file__).parents[2]
MOST_DOWNLOADED = 60_000_000  # bytes of wheels, to run a model
NOT_NEEDED = ("onnx", "onnxruntime", "gguf", "huggingface_hub", "tokenizers", "ml_dtypes", "tqdm")


def test_a_target_without_a_wheel_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        wheels.main(["macos-arm64"])
    assert ended.value.code == 2
    assert "no wheel for macos-arm64" in capsys.readouterr().err


def test_an_unknown_target_names_the_known_ones() -> None:
    with pytest.raises(SystemExit, match="linux-aarch64"):
        wheels.main(["linux-aarch46"])


@pytest.mark.parametrize(
    ("found", "accepted"),
    [
        ("manylinux_2_28_x86_64", True),
        ("manylinux_2_5_x86_64", True),
        ("manylinux_2_31_x86_64", False),
        ("manylinux_2_28_aarch64", False),
        ("musllinux_1_2_x86_64", False),
        ("linux_x86_64", False),
    ],
)
def test_auditwheel_must_name_the_platform_or_an_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str, accepted: bool
) -> None:
    said = f'a.whl is consistent with the following\nplatform tag: "{found}".'
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: subprocess.CompletedProcess([], 0, said, ""))
    if accepted:
        wheels.audit(tmp_path / "a.whl", "manylinux_2_28_x86_64")
        return
    with pytest.raises(SystemExit, match="not consistent with manylinux_2_28_x86_64"):
        wheels.audit(tmp_path / "a.whl", "manylinux_2_28_x86_64")


def compiled(name: str, folder: Path) -> Compiled:
    try:
        return compile_native(target_named(name), Path(os.environ.get("EDGEKIT_TEST_NATIVE", folder)))
    except MissingPackageError as error:
        pytest.skip(error.message)


@pytest.fixture(scope="module", params=["linux-x86_64", "linux-aarch64"])
def wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    return wheels.build_wheel(target_named(request.param), compiled(request.param, folder / "native"), folder / "dist")


@pytest.mark.slow
def test_the_contents(wheel: Path) -> None:
    assert wheel.name.endswith(f"-py3-none-manylinux_2_28_{'aarch64' if 'aarch64' in wheel.name else 'x86_64'}.whl")
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
    assert sum(name.endswith(".data/scripts/edgekit-run") for name in names) == 1
    for needed in (
        "libedgekit_native.so", "include/edgekit.h", "include/edgekit_text.h", "CMakeLists.txt", "cmake/zig.cmake",
        "kernels/neon.inl", "src/session.cpp", "run/main.cpp", "text/tokenizer.cpp",
    ):  # fmt: skip
        assert f"edgekit/native/{needed}" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert any(name.endswith(".dist-info/licenses/libc++.txt") for name in names)
    page = ROOT / "edgekit" / "serve" / "page"
    assert {path.relative_to(ROOT).as_posix() for path in page.rglob("*") if path.is_file()} <= set(names)
    assert any(name.startswith("edgekit/recipes/library/") for name in names)
    assert any(name.startswith("edgekit/devices/library/") for name in names)
    assert wheel.stat().st_size < 5_000_000
    if importlib.util.find_spec("auditwheel"):
        wheels.audit(wheel, wheel.name.split("-")[-1].removesuffix(".whl"))


@pytest.mark.slow
def test_the_list_of_parts_names_every_file_with_its_hash_and_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        (listed,) = (name for name in content.namelist() if ".dist-info/sboms/" in name)
        document = json.loads(content.read(listed))
        files = {name: content.read(name) for name in content.namelist() if ".dist-info/" not in name}
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(json.dumps(document)) is None
    parts = {part["name"]: part for part in document["components"]}
    assert parts.keys() == {"edgekit", "temml", "libc++", "libunwind"}
    licences = {name: part["licenses"][0]["expression"] for name, part in parts.items()}
    assert licences["temml"] == "MIT"
    assert licences["libc++"] == licences["libunwind"] == "Apache-2.0 WITH LLVM-exception"
    hashes = {
        file["name"]: file["hashes"][0]["content"] for part in parts.values() for file in part.get("components", ())
    }
    assert hashes == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


@pytest.mark.slow
def test_a_wheel_has_the_same_bytes_every_time(wheel: Path, tmp_path: Path) -> None:
    target = target_named("linux-aarch64" if "aarch64" in wheel.name else "linux-x86_64")
    again = wheels.build_wheel(target, compiled(target.name, tmp_path / "native"), tmp_path / "dist")
    assert again.read_bytes() == wheel.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("wheel", [f"linux-{os.uname().machine}"], indirect=True)
def test_what_only_runs_a_model_is_small_and_runs(wheel: Path, models: SharedModels, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "download", "--dest", tmp_path / "wheels", wheel], check=True)
    downloaded = list((tmp_path / "wheels").iterdir())
    assert sum(file.stat().st_size for file in downloaded) <= MOST_DOWNLOADED
    names = {file.name.split("-")[0] for file in downloaded}
    assert names.isdisjoint(NOT_NEEDED), names
    venv.create(tmp_path / "clean", with_pip=False)
    python, bin_ = tmp_path / "clean" / "bin" / "python", tmp_path / "clean" / "bin"
    subprocess.run(
        [*pip, "--python", python, "install", "--no-index", "--find-links", tmp_path / "wheels", wheel], check=True
    )
    artifact = models.artifact("llama", "int4 block 32")
    for command in (
        [bin_ / "edgekit-run", artifact, "--smoke"],
        [bin_ / "edgekit", "smoke", artifact],
        [bin_ / "edgekit", "run", artifact, "--prompt", "hello", "--max-tokens", "2"],
        [bin_ / "edgekit", "plan", "--device", "jetson"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(
        [bin_ / "edgekit", "build", "smollm2-135m", "--device", "cpu"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == MissingPackageError.exit_code
    assert 'pip install "edgekit-llm[build]"' in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("wheel", ["linux-aarch64"], indirect=True)
def test_an_arm_wheel_runs_on_debian(wheel: Path, models: SharedModels, tmp_path: Path) -> None:
    root, emulator = os.environ.get("EDGEKIT_ARM_ROOT"), shutil.which("qemu-aarch64-static")
    if not root or not emulator:
        pytest.skip("needs EDGEKIT_ARM_ROOT and qemu-aarch64-static")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in (28, 27, 17)] + [
        "--platform=manylinux2014_aarch64"
    ]
    site = tmp_path / "site"
    subprocess.run(
        [
            *pip,
            "install",
            "--target",
            site,
            "--only-binary=:all:",
            "--python-version=3.11",
            "--implementation=cp",
            *platforms,
            wheel,
        ],
        check=True,
    )
    artifact = models.artifact("llama", "int4 block 32")
    run = [emulator, "-cpu", "cortex-a76", "-L", root]
    done = subprocess.run([*run, site / "bin" / "edgekit-run", artifact, "--smoke"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "neon_dotprod" in done.stdout
    question = [
        "run",
        artifact,
        "--prompt",
        "hello",
        "--max-tokens",
        "4",
        "--temperature",
        "0",
        "--engine",
        "native",
        "--json",
    ]
    python = [*run, "-E", f"PYTHONPATH={site}", f"{root}/usr/bin/python3.11", "-m", "edgekit.cli"]
    done = subprocess.run([*python, *question], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["kernel"] == "neon_dotprod"
    with edgekit.load(artifact, engine="native") as session:
        assert found["prompt_tokens"] == session.tokenizer.encode(
            session.render([{"role": "user", "content": "hello"}])
        )
