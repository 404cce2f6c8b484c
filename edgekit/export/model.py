"""Exports a model: writes its graph and its data file into a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

from ..layout import DataLayout, Matrix, plan_layout
from ..models.spec import ModelSpec
from ..progress import Share, no_share
from ..quantize.packing import PackedLinear
from ..scheme import QuantizationConfig
from ..weights.source import WeightSource
from .data_writer import write_data
from .decoder import build_decoder
from .onnx_graph import DATA_FILE

MODEL_FILE = "model.onnx"
# Quantizes the layout's calibrated matrices: yields each of them with its codes.
LayerQuantizer = Callable[[DataLayout], Iterable[tuple[Matrix, PackedLinear]]]


def export_model(
    folder: Path,
    spec: ModelSpec,
    source: WeightSource,
    quantization: QuantizationConfig,
    *,
    activation_type: str,
    max_context: int,
    threads: int,
    layers: LayerQuantizer | None = None,
    progress: Share = no_share,
    half_scales: bool = False,
) -> DataLayout:
    """Write ``model.onnx`` and ``model.onnx.data``.

    Args:
        folder: An existing folder that contains neither file.
        spec: The model.
        source: Its weights.
        quantization: The formats; ``QuantizationConfig.none()`` writes the float graph.
        activation_type: ``float32`` or ``float16``.
        max_context: Positions that the artifact can hold.
        threads: Number of chunks of rows quantized at the same time.
        layers: Quantizes the matrices of the layers. None: they are rounded to nearest.
        progress: Called with (weights done, weights in all).
        half_scales: See :func:`write_data`.

    Returns:
        The layout of the data file.

    Raises:
        EdgekitError: See :func:`build_decoder` and :func:`write_data`.
    """
    layout = plan_layout(spec, quantization, activation_type, max_context)
    model = build_decoder(spec, layout, version("edgekit-llm"))  # rejects an unsupported model before any work
    quantized = None if layers is None else layers(layout)
    write_data(folder / DATA_FILE, layout, spec, source, progress, threads, half_scales, quantized)
    (folder / MODEL_FILE).write_bytes(model.SerializeToString(deterministic=True))
    return layout
