from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from edgekit.build.pipeline import build
from edgekit.recipes import load_recipe

EXAMPLE = Path(__file__).parents[2] / "examples" / "random_checkpoint.py"


@pytest.mark.slow
def test_it_has_the_recipes_shapes_and_builds(tmp_path: Path) -> None:
    folder = tmp_path / "random"
    done = subprocess.run(
        [sys.executable, EXAMPLE, "smollm2-135m", folder, "--layers", "2"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    with safe_open(folder / "model.safetensors", "numpy") as file:  # the format's own reader
        assert file.get_slice("model.layers.1.mlp.up_proj.weight").get_shape() == [1536, 576]
        assert file.get_slice("model.embed_tokens.weight").get_dtype() == "BF16"
    built = build(None, "cpu", checkpoint=folder, out=tmp_path / "out")
    assert built.manifest.model["vocab_size"] == load_recipe("smollm2-135m").config["vocab_size"]
