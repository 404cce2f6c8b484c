"""Measures what int8 keys and values cost: the mean KL divergence of an artifact's predictions from those with float16.

    python tools/kv_cost.py smollm2-135m-cpu

reads the texts of the tests with both types of KV cache, and prints nats per token for each. The figures stand in
edgekit/planning/kv_choice.py. A part of them is rounding: int8 activations fall to other sides of their rounding
boundaries with any change of a sum. ``order`` is that part alone: the same sums in another order.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekit.artifact.manifest import read_manifest
from edgekit.runtime.engine import Engine, EngineOptions, open_engine
from edgekit.runtime.tokenizer import Tokenizer

ROOT = Path(__file__).parents[1]
TEXTS = ("tests/support/prose.txt", "tests/support/markdown.txt", "LICENSE")
PIECE = 64  # tokens evaluated at once: 64 rows of 152,000 logits in float64 are 78 MB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("artifacts", nargs="+", type=Path, metavar="ARTIFACT", help="a folder of edgekit build")
    parser.add_argument("--tokens", type=int, default=896, help="tokens of each text [default: 896]")
    options = parser.parse_args()
    for folder in options.artifacts:
        for text in TEXTS:
            costs = measure(folder, (ROOT / text).read_text(encoding="utf-8"), options.tokens)
            print(
                f"{folder.name}, {text}: " + ", ".join(f"{name} {cost:.4f}" for name, cost in costs.items()), flush=True
            )


def measure(folder: Path, text: str, tokens: int) -> dict[str, float]:
    """Mean KL divergence from the float16 cache, in nats per token.

    Args:
        folder: The artifact.
        text: What to read.
        tokens: Tokens of the text to read at most.

    Returns:
        ``int8``: with an int8 cache. ``order``: with a float16 cache, in shorter pieces.
    """
    manifest = read_manifest(folder)
    ids = Tokenizer.open(folder, manifest.tokens).encode(text)[:tokens]
    with ExitStack() as stack:

        def opened(kv_type: str) -> Engine:
            asked = EngineOptions(context=len(ids), all_logits=True, kv_type=kv_type)
            return stack.enter_context(closing(open_engine(folder, manifest, asked, "native")))

        reference, others = opened("float16"), {"int8": (opened("int8"), PIECE), "order": (opened("float16"), 8)}
        sums = dict.fromkeys(others, 0.0)
        for start in range(0, len(ids), PIECE):
            piece = ids[start : start + PIECE]
            expected = _log_softmax(reference.evaluate(piece))
            for name, (engine, step) in others.items():
                rows = [engine.evaluate(piece[i : i + step]) for i in range(0, len(piece), step)]
                sums[name] += float((np.exp(expected) * (expected - _log_softmax(np.concatenate(rows)))).sum())
    return {name: total / len(ids) for name, total in sums.items()}


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


if __name__ == "__main__":
    main()
