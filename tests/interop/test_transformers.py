"""The float graph gives transformers' logits on every family and rotary embedding; chat templates render the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from public_templates import EXPECTED, FOLDER, cases

from edgekit.checkpoint import open_checkpoint
from edgekit.export.decoder import LOGITS_START
from edgekit.export.model import export_model
from edgekit.models import families, spec_from_config
from edgekit.scheme import QuantizationConfig
from edgekit.weights.checkpoint import CheckpointWeights

pytestmark = pytest.mark.slow

MAX_LOGIT_DIFFERENCE = 1e-3  # logits are up to 12; measured: 5e-5


def _logits(folder: Path, checkpoint: Path, ids: np.ndarray) -> np.ndarray:
    with open_checkpoint(checkpoint) as opened:
        spec = spec_from_config(opened.config)
        export_model(folder, spec, CheckpointWeights(opened, spec), QuantizationConfig.none(),
                     activation_type="float32", max_context=256, threads=2)  # fmt: skip
    options = ort.SessionOptions()
    options.log_severity_level = 3
    every = ort.OrtValue.ortvalue_from_numpy(np.array([-(2**62)]))
    options.add_initializer(LOGITS_START, every)
    session = ort.InferenceSession(folder / "model.onnx", options)
    empty = np.zeros((1, spec.num_kv_heads, 0, spec.head_dim), np.float32)
    past = {i.name: empty for i in session.get_inputs() if i.name.startswith("past_")}
    return session.run(["logits"], {"input_ids": ids, "attention_mask": np.ones_like(ids), **past})[0]


def test_float_export_agrees(interop, tmp_path: Path) -> None:
    reference = tmp_path / "reference"
    reference.mkdir()
    interop("transformers_reference.py", reference)
    cases = sorted(p.stem for p in reference.glob("*.npz"))
    assert len(cases) >= 60
    assert {c.split("-")[0] for c in cases} == set(families())
    differences = {}
    for case in cases:
        folder = tmp_path / case
        folder.mkdir()
        expected = np.load(reference / f"{case}.npz")
        found = _logits(folder, reference / case, expected["ids"])
        differences[case] = float(np.abs(found - expected["logits"]).max())
    print(*(f"{case}: {found:.1e}" for case, found in differences.items()), sep="\n")
    assert max(differences.values()) <= MAX_LOGIT_DIFFERENCE, differences


@pytest.mark.parametrize("environment", ["interop", "gptqmodel"])  # transformers 4 and 5
def test_chat_templates_render_as_recorded(environment: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    run = request.getfixturevalue(environment)
    (tmp_path / "cases.json").write_text(json.dumps(cases()), encoding="utf-8")
    found = json.loads(run("transformers_render.py", FOLDER, tmp_path / "cases.json").splitlines()[-1])
    assert found == json.loads(EXPECTED.read_text(encoding="utf-8"))
