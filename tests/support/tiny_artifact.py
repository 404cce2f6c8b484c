"""A tiny artifact written without edgekit's exporter: the smallest model with the graph interface that engines need.

It does not use ``edgekit.export``, so that the runtime is tested against the interface and not against its writer.
Random float32 weights (seeded), 2 layers, hidden size 32, 2 heads of 16 with 1 KV head, a byte-level BPE vocabulary.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tiny_checkpoint import tokenizer

from edgekit.artifact.manifest import FILE_NAME, Manifest, read_manifest
from edgekit.runtime.engine import EngineOptions
from edgekit.runtime.ort_engine import OrtEngine

LAYERS, HEADS, KV_HEADS, HEAD_DIM, HIDDEN, FFN = 2, 2, 1, 16, 32, 64
CONTEXT_LENGTH = 640
SPECIAL = ("<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>")
BOS, EOS = 0, 1
CHAT_TEMPLATE = """{{ bos_token }}{% for message in messages %}
{% if message.role == 'user' %}<|user|>{{ message.content }}
{% elif message.role == 'assistant' %}<|assistant|>{{ message.content }}{{ eos_token }}
{% elif message.role == 'system' %}{{ message.content }}
{% else %}{{ raise_exception('no role ' + message.role) }}{% endif %}{% endfor %}
{% if add_generation_prompt %}<|assistant|>{% endif %}"""
REASONING_TEMPLATE = CHAT_TEMPLATE + "{% if add_generation_prompt %}<think>\n{% endif %}"


def _weights(vocab_size: int, dtype: type[np.floating[Any]], context_length: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    angles = np.outer(np.arange(context_length), 10000.0 ** (-np.arange(0, HEAD_DIM, 2) / HEAD_DIM))
    weights = {
        "embed": rng.normal(size=(vocab_size, HIDDEN)),
        "head": rng.normal(size=(HIDDEN, vocab_size)),
        "norm": np.ones(HIDDEN),
        "cos": np.cos(angles),  # (context_length, head_dim / 2)
        "sin": np.sin(angles),
    }
    for i in range(LAYERS):
        shapes = {
            "q": (HIDDEN, HEADS * HEAD_DIM),
            "k": (HIDDEN, KV_HEADS * HEAD_DIM),
            "v": (HIDDEN, KV_HEADS * HEAD_DIM),
            "o": (HEADS * HEAD_DIM, HIDDEN),
            "gate": (HIDDEN, FFN),
            "up": (HIDDEN, FFN),
            "down": (FFN, HIDDEN),
        }
        for name, shape in shapes.items():
            weights[f"{i}.{name}"] = rng.normal(size=shape) * shape[0] ** -0.5
    return {name: array.astype(dtype) for name, array in weights.items()}


def _layer(i: int, x: str) -> tuple[list[onnx.NodeProto], str]:
    def node(op: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> None:
        nodes.append(helper.make_node(op, inputs, [output], name=f"/{i}/{output}", domain=domain, **attributes))

    nodes: list[onnx.NodeProto] = []
    node("SimplifiedLayerNormalization", [x, "norm"], f"{i}.x", epsilon=1e-5, axis=-1)
    for name in "qkv":
        node("MatMul", [f"{i}.x", f"{i}.{name}"], f"{i}.{name}_out")
    nodes.append(
        helper.make_node(
            "GroupQueryAttention",
            [f"{i}.q_out", f"{i}.k_out", f"{i}.v_out", f"past_key_values.{i}.key", f"past_key_values.{i}.value",
             "seqlens_k", "total", "cos", "sin"],
            [f"{i}.attn", f"present.{i}.key", f"present.{i}.value"],
            domain="com.microsoft", num_heads=HEADS, kv_num_heads=KV_HEADS, do_rotary=1,
        )
    )  # fmt: skip
    node("MatMul", [f"{i}.attn", f"{i}.o"], f"{i}.o_out")
    node("Add", [x, f"{i}.o_out"], f"{i}.mid")
    node("SimplifiedLayerNormalization", [f"{i}.mid", "norm"], f"{i}.y", epsilon=1e-5, axis=-1)
    node("MatMul", [f"{i}.y", f"{i}.gate"], f"{i}.gate_out")
    node("Sigmoid", [f"{i}.gate_out"], f"{i}.sigmoid")
    node("Mul", [f"{i}.gate_out", f"{i}.sigmoid"], f"{i}.silu")
    node("MatMul", [f"{i}.y", f"{i}.up"], f"{i}.up_out")
    node("Mul", [f"{i}.silu", f"{i}.up_out"], f"{i}.product")
    node("MatMul", [f"{i}.product", f"{i}.down"], f"{i}.down_out")
    node("Add", [f"{i}.mid", f"{i}.down_out"], f"{i}.out")
    return nodes, f"{i}.out"


def _graph(vocab_size: int, float16: bool, context_length: int) -> onnx.ModelProto:
    dtype, kind = (np.float16, TensorProto.FLOAT16) if float16 else (np.float32, TensorProto.FLOAT)
    integers = {"one": np.array([1], np.int64), "axis": np.array([1], np.int64)}
    integers |= {"logits_start": np.array([-1], np.int64), "logits_end": np.array([2**62], np.int64)}
    tensors = {**_weights(vocab_size, dtype, context_length), **integers}
    nodes = [
        helper.make_node("Gather", ["embed", "input_ids"], ["x"]),
        helper.make_node("ReduceSum", ["attention_mask", "axis"], ["length"], keepdims=1),
        helper.make_node("Sub", ["length", "one"], ["last"]),
        helper.make_node("Cast", ["last"], ["seqlens_k"], to=TensorProto.INT32),
        helper.make_node("Shape", ["attention_mask"], ["mask_length"], start=1, end=2),
        helper.make_node("Squeeze", ["mask_length"], ["mask_length_scalar"]),
        helper.make_node("Cast", ["mask_length_scalar"], ["total"], to=TensorProto.INT32),
    ]
    x = "x"
    for i in range(LAYERS):
        layer, x = _layer(i, x)
        nodes += layer
    nodes += [
        helper.make_node("Slice", [x, "logits_start", "logits_end", "axis"], ["kept"]),
        helper.make_node("SimplifiedLayerNormalization", ["kept", "norm"], ["normed"], epsilon=1e-5, axis=-1),
        helper.make_node("MatMul", ["normed", "head"], ["scores"]),
        helper.make_node("Cast", ["scores"], ["logits"], to=TensorProto.FLOAT),
    ]
    value = helper.make_tensor_value_info
    cache = [(i, part) for i in range(LAYERS) for part in ("key", "value")]
    inputs = [value("input_ids", TensorProto.INT64, ["batch", "seq"])]
    inputs += [value("attention_mask", TensorProto.INT64, ["batch", "total_seq"])]
    inputs += [value(f"past_key_values.{i}.{p}", kind, ["batch", KV_HEADS, "past", HEAD_DIM]) for i, p in cache]
    outputs = [value("logits", TensorProto.FLOAT, ["batch", 1, vocab_size])]
    outputs += [value(f"present.{i}.{p}", kind, ["batch", KV_HEADS, "present", HEAD_DIM]) for i, p in cache]
    initializers = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    files = {}
    for path in sorted(folder.iterdir()):
        if path.name not in (FILE_NAME, "edgekit.sig"):
            content = path.read_bytes()
            files[path.name] = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    replace(manifest, files=files).write(folder)


def rewrite_manifest(folder: Path, **changes: Any) -> Manifest:
    """Change fields of an artifact's manifest and update its file hashes."""
    _write_manifest(folder, replace(read_manifest(folder), **changes))
    return read_manifest(folder)


