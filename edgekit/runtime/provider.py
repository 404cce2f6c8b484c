"""Execution providers of onnxruntime: the sessions, device memory and errors that its engines share.

Each engine that runs on onnxruntime describes its provider as a :class:`Provider`; ``io_binding.py`` runs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import AcceleratorError, EngineError, shown_command
from ..ort import import_onnxruntime
from .proof.graph import with_float_products

MODEL_FILE = "model.onnx"
LOGITS_START = "logits_start"
FIRST_POSITION = -(2**62)  # a Slice clamps it to 0
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True)
class Setup:
    """How a provider runs an artifact, so that its results are right.

    Attributes:
        prefill_chunk: Tokens of a prompt that are evaluated together.
        cpu_nodes: Nodes that the processor runs.
        cache_on_processor: Whether the nodes that use keys and values are among them.
    """

    prefill_chunk: int
    cpu_nodes: tuple[str, ...] = ()
    cache_on_processor: bool = False


@dataclass(frozen=True)
class Provider:
    """An execution provider, as an engine uses it.

    Attributes:
        name: onnxruntime's name of it.
        title: Its name for people.
        prefill_chunk: Tokens of a prompt that are evaluated together.
        attach: Called with the onnxruntime module, the options of a session that is about to be made, and the names of
            nodes that the processor is to run. Makes the provider ready and returns the ``providers`` argument of the
            session. Raises AcceleratorError if this machine cannot use the provider.
        memory: onnxruntime's names of the memory in which keys and values are kept: device type and vendor id; None
            for the system's memory.
        places_nodes: Whether it can leave nodes to the processor.
        float_products: Whether products keep activations in float, although the artifact asks for int8.
    """

    name: str
    title: str
    prefill_chunk: int
    attach: Callable[[Any, Any, Sequence[str]], Sequence[str]]
    memory: tuple[str, int] | None = None
    places_nodes: bool = False
    float_products: bool = False

    @property
    def on_processor(self) -> bool:
        """Whether the processor does the arithmetic."""
        return self.memory is None

    def allocate(self, ort: Any, shape: tuple[int, ...], dtype: type[np.floating[Any]]) -> Any:
        """A tensor in the provider's memory."""
        if self.memory is None:
            return allocate_pages(ort, shape, dtype)
        kind, vendor = self.memory
        return ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype, kind, 0, vendor)


def allocate_pages(ort: Any, shape: tuple[int, ...], dtype: type[np.floating[Any]]) -> Any:
    """A tensor in the system's memory, whose pages are provided when they are first written."""
    return ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, dtype=dtype))


def load_onnxruntime() -> Any:
    """The onnxruntime module.

    Raises:
        EngineError: It is not installed, or cannot be loaded.
    """
    try:
        return import_onnxruntime()
    except ImportError as error:
        raise EngineError(
            f"onnxruntime cannot be imported: {one_line(error)}", hint="pip install onnxruntime"
        ) from None


def open_session(
    ort: Any, folder: Path, provider: Provider, threads: int, first_row: Any, cpu_nodes: Sequence[str] = ()
) -> Any:
    """An ``InferenceSession`` of an artifact's graph.

    Args:
        ort: The onnxruntime module.
        folder: The artifact.
        provider: Runs the graph.
        threads: Threads of what runs on the processor.
        first_row: An OrtValue that replaces the graph's ``logits_start``, or None. The session reads it from there
            and does not keep it alive.
        cpu_nodes: Nodes that the processor is to run.

    Raises:
        EngineError: The graph cannot be loaded, or the provider cannot be used; in one line.
    """
    path = folder / MODEL_FILE
    if not path.is_file():
        raise EngineError(
            f"{folder} has no {MODEL_FILE}", hint=f"{shown_command('verify', folder)} lists what is missing"
        )
    options = session_options(ort, threads)
    if first_row is not None:
        options.add_initializer(LOGITS_START, first_row)
    model: str | bytes = _encoded(path)
    if provider.float_products:
        model = with_float_products(path.read_bytes())
        options.add_session_config_entry(_WEIGHTS_FOLDER, _encoded(folder))
    providers = provider.attach(ort, options, cpu_nodes)
    try:
        session = ort.InferenceSession(model, options, providers=list(providers))
    except onnxruntime_errors() as error:
        raise _load_error(ort, folder, provider, error) from error
    if session.get_providers()[0] != provider.name:  # onnxruntime falls back to the processor when CUDA cannot start
        raise AcceleratorError(
            f"onnxruntime {ort.__version__} cannot start {provider.title} on this machine and would run on "
            f"{session.get_providers()[0].removesuffix('ExecutionProvider')}",
            hint="use --engine auto, native or ort",
        )
    return session


