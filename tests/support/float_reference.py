"""A reference for a quantized artifact in plain numpy: its dequantized matrices, computed in float64.

Llama (arXiv:2302.13971): RMSNorm, rotary embedding of the two halves of a head, grouped-query attention, SwiGLU. Qwen3
(arXiv:2505.09388) also normalizes the query and key heads.
The reference uses the artifact's tensor names and metadata, and shares no code with the engines or the exporter.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgekit.quantize.packing import PackedLinear
from edgekit.scheme import QuantizationScheme

Array = NDArray[np.float64]


class FloatReference:
    """The model of an artifact. Calling it with ids (n,) returns logits (n, vocab)."""

    def __init__(self, folder: Path) -> None:
        model = onnx.load(folder / "model.onnx")
        self._of = {p.key.removeprefix("edgekit."): p.value for p in model.metadata_props}
        self._tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self._heads, self._kv_heads, self._dim = (int(self._of[n]) for n in ("num_heads", "num_kv_heads", "head_dim"))
        hidden, q_width = int(self._of["hidden_size"]), self._heads * self._dim
        self._table = self._matrix("model.embed_tokens", "embedding", hidden)
        self._head = self._table if int(self._of["tied_embeddings"]) else self._matrix("lm_head", "lm_head", hidden)
        inputs = {"attn.qkv_proj": hidden, "attn.o_proj": q_width, "mlp.gate_up_proj": hidden}
        inputs["mlp.down_proj"] = int(self._of["intermediate_size"])
        self._layers = [
            {name: self._matrix(f"model.layers.{i}.{name}", "linear", k) for name, k in inputs.items()}
            for i in range(int(self._of["num_layers"]))
        ]

    def __call__(self, ids: list[int]) -> Array:
        x = self._table[ids]  # (n, hidden)
        for i, layer in enumerate(self._layers):
            at = f"model.layers.{i}"
            qkv = self._norm(x, f"{at}.input_norm") @ layer["attn.qkv_proj"].T
            qkv += self._tensors.get(f"{at}.attn.qkv_proj.bias", 0.0)
            x = x + self._attention(qkv, at) @ layer["attn.o_proj"].T
            both = self._norm(x, f"{at}.post_attention_norm") @ layer["mlp.gate_up_proj"].T
            gate, up = np.split(both, 2, axis=1)
            x = x + (gate / (1 + np.exp(-gate)) * up) @ layer["mlp.down_proj"].T
        return self._norm(x, "model.final_norm") @ self._head.T

    def _attention(self, qkv: Array, at: str) -> Array:
        """(n, q, k and v of all heads) -> (n, heads * dim)."""
        n, group = len(qkv), self._heads // self._kv_heads
        heads = qkv.reshape(n, -1, self._dim).transpose(1, 0, 2)  # (heads + 2 kv_heads, n, dim)
        q, k, v = np.split(heads, [self._heads, self._heads + self._kv_heads])
        if self._of.get("qk_norm") == "1":
            q, k = self._norm(q, f"{at}.attn.q_norm"), self._norm(k, f"{at}.attn.k_norm")
        k, v = np.repeat(self._rotate(k), group, axis=0), np.repeat(v, group, axis=0)
        scores = self._rotate(q) @ k.transpose(0, 2, 1) / np.sqrt(self._dim)  # (heads, n, n)
        scores[:, np.triu_indices(n, 1)[0], np.triu_indices(n, 1)[1]] = -np.inf
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return ((weights / weights.sum(-1, keepdims=True)) @ v).transpose(1, 0, 2).reshape(n, -1)

    def _rotate(self, x: Array) -> Array:
        cos, sin = (self._tensors[f"rotary.{name}"][: x.shape[1]].astype(np.float64) for name in ("cos", "sin"))
        a, b = np.split(x, 2, axis=-1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def _norm(self, x: Array, name: str) -> Array:
        scale = np.sqrt((x * x).mean(-1, keepdims=True) + float(self._of["rms_norm_eps"]))
        return x / scale * self._tensors[f"{name}.weight"].astype(np.float64)

    def _matrix(self, name: str, kind: str, in_features: int) -> Array:
        """Dequantize the matrix stored under a name: (out, in)."""
        bits, block_size, symmetric = (int(self._of[f"{kind}.{n}"]) for n in ("bits", "block_size", "symmetric"))
        scheme = QuantizationScheme(bits, block_size, bool(symmetric))
        codes, scales = self._tensors[f"{name}.codes"], self._tensors[f"{name}.scales"]
        shaped = codes.reshape(
            scheme.codes_shape(len(codes), in_features)
        )  # the graph stores the embedding's codes in 2 axes
        zero_points = self._tensors.get(f"{name}.zero_points")
        return PackedLinear(scheme, len(codes), in_features, shaped, scales, zero_points).dequantize().astype(float)