def golden(folder: Path, prompt_ids: list[int], count: int) -> dict[str, Any]:
    """The golden test of an artifact: greedy continuation and the ten largest logits of the first new token."""
    engine = OrtEngine.open(folder, read_manifest(folder), EngineOptions(context=128, threads=1))
    logits = engine.evaluate(prompt_ids)[-1]
    best = np.argsort(-logits)[:10]
    continuation = [int(logits.argmax())]
    while len(continuation) < count:
        continuation.append(int(engine.evaluate(continuation[-1:])[-1].argmax()))
    engine.close()
    top = [{"id": int(i), "logit": float(logits[i])} for i in best]
    return {"prompt_ids": prompt_ids, "continuation_ids": continuation, "top_logits": top}


def write_tiny_artifact(
    folder: Path, *, reasoning: bool = False, float16: bool = False, context_length: int = CONTEXT_LENGTH
) -> Path:
    """Write the tiny artifact with its golden test.

    Args:
        folder: The folder, which is created if it does not exist.
        reasoning: Whether the chat template ends the prompt inside a thought, as DeepSeek-R1's does.
        float16: Whether weights and cache are float16, as for CUDA.
        context_length: The most positions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words = tokenizer()
    vocab_size = words.get_vocab_size() + 3  # rows without a token, as in padded vocabularies
    onnx.save_model(
        _graph(vocab_size, float16, context_length),
        folder / "model.onnx",
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=256,
    )
    words.save(str(folder / "tokenizer.json"))
    config = {"bos_token": SPECIAL[BOS], "eos_token": {"content": SPECIAL[EOS]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    template = REASONING_TEMPLATE if reasoning else CHAT_TEMPLATE
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    manifest = Manifest(
        name="tiny",
        edgekit_version="0",
        created="2025-01-01T00:00:00Z",
        model={"model_type": "llama", "parameters": 1, "vocab_size": vocab_size, "num_layers": LAYERS,
               "context_length": context_length},
        source={},
        recipe={},
        device={},
        plan={},
        quantization={},
        activation_type="float16" if float16 else "float32",
        reasoning=reasoning,
        sampling={"temperature": 0.0},
        tokens={"bos": BOS, "eos": [EOS], "pad": None, "add_bos": True},
        bits_per_weight=32.0,
        quality=None,
        golden=None,
        files={},
    )  # fmt: skip
    _write_manifest(folder, manifest)
    prompt = [BOS, *words.encode("What is the capital of France?", add_special_tokens=False).ids]
    rewrite_manifest(folder, golden=golden(folder, prompt, 12))
    return folder
