"""The published speeds that the planner is fitted to, and the work behind each.

``measured.csv``: one row per published figure with its source. ``fitted_as``, ``processor``, ``engine`` and ``format``
are the levels of ``edgekit/planning/efficiency.py``. ``size_gb`` is the file or the weights, with or without the input
embedding; ``positions`` the mean of the KV cache while decoding; ``bandwidth_gb_s`` the memory's specification;
``arithmetic_gmac_s`` what the processor does at most in 8 bits, by the rules of ``edgekit/planning/hardware.py``, and
in 4 for NVFP4, which Blackwell multiplies as it is.
``use``: ``fit``; ``weak``, whose publisher or conditions make it doubtful (debug builds, clocks not pinned, "about"),
and ``memory``, a figure nobody saw again: both only to look at. Left out altogether: models that read a part of their
file (per-layer embeddings), files larger than memory, rows without size or bandwidth.

``shapes.csv``: the models' published shapes, for what a token reads and computes.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from edgekit.planning.efficiency import Levels

FOLDER = Path(__file__).parent
TYPICAL_POSITIONS = 256  # where a source does not say at which context it decoded: a question and an answer
TYPICAL_PROMPT = 512  # where it does not say how long the prompt was: what llama-bench takes
KV_BYTES = 2  # float16, what all these engines keep
# Of a file, for a weight: codes, scales, and the tensors that are kept in more.
BITS_PER_WEIGHT = {"3bit": 3.5, "4bit": 4.5, "4bit-k": 4.8, "8bit": 8.5, "float16": 16.0}


@dataclass(frozen=True)
class Shape:
    """A published model; ``tied``: its embedding is its lm_head, and read for every token."""

    parameters: float
    layers: int
    hidden: int
    attention_width: int
    kv_width: int
    vocab: int
    tied: bool

    @property
    def table(self) -> int:
        """Weights of the embedding."""
        return self.hidden * self.vocab

    @property
    def multiply_adds(self) -> float:
        """Of a prompt's token: the layers; the lm_head is computed for the last one only."""
        return self.parameters - self.table * (1 if self.tied else 2)


@dataclass(frozen=True)
class Row:
    """A published figure.

    Attributes:
        read_bytes: Weights and KV cache read for a token.
        layers: For the fixed cost.
        decode_s: Seconds for a token.
        prefill_s: Seconds for a token of the prompt; None where it was not published.
        multiply_adds: Of a token of the prompt with weights.
        attention_multiply_adds: Of a token of the prompt, in the mean.
        arithmetic_gmac_s: What the processor could do at most; None where it is not known.
    """

    device: str
    source: str
    use: str
    levels: Levels
    model: str
    quant: str
    read_bytes: float
    bandwidth_gb_s: float
    layers: int
    decode_s: float
    prefill_s: float | None
    multiply_adds: float
    attention_multiply_adds: float
    arithmetic_gmac_s: float | None

    @property
    def fitted_as(self) -> str:
        """The class of its device."""
        return self.levels.fitted_as

    @property
    def publisher(self) -> str:
        """Whose site its source is on: what many people report there may be measured by one protocol."""
        return self.source.partition("#")[0].partition("/")[0]


def read_shapes(folder: Path = FOLDER) -> dict[str, Shape]:
    """The models of ``shapes.csv``."""
    with (folder / "shapes.csv").open(encoding="utf-8", newline="") as file:
        return {
            r["model"]: Shape(
                float(r["parameters_b"]) * 1e9,
                int(r["layers"]),
                int(r["hidden"]),
                int(r["attention_width"]),
                int(r["kv_width"]),
                int(r["vocab"]),
                r["tied"] == "1",
            )
            for r in csv.DictReader(file)
        }


def read_rows(path: Path = FOLDER / "measured.csv") -> list[Row]:
    """Every row of a file in the form of ``measured.csv``."""
    shapes = read_shapes()
    with path.open(encoding="utf-8", newline="") as file:
        return [_row(r, shapes.get(r["model"])) for r in csv.DictReader(file)]


def _row(r: dict[str, str], shape: Shape | None) -> Row:
    size = float(r["size_gb"]) * 1e9
    positions = int(r["positions"] or TYPICAL_POSITIONS)
    kv_bytes = unread = 0.0
    multiply_adds, layers, width = size * 8 / BITS_PER_WEIGHT[r["format"]], 28, 2048  # of a model without shapes
    if shape is not None:
        layers, multiply_adds, width = shape.layers, shape.multiply_adds, shape.attention_width
        kv_bytes = 2.0 * shape.layers * shape.kv_width * KV_BYTES * positions
        if not shape.tied and r["size_has_embedding"] == "yes":
            unread = shape.table * (2.0 if r["format"] == "float16" else size / shape.parameters)
    prompt = int(r["prompt_tokens"] or TYPICAL_PROMPT)
    return Row(
        device=r["device"],
        source=r["source"],
        use=r["use"],
        levels=Levels(r["processor"], r["fitted_as"], r["engine"], r["format"]),
        model=r["model"],
        quant=r["quant"],
        read_bytes=size - unread + kv_bytes,
        bandwidth_gb_s=float(r["bandwidth_gb_s"]),
        layers=layers,
        decode_s=1 / float(r["decode_tok_s"]),
        prefill_s=1 / float(r["prefill_tok_s"]) if r["prefill_tok_s"] else None,
        multiply_adds=multiply_adds,
        attention_multiply_adds=2.0 * layers * width * prompt / 2,
        arithmetic_gmac_s=float(r["arithmetic_gmac_s"]) if r["arithmetic_gmac_s"] else None,
    )
