"""A bundle: its files, the same bytes every time, what it refuses, and an earlier bundle that it replaces."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from bundles import PLAN, quantized_artifact, stand_in
from tiny_artifact import rewrite_manifest

from edgekit.artifact.manifest import read_manifest
from edgekit.artifact.signature import make_keys
from edgekit.artifact.verify import verified
from edgekit.deploy.archive import write_archive
from edgekit.deploy.bundle import Bundle, check_plan, make_bundle
from edgekit.deploy.device_files import DeviceFiles
from edgekit.devices import load_device
from edgekit.errors import ArtifactError, BudgetError, BundleError, OutputExistsError, UsageError, VerificationError

JETSON = load_device("jetson")


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return quantized_artifact(tmp_path / "tiny")


@pytest.fixture
def native(tmp_path: Path) -> DeviceFiles:
    return stand_in(tmp_path / "native")


def made(artifact: Path, out: Path, native: DeviceFiles) -> Bundle:
    with make_bundle(artifact, JETSON, out, native=native) as bundle:
        return bundle


def test_a_bundle_has_all_parts(artifact: Path, native: DeviceFiles, tmp_path: Path) -> None:
    bundle = made(artifact, tmp_path / "out", native)
    assert (bundle.folder, bundle.name, bundle.machine) == (tmp_path / "out", "tiny-jetson-orin-nano", "aarch64")
    own = {name for name in bundle.files if not name.startswith("artifact/")}
    assert own == {
        "bin/edgekit-run", "lib/libedgekit_native.so", "include/edgekit.h", "include/edgekit_text.h", "bundle.json",
        "licences/edgekit.txt", "licences/model.txt", "licences/musl.txt", "sbom.cdx.json", "smoke.sh",
    }  # fmt: skip
    for file in artifact.iterdir():
        assert os.path.samefile(file, bundle.folder / "artifact" / file.name)  # a hard link
    checked = subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=bundle.folder, capture_output=True)
    assert checked.returncode == 0
    listed = {line.split("  ")[1] for line in (bundle.folder / "SHA256SUMS").read_text().splitlines()}
    assert listed == set(bundle.files)
    assert listed == {p.relative_to(bundle.folder).as_posix() for p in bundle.folder.rglob("*") if p.is_file()} - {
        "SHA256SUMS"
    }
    about = json.loads((bundle.folder / "bundle.json").read_text())
    assert (about["format"], about["device"], about["machine"]) == ("edgekit-bundle", "jetson-orin-nano", "aarch64")
    assert "Licence: MIT" in (bundle.folder / "licences" / "model.txt").read_text()
    assert "Apache License" in (bundle.folder / "licences" / "edgekit.txt").read_text()


def test_its_smoke_test_writes_the_receipt(artifact: Path, native: DeviceFiles, tmp_path: Path) -> None:
    bundle = made(artifact, tmp_path / "out", native)
    environment = {"PATH": os.environ["PATH"], "EDGEKIT_RUNNER": "env MARK=1 sh"}
    subprocess.run([bundle.folder / "smoke.sh", "--sustain", "1"], cwd="/", env=environment, check=True)
    assert json.loads((bundle.folder / "receipt.json").read_text())["artifact"] == "tiny"


def test_two_bundles_have_the_same_bytes(artifact: Path, native: DeviceFiles, tmp_path: Path) -> None:
    first, second = made(artifact, tmp_path / "one", native), made(artifact, tmp_path / "two", native)
    assert first.files == second.files
    assert first.size_bytes == second.size_bytes


def test_an_earlier_bundle_is_replaced_and_anything_else_is_not(
    artifact: Path, native: DeviceFiles, tmp_path: Path
) -> None:
    out = made(artifact, tmp_path / "out", native).folder
    (out / "receipt.json").write_text("{}")
    made(artifact, out, native)
    assert not (out / "receipt.json").exists()
    (out / "bundle.json").unlink()
    with pytest.raises(OutputExistsError, match="is not a bundle"):
        made(artifact, out, native)
    assert [p.name for p in tmp_path.iterdir() if ".partial" in p.name] == []


def test_a_bundle_inside_the_artifact_is_refused(
    artifact: Path, native: DeviceFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(artifact)
    with pytest.raises(OutputExistsError, match="is inside the artifact"):
        made(Path(), Path("tiny-bundle"), native)
    verified(artifact)


@pytest.mark.parametrize("name", ["../mine", "../../../elsewhere/x", "/elsewhere"])
def test_a_name_that_leads_out_of_the_folder_is_refused(
    artifact: Path, native: DeviceFiles, tmp_path: Path, name: str
) -> None:
    (tmp_path / "mine-jetson-orin-nano").mkdir()
    manifest = artifact / "edgekit.json"
    manifest.write_text(manifest.read_text().replace('"name": "tiny"', f'"name": "{name}"', 1))
    with pytest.raises(ArtifactError, match=r"name is .* it must be a file name"):
        made(artifact, tmp_path / "out", native)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine-jetson-orin-nano", "native", "tiny"]


def test_where_the_weights_are_from_is_told(artifact: Path, native: DeviceFiles, tmp_path: Path) -> None:
    source = {"kind": "hub", "repository": "owner/model", "revision": "ab" * 20}
    rewrite_manifest(artifact, source=source)
    folder = made(artifact, tmp_path / "out", native).folder
    assert f"Source: owner/model {'ab' * 20}" in (folder / "licences" / "model.txt").read_text()
    assert "owner/model" in (folder / "sbom.cdx.json").read_text()


def test_a_bundle_may_be_one_file(artifact: Path, native: DeviceFiles, tmp_path: Path) -> None:
    pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    with make_bundle(artifact, JETSON, tmp_path / "one.tar.zst", native=native) as bundle:
        assert (bundle.folder / "smoke.sh").is_file()
    assert not bundle.folder.exists()
    made(artifact, tmp_path / "two.tar.zst", native)
    assert (tmp_path / "one.tar.zst").read_bytes() == (tmp_path / "two.tar.zst").read_bytes()
    (tmp_path / "x.tar.zst").mkdir()
    made(artifact, tmp_path / "two.tar.zst", native)  # an earlier bundle is replaced
    (tmp_path / "text.tar.zst").write_text("my backup")
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "a").write_text("my backup")
    write_archive(tmp_path / "backup", tmp_path / "backup.tar.zst", "backup")
    for name in ("x", "text", "backup"):
        with pytest.raises(OutputExistsError, match="exists and is not a bundle"):
            made(artifact, tmp_path / f"{name}.tar.zst", native)
    assert (tmp_path / "text.tar.zst").read_text() == "my backup"


def test_a_bundle_that_fails_leaves_no_folders(artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(device: object) -> None:
        raise BundleError("no compiler")

    monkeypatch.setattr("edgekit.deploy.bundle.device_files", fails)
    out = tmp_path / "new" / "folder" / "x"
    with pytest.raises(BundleError, match="no compiler"), make_bundle(artifact, JETSON, out):
        pass
    assert not (tmp_path / "new").exists()


def test_the_name_of_a_device_is_one_word_in_the_script(artifact: Path, native: DeviceFiles, tmp_path: Path) -> None:
    board = replace(JETSON, name="my board;touch found")
    with make_bundle(artifact, board, tmp_path / "out", native=native) as bundle:
        script = (bundle.folder / "smoke.sh").read_text()
    words = shlex.split(script.splitlines()[-1], comments=True)
    assert words[words.index("--device") + 1] == board.name


def test_limits_of_another_engine_get_a_note(artifact: Path, native: DeviceFiles, tmp_path: Path) -> None:
    limit = {"asked": True, "value": 25.0, "verdict": "met"}
    own = {"engine": "native", "decode_tok_s": {"low": 12.0, "mid": 17.0, "high": 25.0}}
    for engine, asked, told in (("webgpu", True, True), ("webgpu", False, False), ("native", True, False)):
        budget = {"decode_tok_s": {**limit, "asked": asked}}
        rewrite_manifest(artifact, plan={**PLAN, "engine": engine, "budget": budget, "engines": [own]})
        with make_bundle(artifact, JETSON, tmp_path / "out", native=native) as bundle:
            assert any("bin/edgekit-run uses native (expected: 17 tok/s)" in note for note in bundle.notes) == told


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_compiled(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.deploy.bundle.device_files", lambda device: pytest.fail("it is compiled first"))
    (tmp_path / "file").write_text("")
    for out, problem in ((tmp_path / ("n" * 300), "File name too long"), (tmp_path / "file" / "x", "File exists")):
        with pytest.raises(BundleError, match=problem), make_bundle(artifact, load_device("jetson"), out):
            pass


@pytest.mark.parametrize("out", ["", ".", "..", "/", "folder/.."])
def test_a_bundle_needs_a_name(artifact: Path, native: DeviceFiles, out: str) -> None:
    with pytest.raises(UsageError, match="which names no new folder"):
        made(artifact, Path(out), native)


def test_a_bundle_without_a_library_says_so(artifact: Path, tmp_path: Path) -> None:
    native = replace(stand_in(tmp_path / "native", library=False), notes=("no library",))
    bundle = made(artifact, tmp_path / "out", native)
    assert bundle.notes == ("no library",)
    assert not (bundle.folder / "lib").exists()
    assert json.loads((bundle.folder / "bundle.json").read_text())["library"] is None


def test_a_damaged_artifact_is_refused(artifact: Path, native: DeviceFiles, tmp_path: Path) -> None:
    (artifact / "tokenizer.json").write_bytes(b"{}")
    with pytest.raises(VerificationError, match=re.escape("tokenizer.json has 2 bytes")):
        made(artifact, tmp_path / "out", native)
    assert not (tmp_path / "out").exists()


def test_what_does_not_fit_the_device_is_refused(artifact: Path) -> None:
    check_plan(read_manifest(artifact), JETSON)
    rewrite_manifest(artifact, plan={**PLAN, "engine_bytes": {"native": 6_000_000_000}})
    with pytest.raises(
        BudgetError, match=re.escape("needs 6.00 GB with 640 tokens of context, and 5.20 GB are usable")
    ) as caught:
        check_plan(read_manifest(artifact), JETSON)
    assert caught.value.hint.startswith("edgekit plan --device jetson-orin-nano lists what fits")
    for own in (replace(JETSON, name="tinyboard"), replace(JETSON, title="mine")):  # profiles that were read from files
        with pytest.raises(BudgetError) as caught:
            check_plan(read_manifest(artifact), own)
        assert caught.value.hint.startswith("edgekit plan with the same --device lists what fits")
    rewrite_manifest(artifact, plan={**PLAN, "headless": True, "engine_bytes": {"native": 6_000_000_000}})
    check_plan(read_manifest(artifact), JETSON)


def test_a_plan_that_misses_a_limit_of_the_user_is_refused(artifact: Path) -> None:
    limit = {"asked": True, "value": 50, "verdict": "missed"}
    rewrite_manifest(artifact, plan={**PLAN, "budget": {"decode_tok_s": limit}})
    with pytest.raises(BudgetError, match="misses the limit set for decode_tok_s"):
        check_plan(read_manifest(artifact), JETSON)
    check_plan(read_manifest(artifact), load_device("pi"))  # another device has another plan


def test_a_float_artifact_is_refused(artifact: Path) -> None:
    rewrite_manifest(artifact, quantization={"linear": None})
    with pytest.raises(BundleError, match="this one has float matrices"):
        check_plan(read_manifest(artifact), JETSON)


def test_the_digest_and_the_signature(artifact: Path, native: DeviceFiles, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    public = make_keys(tmp_path / "key")
    digest = read_manifest(artifact).digest
    with make_bundle(artifact, JETSON, tmp_path / "out", native=native, expect=digest, sign=tmp_path / "key") as bundle:
        pass
    assert json.loads((bundle.folder / "bundle.json").read_text())["artifact_digest"] == digest
    assert not (artifact / "edgekit.sig").exists()
    assert verified(bundle.folder / "artifact", public_key=public).digest == digest
    check = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(public), "-rawin", "-in", "SHA256SUMS"]
    done = subprocess.run([*check, "-sigfile", "SHA256SUMS.sig"], cwd=bundle.folder, capture_output=True)
    assert done.returncode == 0
    assert "edgekit.sig" in (bundle.folder / "SHA256SUMS").read_text()
    with (
        pytest.raises(VerificationError, match="has the digest"),
        make_bundle(artifact, JETSON, tmp_path / "other", native=native, expect="0" * 64),
    ):
        pass
    with (
        pytest.raises(VerificationError, match="is not signed"),
        make_bundle(artifact, JETSON, tmp_path / "other", native=native, public_key=str(public)),
    ):
        pass
    assert not (tmp_path / "other").exists()


def test_a_file_that_changes_while_it_is_bundled(
    artifact: Path, native: DeviceFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def late(source: Path, target: Path) -> None:
        if Path(source).name == "tokenizer.json":
            Path(source).write_text("{}")
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(BundleError, match=r"tokenizer\.json was changed after it was verified"):
        made(artifact, tmp_path / "out", native)
    assert not (tmp_path / "out").exists()
