"""``edgekit-run --smoke`` and the links that edgekit-run refuses: the same checks and verdicts as in Python."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from run_program import PROGRAM, result, run
from shared_models import SharedModels
from tiny_artifact import rewrite_manifest

import edgekit
from edgekit.artifact.manifest import read_manifest
from edgekit.errors import VerificationError

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="edgekit-run is not built; pip install . builds it")


@pytest.fixture(scope="module")
def artifact(models: SharedModels) -> Path:
    return models.artifact("llama", "int4 block 32")


def test_smoke_passes_and_finds_a_changed_file(artifact: Path, tmp_path: Path) -> None:
    found = result(artifact, "--smoke", "--out", tmp_path / "receipt.json")
    assert found["passed"]
    assert (found["verdict"], found["receipt_version"], found["program"]) == ("pass", 1, "edgekit-run")
    assert [check["name"] for check in found["checks"]][:4] == ["files", "load", "golden_logits", "golden_tokens"]
    assert found["checks"][-1] == {
        "name": "placement", "passed": True, "verdict": "pass", "detail": "every part has a fast kernel"
    }  # fmt: skip
    assert json.loads((tmp_path / "receipt.json").read_text())["checks"] == found["checks"]
    changed = shutil.copytree(artifact, tmp_path / "changed")
    with (changed / "config.json").open("a") as file:
        file.write(" ")
    broken = result(changed, "--smoke", code=62)
    assert not broken["passed"]
    assert broken["error"]["kind"] == "smoke_test"
    assert "config.json has " in broken["checks"][0]["detail"]


@pytest.mark.parametrize("target", ["/etc/passwd", "../config.json", "nowhere"])
def test_links_that_lead_out_are_refused_as_in_python(artifact: Path, tmp_path: Path, target: str) -> None:
    copy = shutil.copytree(artifact, tmp_path / "copy")
    (copy / "config.json").rename(tmp_path / "config.json")
    (copy / "config.json").symlink_to(target)
    with pytest.raises(VerificationError) as caught:
        edgekit.load(copy)
    for arguments in (("--prompt", "a"), ("--bench",)):
        error = result(copy, *arguments, code=61)["error"]
        assert (error["kind"], error["message"]) == (caught.value.kind, caught.value.message)
    assert result(artifact, "--prompt", "a", "--draft", copy, code=61)["error"]["message"] == caught.value.message
    found, expected = result(copy, "--smoke", code=62)["checks"], edgekit.smoke(copy).checks
    assert [(each["name"], each["verdict"], each["detail"]) for each in found] == [
        (each.name, each.verdict, each.detail) for each in expected
    ]


def test_links_within_an_artifact_and_in_the_cache_of_the_hub_are_followed(artifact: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--owner--name"
    snapshot = repository / "snapshots" / "a1"
    shutil.copytree(artifact, repository / "blobs")
    snapshot.mkdir(parents=True)
    for path in (repository / "blobs").iterdir():
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    assert result(snapshot, "--smoke")["passed"]
    assert result(snapshot, "--prompt", "a", "--max-tokens", 1)["text"]
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in (repository / "blobs").iterdir():
        os.link(path, copy / path.name)
    assert result(copy, "--smoke")["passed"]


def test_a_wrong_golden_answer_fails(artifact: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(artifact, tmp_path / "changed")
    golden = read_manifest(changed).golden
    assert golden is not None
    golden["top_logits"][0]["logit"] += 100
    rewrite_manifest(changed, golden=golden)  # with digests that are right again
    assert "golden_logits" in result(changed, "--smoke", code=62)["error"]["message"]


def test_the_plan_of_another_device_is_told(artifact: Path) -> None:
    device = read_manifest(artifact).plan["device"]
    said = f"note: the plan is for {device}, not for jetsn, so no times are compared with it\n"
    assert run(artifact, "--smoke", "--device", "jetsn").stderr.decode() == said
    for options in ((), ("--device", device)):
        assert b"no times" not in run(artifact, "--smoke", *options).stderr


def test_a_receipt_that_cannot_be_written_is_told_before_the_test(artifact: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text("old")
    for out, why in ((tmp_path, "Is a directory"), (tmp_path / "none" / "x.json", "No such file or directory"),
                     (old / "x.json", "Not a directory")):  # fmt: skip
        done = run(artifact, "--smoke", "--out", out)
        assert (done.returncode, done.stdout) == (60, b"")
        assert done.stderr.decode() == f"error: cannot write the receipt {out}: {why}\n"
    inside = artifact / "receipt.json"
    done = run(artifact, "--smoke", "--out", inside)
    assert done.returncode == 60
    assert "it is inside an artifact" in done.stderr.decode()
    assert not inside.exists()
    broken = shutil.copytree(artifact, tmp_path / "broken")
    rewrite_manifest(broken, golden=None)
    for name in ("old.json", "new.json"):
        assert run(broken, "--smoke", "--out", tmp_path / name).returncode == 60
    assert old.read_text() == "old", "nothing was written"
    assert not (tmp_path / "new.json").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_results_are_shown_if_the_receipt_cannot_be_written(artifact: Path, tmp_path: Path) -> None:
    said = "cannot write the receipt /dev/full: No space left on device"
    done = run(artifact, "--smoke", "--out", "/dev/full")
    assert (done.returncode, done.stderr.decode()) == (60, f"error: {said}\n")
    assert b"pass  golden_tokens" in done.stdout
    found = result(artifact, "--smoke", "--out", "/dev/full", code=60)
    assert (found["passed"], found["error"]["message"]) == (True, said)
    changed = shutil.copytree(artifact, tmp_path / "changed")
    (changed / "config.json").write_text("{}")
    found = result(changed, "--smoke", "--out", "/dev/full", code=62)
    assert (found["passed"], found["error"]["kind"], found["error"]["hint"]) == (False, "smoke_test", said)
    assert b"FAIL  files" in run(changed, "--smoke", "--out", "/dev/full").stdout


def test_a_pipe_with_a_reader_gets_the_receipt(artifact: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert result(artifact, "--smoke", "--out", tmp_path / "pipe")["passed"]
    with open(reader, "rb") as file:
        assert json.loads(file.read())["passed"]


@pytest.mark.parametrize("tokens", [-5, 0, 0.5, 1e87])
def test_a_plan_without_a_possible_prompt_is_refused(artifact: Path, tmp_path: Path, tokens: float) -> None:
    shutil.copy(artifact / "edgekit.json", tmp_path / "edgekit.json")
    fields = json.loads((artifact / "edgekit.json").read_bytes())
    fields["plan"]["prompt_tokens"] = tokens
    (tmp_path / "edgekit.json").write_text(json.dumps(fields))
    error = result(tmp_path, "--smoke", "--device", fields["plan"]["device"], code=60)["error"]
    assert error["kind"] == "artifact"
    assert error["message"].startswith("edgekit.json: plan.prompt_tokens is ")
    assert error["message"].endswith("; it must be a whole number of 1 or more")


def test_budgets_and_sustained_speed(artifact: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(artifact, tmp_path / "changed")
    plan = read_manifest(changed).plan
    plan["prompt_tokens"] = 8
    plan["decode_tok_s"] = {"low": 1e9, "mid": 2e9, "high": 3e9}
    plan["budget"] = {"ttft_s": {"value": 1e-12, "asked": True}}
    rewrite_manifest(changed, plan=plan)
    found = result(changed, "--smoke", "--device", plan["device"], "--sustain", "0.05", code=62)
    verdicts = {check["name"]: check["verdict"] for check in found["checks"]}
    assert (verdicts["ttft"], verdicts["decode"]) == ("fail", "warn")
    assert "sustained" in verdicts
    assert found["prompt"]["tokens"] == 8
    assert "ttft" not in {check["name"] for check in result(changed, "--smoke")["checks"]}
    own = {"engine": "native", "decode_tok_s": {"low": 1e8, "mid": 2e8, "high": 3e8}}
    rewrite_manifest(changed, plan=plan | {"engine": "cuda", "engines": [{"engine": "cuda"}, own]})
    other = result(changed, "--smoke", "--device", plan["device"])
    verdicts = {check["name"]: check["verdict"] for check in other["checks"]}
    assert "ttft" not in verdicts, "the plan's limits are those of another engine"
    assert (verdicts["decode"], other["predicted"]["mid"]) == ("warn", 2e8)
    rewrite_manifest(changed, plan=plan | {"engine": "cuda", "engines": []})
    other = result(changed, "--smoke", "--device", plan["device"])
    names = {check["name"] for check in other["checks"]}
    assert not names & {"ttft", "decode"}, "the plan's speeds are those of another engine"
    assert ("load_time" in names) == ("load_time" in verdicts)


def test_a_test_that_does_not_get_through_has_one_check_of_the_load(artifact: Path) -> None:
    found = result(artifact, "--smoke", "--context", 20, code=62)
    assert [(check["name"], check["verdict"]) for check in found["checks"]] == [("files", "pass"), ("load", "fail")]
    assert "do not fit into the context of 20" in found["checks"][1]["detail"]
    assert found["error"]["message"].count("load:") == 1
    assert {found[name] for name in ("load_s", "ttft_s", "decode_tok_s", "threads", "peak_rss_bytes")} == {None}
    assert (found["engine"], found["passed"]) == ("native", False)


def test_the_golden_test_may_be_longer_than_the_planned_context(artifact: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(artifact, tmp_path / "changed")
    manifest = read_manifest(changed)
    assert manifest.golden is not None
    rewrite_manifest(changed, plan=manifest.plan | {"context": 4})
    found = result(changed, "--smoke", "--sustain", "0.01")
    assert found["passed"]
    assert found["context"] == len(manifest.golden["prompt_ids"]) + len(manifest.golden["continuation_ids"])
    assert result(artifact, "--smoke")["context"] == manifest.plan["context"]
    rewrite_manifest(changed, model=manifest.model | {"context_length": 5}, plan=manifest.plan | {"context": 4})
    short = result(changed, "--smoke", code=62)
    assert "positions was requested" in short["checks"][1]["detail"]
