"""The published speeds that the planner is fitted to, and the work of each.

``measured.csv`` has one row per published figure with its source:

    fitted_as, processor,   the levels of ``edgekit/planning/efficiency.py``
    engine, format
    size_gb                 size of the file or the weights, with or without the input embedding
    positions               mean length of the KV cache during decode
    bandwidth_gb_s          the memory's specification
    arithmetic_gmac_s       the processor's 8-bit peak by the rules of ``edgekit/planning/hardware.py``; the 4-bit peak
                            for NVFP4, which Blackwell multiplies directly
    use                     fit; test: kept aside while the model was chosen, and predicted by a fit without them; weak:
                            doubtful publisher or conditions (debug builds, clocks not pinned, "about"); memory: a
                            figure from memory that nobody confirmed. Planning uses the fit of ``fit`` and ``test``.

Models that read only a part of their file (per-layer embeddings), files larger than memory and rows without size or
bandwidth are not included.

``shapes.csv`` has the models' published shapes, which determine what a token reads and computes. ``chips.csv`` has what
the cores of a chip draw, where that is less than its memory delivers: the first chip whose name a row's device contains
applies to rows of processors.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from edgekit.planning.core_draw import drawn_bandwidth
from edgekit.planning.efficiency import Levels

FOLDER = Path(__file__).parent
TYPICAL_POSITIONS = 256  # where a source does not state the context: a question and an answer
TYPICAL_PROMPT = 512  # where a source does not state the length of the prompt: the default of llama-bench
KV_BYTES = 2  # float16, the type of all these engines
# Mean bits of a weight in a file: codes, scales, and tensors in wider formats.
BITS_PER_WEIGHT = {"3bit": 3.5, "4bit": 4.5, "4bit-k": 4.8, "8bit": 8.5, "float16": 16.0}


@dataclass(frozen=True)
class Shape:
    """A published model. If it is ``tied``, the embedding is also the lm_head and is read for every token."""

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
        """Multiply-adds of a prompt's token in the layers; only the last token needs the lm_head."""
        return self.parameters - self.table * (1 if self.tied else 2)


@dataclass(frozen=True)
class Row:
    """A published figure.

    Attributes:
        weight_bytes: Bytes of weights read for a token.
        read_bytes: Bytes of weights and KV cache read for a token.
        bandwidth_gb_s: The memory's, or a processor's where its cores draw less.
        layers: Number of layers, for the fixed cost.
        decode_s: Seconds to generate a token.
        prefill_s: Seconds per token of the prompt; None where it was not published.
        prompt_tokens: Tokens of the prompt.
        multiply_adds: Multiply-adds with weights of a token of the prompt.
        attention_multiply_adds: Mean multiply-adds of attention of a token of the prompt.
        arithmetic_gmac_s: The processor's peak; None where it is unknown.
    """

    device: str
    source: str
    use: str
    levels: Levels
    model: str
    quant: str
    weight_bytes: float
    read_bytes: float
    bandwidth_gb_s: float
    layers: int
    decode_s: float
    prefill_s: float | None
    prompt_tokens: int
    multiply_adds: float
    attention_multiply_adds: float
    arithmetic_gmac_s: float | None

    @property
    def fitted_as(self) -> str:
        """The class of the device."""
        return self.levels.fitted_as

    @property
    def class_key(self) -> str:
        """The class and the kind of processor."""
        return self.levels.keys()["class"]

    @property
    def publisher(self) -> str:
        """The site of the source; figures that many people report there may share one protocol."""
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


def read_draws(folder: Path = FOLDER) -> dict[str, float]:
    """GB/s that the cores of the chips of ``chips.csv`` read, the longest names first."""
    with (folder / "chips.csv").open(encoding="utf-8", newline="") as file:
        found = {r["chip"]: float(r["draw_gb_s"]) for r in csv.DictReader(file)}
    return {chip: found[chip] for chip in sorted(found, key=len, reverse=True)}


def read_rows(path: Path = FOLDER / "measured.csv") -> list[Row]:
    """Every row of a file in the form of ``measured.csv``."""
    shapes, draws = read_shapes(), read_draws()
    with path.open(encoding="utf-8", newline="") as file:
        return [_row(r, shapes.get(r["model"]), draws) for r in csv.DictReader(file)]


def _row(r: dict[str, str], shape: Shape | None, draws: dict[str, float]) -> Row:
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
    bandwidth = float(r["bandwidth_gb_s"])
    if r["processor"] == "cpu":
        bandwidth = drawn_bandwidth(bandwidth, next((draws[chip] for chip in draws if chip in r["device"]), None))
    return Row(
        device=r["device"],
        source=r["source"],
        use=r["use"],
        levels=Levels(r["processor"], r["fitted_as"], r["engine"], r["format"]),
        model=r["model"],
        quant=r["quant"],
        weight_bytes=size - unread,
        read_bytes=size - unread + kv_bytes,
        bandwidth_gb_s=bandwidth,
        layers=layers,
        decode_s=1 / float(r["decode_tok_s"]),
        prefill_s=1 / float(r["prefill_tok_s"]) if r["prefill_tok_s"] else None,
        prompt_tokens=prompt,
        multiply_adds=multiply_adds,
        attention_multiply_adds=2.0 * layers * width * prompt / 2,
        arithmetic_gmac_s=float(r["arithmetic_gmac_s"]) if r["arithmetic_gmac_s"] else None,
    )
