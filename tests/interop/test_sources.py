"""Checkpoints and adapters as other software writes them: LoRA from PEFT, AWQ words from GPTQModel."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_awq import GEMM_ORDER, pack
from tiny_checkpoint import write_checkpoint
from tiny_gptq import random_weight

from edgekit.checkpoint import open_checkpoint
from edgekit.checkpoint.lora import LoraAdapter
from edgekit.weights.merged import MergedCheckpoint

pytestmark = pytest.mark.slow

RANK = {"r": 4, "lora_alpha": 16}
CASES = {
    "linears": {**RANK, "target_modules": ["q_proj", "down_proj"]},
    "patterns": {
        **RANK, "use_rslora": True, "target_modules": ["k_proj"],
        "rank_pattern": {"layers.1.self_attn.k_proj": 8}, "alpha_pattern": {"layers.0.self_attn.k_proj": 3},
    },
    "dora": {**RANK, "use_dora": True, "target_modules": ["q_proj", "up_proj"]},
    "tables": {**RANK, "target_modules": ["embed_tokens", "lm_head"]},
    "whole tensors": {**RANK, "target_modules": ["v_proj"], "modules_to_save": ["lm_head"], "bias": "lora_only"},
    "fan_in_fan_out": {**RANK, "target_modules": ["o_proj"], "fan_in_fan_out": True},
}  # fmt: skip


def test_adapters_are_merged_as_peft_merges_them(tmp_path: Path, autogptq: Callable[..., str]) -> None:
    folder = write_checkpoint(tmp_path / "base", "qwen2")
    weights = folder / "model.safetensors"
    save_file(load_file(weights), weights, metadata={"format": "pt"})
    autogptq("peft_merge.py", folder, tmp_path, json.dumps(CASES))
    for name in CASES:
        expected = np.load(tmp_path / f"{name}.npz")
        adapter = LoraAdapter(tmp_path / name)
        with open_checkpoint(folder) as base:
            merged = MergedCheckpoint(base, [adapter])
            changed = 0
            for tensor, info in merged.tensors.items():
                found = merged.rows(tensor, 0, info.shape[0])
                np.testing.assert_allclose(found, expected[tensor], rtol=1e-5, atol=1e-5, err_msg=f"{name}: {tensor}")
                changed += not np.array_equal(found, base.rows(tensor, 0, info.shape[0]))
            assert changed >= 2, name
        adapter.close()


def test_awq_words_are_packed_as_gptqmodel_packs_them(tmp_path: Path, gptqmodel: Callable[..., str]) -> None:
    """The writer of edgekit's tests, from which edgekit reads every code, writes the same words."""
    weight = random_weight(64, 96, symmetric=False)
    np.savez(tmp_path / "awq.npz", codes=weight.codes, zeros=weight.zeros)
    gptqmodel("awq_pack.py", tmp_path / "awq.npz")
    found = np.load(tmp_path / "awq.npz")
    np.testing.assert_array_equal(found["qweight"], pack(weight.codes, GEMM_ORDER))
    np.testing.assert_array_equal(found["qzeros"], pack(weight.zeros, GEMM_ORDER))
