"""The graph of an artifact as the comparison with an accelerator takes it apart, and the kept result of one."""

import json
from functools import cache

import fuzz_changes
import onnx
from fuzz_files import artifact, written

from edgekit.runtime.proof.graph import FLOAT, node_model, read_graph, with_float_products
from edgekit.runtime.proof.kernels import distinct_kernels
from edgekit.runtime.proof.verdict import Subject, Verdict, _read
from edgekit.runtime.provider import Setup

__all__ = ["change", "read", "seeds"]
_SUBJECT = Subject("webgpu", "Some GPU", "1.2.3", "onnxruntime 1.32.0", "ab" * 32)
_SAMPLE = {"sample_ids": (1, 2), "sample_logits": ({"id": 1, "logit": 0.5},)}


@cache
def seeds() -> list[bytes]:
    model = onnx.load_from_string((artifact("proof") / "model.onnx").read_bytes())
    whole = model.SerializeToString()
    del model.graph.node[9:]
    setup = Setup(31, ("/a",), True)
    verdict = Verdict(_SUBJECT, "tiny", True, setup, "fine", ("x",), 3, 12, 1e-6, 1e-5, 0.0, 2.5, **_SAMPLE)
    return [model.SerializeToString(), whole, json.dumps(verdict.to_json()).encode()]


def change(choose, data):
    change = fuzz_changes.json_change if data.startswith(b"{") else fuzz_changes.binary_change
    return change(choose, data)


def read(data: bytes) -> None:
    if data.startswith(b"{"):
        found = _read(written("verdict.json", data))
        if found is not None:
            assert isinstance(found.passed, bool)
            json.dumps(found.to_json(), allow_nan=False)
        return
    read_graph(with_float_products(data))
    graph = read_graph(data)
    for kernel in distinct_kernels(graph):
        node_model(
            graph, kernel.node, dict.fromkeys(kernel.node.inputs, FLOAT), dict.fromkeys(kernel.node.outputs, FLOAT)
        )