def open_model(ort: Any, folder: Path, provider: Provider, threads: int, model: bytes) -> Any:
    """An ``InferenceSession`` of a model whose weights are in an artifact's folder.

    Raises:
        AcceleratorError: The provider cannot be used.
        Exception: One of :func:`onnxruntime_errors`: the model cannot be loaded.
    """
    options = session_options(ort, threads)
    options.add_session_config_entry(_WEIGHTS_FOLDER, _encoded(folder))
    return ort.InferenceSession(model, options, providers=list(provider.attach(ort, options, ())))


def session_options(ort: Any, threads: int) -> Any:
    """The settings of every session."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; they come back as exceptions too
    # With the arena the peak is 8 % lower than with the C library (SmolLM2-135M, 512-token prefill: 282 and 307 MB).
    # Memory patterns are planned per input shape: they add 10 MB and gain nothing when prompts differ in length.
    options.enable_cpu_mem_arena = True
    options.enable_mem_pattern = False
    return options


def _encoded(path: Path) -> str:
    """A path for onnxruntime, which encodes it as UTF-8, whatever the locale that Python has decoded it with."""
    try:
        return os.fsencode(path).decode("utf-8")
    except UnicodeError:
        raise EngineError(
            f"onnxruntime cannot load {path}: the path is not UTF-8", hint="rename the folder, or use the native engine"
        ) from None


def _load_error(ort: Any, folder: Path, provider: Provider, error: Exception) -> EngineError:
    message = f"onnxruntime {ort.__version__} cannot load {folder / MODEL_FILE}: {one_line(error)}"
    if provider.on_processor:
        return EngineError(message, hint=f"{shown_command('verify', folder)} checks the files")
    if "No supported adapters" in str(error) or "WebGPU adapter" in str(error):
        return AcceleratorError(
            f"{provider.title} found no GPU on this machine: {one_line(error)}",
            hint="install the GPU's driver, and on Linux the Vulkan loader: apt-get install libvulkan1",
        )
    if lacks_float16(error):
        return no_float16(provider)
    if out_of_memory(error):
        return AcceleratorError(
            f"the weights of {folder} do not fit into the memory of {provider.title}: {one_line(error)}",
            hint="use the processor: --engine native",
        )
    return AcceleratorError(f"{provider.title}: {message}", hint="use the processor: --engine native")


def first_row_value(ort: Any) -> Any:
    """The value for :func:`open_session` with which the graph computes the logits of every position."""
    return ort.OrtValue.ortvalue_from_numpy(np.array([FIRST_POSITION], dtype=np.int64))


def onnxruntime_errors() -> tuple[type[Exception], ...]:
    """The exceptions that onnxruntime raises: its own, which have no common base class, and those that pybind11 makes
    of C++ exceptions."""
    from onnxruntime.capi import onnxruntime_pybind11_state

    own = [
        found
        for found in vars(onnxruntime_pybind11_state).values()
        if isinstance(found, type) and issubclass(found, Exception)
    ]
    return (RuntimeError, MemoryError, ValueError, *own)


def out_of_memory(error: Exception) -> bool:
    """Whether an exception of onnxruntime says that memory could not be allocated."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    phrases = (
        "out of memory", "out_of_device_memory", "failed to allocate", "bad_alloc", "failed to create buffer",
        "alloc failed", "[invalid buffer",  # WebGPU: a buffer that did not fit
    )  # fmt: skip
    return any(phrase in text for phrase in phrases)


def lacks_float16(error: Exception) -> bool:
    """Whether an exception of onnxruntime says that the GPU has no float16 shaders."""
    text = str(error).lower()
    return "f16" in text and ("support" in text or "enable" in text or "extension" in text)


def no_float16(provider: Provider, adapter: str = "this GPU") -> AcceleratorError:
    """The error for an artifact in float16 on a GPU that cannot compute in it."""
    return AcceleratorError(
        f"{provider.title}: the artifact computes in float16, for which {adapter} has no shaders",
        hint="build a float32 artifact, with --device cpu, or use the processor: --engine native",
    )


def one_line(error: Exception) -> str:
    """An exception's text in one line."""
    return " ".join(str(error).split()) or type(error).__name__
