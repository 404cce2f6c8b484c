"""The golden test is the artifact's greedy answer, as one session of the whole graph gives it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from array_weights import ArrayWeights, tiny_weights

from edgekit.errors import QualityError
from edgekit.export.model import MODEL_FILE, export_model
from edgekit.models import ModelSpec
from edgekit.quality.golden import TOP_LOGITS, record_golden
from edgekit.scheme import QuantizationConfig, QuantizationScheme

PROMPT = [3, 1, 4, 1, 5]
STEPS = 6
EIGHT = QuantizationScheme(8, 32, True)
FORMATS = {
    "int4": QuantizationConfig(*[QuantizationScheme(4, 64, False)] * 3),
    "int8": QuantizationConfig(EIGHT, EIGHT, EIGHT),
    "float": QuantizationConfig.none(),
}
LOGIT_TOLERANCE = {"float32": 1e-3, "float16": 2e-2}  # rounding of a step that reads the KV cache or the whole text
TIE = {"float32": 1e-3, "float16": 5e-2}  # logits this close may change places


def exported(folder: Path, family: str, formats: str, activation_type: str = "float32") -> ModelSpec:
    tensors, spec = tiny_weights(family)
    export_model(
        folder, spec, ArrayWeights(tensors), FORMATS[formats], activation_type=activation_type, max_context=64,
        threads=1,
    )  # fmt: skip
    return spec


def logits_after(folder: Path, spec: ModelSpec, ids: list[int], dtype: str) -> np.ndarray:
    """The logits of the last position, from the whole graph without a cache."""
    session = ort.InferenceSession(folder / MODEL_FILE)
    empty = np.zeros((1, spec.num_kv_heads, 0, spec.head_dim), dtype)
    past = {f"past_key_values.{i}.{kind}": empty for i in range(spec.num_layers) for kind in ("key", "value")}
    feeds = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64), **past}
    return session.run(["logits"], feeds)[0][0, -1]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("family", "formats"), [("llama", "int4"), ("qwen2", "int8"), ("qwen2", "float")])
def test_the_continuation_is_greedy(tmp_path: Path, family: str, formats: str, dtype: str) -> None:
    spec = exported(tmp_path, family, formats, dtype)
    golden = record_golden(tmp_path, spec, dtype, PROMPT, STEPS, [], 1)
    assert golden["prompt_ids"] == PROMPT
    assert len(golden["continuation_ids"]) == STEPS
    ids = list(PROMPT)
    for token in golden["continuation_ids"]:
        logits = logits_after(tmp_path, spec, ids, dtype)
        assert logits[token] >= logits.max() - TIE[dtype]
        ids.append(token)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_top_logits_are_the_largest_of_the_first_new_token(tmp_path: Path, dtype: str) -> None:
    spec = exported(tmp_path, "llama", "int4", dtype)
    golden = record_golden(tmp_path, spec, dtype, PROMPT, 2, [], 1)
    logits = logits_after(tmp_path, spec, PROMPT, dtype)
    top = golden["top_logits"]
    assert len(top) == TOP_LOGITS
    assert top[0]["id"] == golden["continuation_ids"][0]
    values = [entry["logit"] for entry in top]
    assert values == sorted(values, reverse=True)
    np.testing.assert_allclose(values, np.sort(logits)[::-1][:TOP_LOGITS], atol=LOGIT_TOLERANCE[dtype])
    for entry in top:
        assert entry["logit"] == pytest.approx(float(logits[entry["id"]]), abs=LOGIT_TOLERANCE[dtype])


def test_an_end_token_ends_the_continuation(tmp_path: Path) -> None:
    spec = exported(tmp_path, "llama", "int8")
    whole = record_golden(tmp_path, spec, "float32", PROMPT, STEPS, [], 1)["continuation_ids"]
    for stop in set(whole):
        found = record_golden(tmp_path, spec, "float32", PROMPT, STEPS, [stop, 299], 1)["continuation_ids"]
        assert found == whole[: whole.index(stop) + 1], "the end token is the last one"


def test_keys_that_the_engines_cache_cannot_hold_are_refused(tmp_path: Path) -> None:
    tensors, spec = tiny_weights("qwen2")
    tensors["model.layers.1.self_attn.k_proj.bias"][5] = 9e4
    export_model(
        tmp_path, spec, ArrayWeights(tensors), FORMATS["int8"], activation_type="float32", max_context=64, threads=1
    )
    assert record_golden(tmp_path, spec, "float32", PROMPT, 1, [], 1)
    with pytest.raises(QualityError, match=r"the keys of layers\.1 reach .*e\+04, and the engine native") as caught:
        record_golden(tmp_path, spec, "float32", PROMPT, 1, [], 1, float16_cache=True)
    assert "--engine ort" in caught.value.hint


def test_progress(tmp_path: Path) -> None:
    spec = exported(tmp_path, "llama", "int8")
    reports: list[float] = []
    record_golden(tmp_path, spec, "float32", PROMPT, 3, [], 1, lambda done, total: reports.append(done / total))
    assert reports == sorted(reports)
    assert len(reports) > 3
    assert reports[-1] == 1
