"""KL, perplexity and agreement: zero KL for the same model, more with fewer bits, equal to a direct computation."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from tiny_artifact import rewrite_manifest
from tiny_checkpoint import write_checkpoint

from edgekit.artifact.manifest import read_manifest
from edgekit.build.pipeline import build
from edgekit.errors import ArtifactError, TensorMismatchError, TokenizerError, UsageError, VerificationError
from edgekit.quality.evaluation import evaluate
from edgekit.runtime.tokenizer import Tokenizer
from edgekit.scheme import QuantizationConfig, QuantizationScheme

TEXT = "What is the capital of France? The capital of France is Paris. Größe, 你好, 🙂 " * 6


def artifact(tmp_path: Path, family: str, config: QuantizationConfig, name: str) -> Path:
    checkpoint = tmp_path / "checkpoint"
    return build(None, "cpu", checkpoint=checkpoint, out=tmp_path / name, quantization=config, gate=False).artifact


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_fewer_bits_are_further_away(tmp_path: Path, family: str) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", family)
    eight, four = (QuantizationScheme(bits, 64, True) for bits in (8, 4))
    found = {
        name: evaluate(artifact(tmp_path, family, config, name), checkpoint, TEXT, chunk_tokens=64)
        for name, config in {
            "float": QuantizationConfig.none(),
            "eight": QuantizationConfig(eight, eight, eight),
            "four": QuantizationConfig(four, four, four),
        }.items()
    }
    assert abs(found["float"].mean_kl) < 1e-6
    assert found["float"].top1 == 1.0
    assert found["float"].perplexity == pytest.approx(found["float"].reference_perplexity, rel=1e-5)
    assert found["float"].mean_kl < found["eight"].mean_kl < found["four"].mean_kl / 10
    assert found["four"].p99_kl > found["four"].mean_kl
    assert {f.tokens for f in found.values()} == {found["four"].tokens}
    assert len({f.reference_perplexity for f in found.values()}) == 1


def test_the_figures_are_those_of_the_definition(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "qwen2")
    four = QuantizationScheme(4, 32, False)
    paths = {
        "ours": artifact(tmp_path, "qwen2", QuantizationConfig(four, four, four), "ours"),
        "float": artifact(tmp_path, "qwen2", QuantizationConfig.none(), "float"),
    }
    found = evaluate(paths["ours"], checkpoint, TEXT, chunk_tokens=64, max_chunks=2)
    ids = Tokenizer.open(paths["ours"], read_manifest(paths["ours"]).tokens).encode(TEXT, add_bos=False)
    kl, nll, same = [], {"ours": [], "float": []}, []
    for chunk in (ids[:64], ids[64:128]):
        log = {name: log_probabilities(path, chunk) for name, path in paths.items()}
        for position in range(32, 63):
            p, q = log["float"][position], log["ours"][position]
            kl.append(float((np.exp(p) * (p - q)).sum()))
            same.append(p.argmax() == q.argmax())
            for name, value in log.items():
                nll[name].append(-value[position][chunk[position + 1]])
    assert found.tokens == len(kl) == 62
    assert found.mean_kl == pytest.approx(np.mean(kl), rel=1e-3)
    assert found.p99_kl == pytest.approx(np.quantile(kl, 0.99), rel=1e-3)
    assert found.top1 == np.mean(same)
    assert found.perplexity == pytest.approx(np.exp(np.mean(nll["ours"])), rel=1e-4)
    assert found.reference_perplexity == pytest.approx(np.exp(np.mean(nll["float"])), rel=1e-4)


def log_probabilities(folder: Path, ids: list[int]) -> np.ndarray:
    """(tokens, vocab) in float64, from the whole graph in one session."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    every = ort.OrtValue.ortvalue_from_numpy(np.array([-(2**62)]))
    options.add_initializer("logits_start", every)
    session = ort.InferenceSession(folder / "model.onnx", options)
    past = {i.name: np.zeros((1, i.shape[1], 0, i.shape[3]), np.float32) for i in session.get_inputs()[2:]}
    feeds = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64), **past}
    logits = session.run(["logits"], feeds)[0][0].astype(np.float64)
    return (
        logits
        - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
        - logits.max(-1, keepdims=True)
    )


def test_a_short_text_is_one_chunk_and_too_short_a_text_an_error(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "llama")
    built = artifact(tmp_path, "llama", QuantizationConfig.none(), "out")
    assert evaluate(built, checkpoint, "The capital of France").tokens > 1
    for text in ("", "a"):
        with pytest.raises(UsageError, match="at least 4 are needed"):
            evaluate(built, checkpoint, text)


def test_the_prompts_of_the_held_out_texts_share_processor_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "llama")
    built = artifact(tmp_path, "llama", QuantizationConfig.none(), "out")
    template = built / "chat_template.jinja"
    template.write_text("{% for i in range(99) %}{{ i }}{% endfor %}" + template.read_text())
    rewrite_manifest(built)
    monkeypatch.setattr("edgekit.runtime.template_budget.SECONDS", 0.0)
    with pytest.raises(TokenizerError, match="its prompts take more than 0 seconds of processor time in all"):
        evaluate(built, checkpoint)


def test_a_reference_whose_name_is_too_long(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint", "llama")
    built = artifact(tmp_path, "llama", QuantizationConfig.none(), "out")
    with pytest.raises(UsageError, match="File name too long"):
        evaluate(built, tmp_path / ("n" * 300), TEXT)


def test_links_that_lead_out_are_refused(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "llama")
    built = artifact(tmp_path, "llama", QuantizationConfig.none(), "out")
    (built / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    (built / "tokenizer.json").symlink_to("../tokenizer.json")
    with pytest.raises(VerificationError, match=r"tokenizer\.json is a link to \.\./tokenizer\.json"):
        evaluate(built, checkpoint, TEXT)


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data"])
def test_a_file_that_is_cut_off_is_told(tmp_path: Path, name: str) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "llama")
    built = artifact(tmp_path, "llama", QuantizationConfig.none(), "out")
    os.truncate(built / name, 3000)
    with pytest.raises(VerificationError, match=name):
        evaluate(built, checkpoint, TEXT)


def test_a_folder_for_a_browser_is_refused(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "llama")
    made = build(None, "cpu", checkpoint=checkpoint, out=tmp_path / "out", emit="web", gate=False)
    assert made.emitted is not None
    with pytest.raises(ArtifactError, match="is a folder for a browser"):
        evaluate(made.emitted, checkpoint, TEXT)


def test_another_models_checkpoint_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint", "llama")
    built = artifact(tmp_path, "llama", QuantizationConfig.none(), "out")
    other = write_checkpoint(tmp_path / "other", "llama", num_hidden_layers=3)
    with pytest.raises(TensorMismatchError, match=r"num_layers of .* is 3; the artifact checkpoint has 2"):
        evaluate(built, other, TEXT)


def test_results_are_plain_numbers(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "llama")
    found = evaluate(artifact(tmp_path, "llama", QuantizationConfig.none(), "out"), checkpoint, TEXT, chunk_tokens=32)
    assert all(type(v) in (int, float) for v in dataclasses.asdict(found).values())


@pytest.mark.parametrize(("name", "option"), [("chunk_tokens", "--chunk-tokens"), ("max_chunks", "--max-chunks")])
def test_chunks_are_those_of_a_text(tmp_path: Path, name: str, option: str) -> None:
    with pytest.raises(UsageError, match=f"{option} needs --text"):
        evaluate(tmp_path / "artifact", tmp_path / "reference", **{name: 8})  # type: ignore[arg-type]
