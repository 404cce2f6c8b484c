"""An engine as planning sees it: its memory and its speed. Each file of ``planning/engines/`` describes one engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..devices.profile import DeviceProfile
from ..layout import DataLayout
from .engine_speed import EngineShares
from .memory import Dimensions, MemoryPlan, WeightBytes


@dataclass(frozen=True)
class EngineSetup:
    """The settings of an engine on which its memory depends.

    Attributes:
        context: Positions of the KV cache.
        kv_type: Type of keys and values: ``float32``, ``float16`` or ``int8``.
        threads: Threads of the arithmetic.
        accelerator_bytes: Memory of the accelerator's libraries, 0 where unknown; None when the processor does the
            arithmetic.
    """

    context: int
    kv_type: str
    threads: int
    accelerator_bytes: int | None = None


@dataclass(frozen=True)
class PlannedEngine:
    """Everything planning knows of one engine.

    Attributes:
        name: The engine's name, which is also the name of its file.
        preference: Whether ``auto`` takes the engine on a device: of those with the highest number it takes the fastest
            one that fits (``engine_choice.py``). None: the engine cannot run there.
        processor: The kind of processor that does the arithmetic on a device: ``cpu``, or for its accelerator ``gpu``
            (with memory of its own), ``shared-gpu`` (shares the system's memory), ``mobile-gpu`` or ``npu``.
        kv_types: Types of keys and values the engine can keep for a graph of this activation type, its default first.
        memory: Memory by part.
        runtime_bytes: Resident memory before a model is opened, without the tokenizer.
        reads_weights_to_load: Whether loading brings all weights into memory, so that a larger file raises the peak.
        fitted_as: The engine's name in ``fitted.py``.
        shares: The share of a probed processor's limits that the engine reaches; None for an engine that does not run
            on the processor.
        title: The engine's name in a sentence; empty for ``fitted_as``.
        needs: What has to be installed on a device in addition to edgekit; empty where nothing has.
        uses_vector_units: Whether the accelerator's vector units (shader cores) do the products with weights, and not
            its matrix units.
    """

    name: str
    preference: Callable[[DeviceProfile], int | None]
    processor: Callable[[DeviceProfile], str]
    kv_types: Callable[[str], tuple[str, ...]]
    memory: Callable[[Dimensions, DataLayout, WeightBytes, EngineSetup], MemoryPlan]
    runtime_bytes: int
    reads_weights_to_load: bool
    fitted_as: str
    shares: EngineShares | None
    title: str = ""
    needs: Callable[[DeviceProfile], str] = lambda device: ""
    uses_vector_units: bool = False
