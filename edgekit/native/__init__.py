"""The native library through ctypes: a binding for each function of its headers in ``include/``."""

from __future__ import annotations

import ctypes
import sys
import sysconfig
from functools import cache
from pathlib import Path

from ..errors import NativeLibraryError

ABI_VERSION = 3

OK, BAD_ARGUMENT, NON_FINITE, BAD_FILE, UNSUPPORTED, NO_MEMORY, CONTEXT, TOKEN, INTERNAL = range(9)
BUSY, CALLBACK, CANCELLED, FORKED = 9, 10, 11, 12
FLOAT32, FLOAT16, BFLOAT16 = 0, 1, 2
KV_TYPES = ("float16", "int8")  # indexed by ek_kv_type
MOST_TOGETHER = 16  # sessions in one ek_session_step
BLOCK = 64  # EK_BLOCK: tokens

_NAME = {"win32": "edgekit_native.dll", "darwin": "libedgekit_native.dylib"}.get(sys.platform, "libedgekit_native.so")


@cache
def library() -> ctypes.CDLL:
    """Load the library; later calls return the same object.

    Raises:
        NativeLibraryError: The library was not built, or belongs to another version of edgekit.
    """
    # An editable install keeps the Python files in the checkout and the built library in site-packages.
    folders = (Path(__file__).parent, Path(sysconfig.get_path("platlib")) / "edgekit" / "native")
    path = next((f / _NAME for f in folders if (f / _NAME).is_file()), None)
    if path is None:
        raise NativeLibraryError(
            f"cannot find edgekit's native library {_NAME} in {folders[0]}",
            hint="install the package: pip install . in the checkout, or pip install -e . to run from the source tree",
        )
    try:
        lib = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeLibraryError(f"cannot load {path}: {error}") from None
    found = lib.ek_abi_version()
    if found != ABI_VERSION:
        raise NativeLibraryError(
            f"cannot use {path}: it has ABI version {found}, this edgekit needs {ABI_VERSION}",
            hint="install the package again",
        )
    for name, (result, *arguments) in _SIGNATURES.items():
        function = getattr(lib, name, None)
        if function is None:
            raise NativeLibraryError(
                f"cannot use {path}: it is older than this edgekit and has no function {name}",
                hint="install the package again",
            )
        function.restype, function.argtypes = result, arguments
    return lib


class Sampling(ctypes.Structure):
    """ek_sampling."""

    _fields_ = (
        *((name, ctypes.c_float) for name in ("temperature", "top_p", "min_p", "repetition_penalty")),
        ("top_k", ctypes.c_int32),
    )


class Matrix(ctypes.Structure):
    """ek_matrix."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("codes", "scales", "zero_points", "bias")),
        *((name, ctypes.c_int64) for name in ("n", "k")),
        *((name, ctypes.c_int32) for name in ("bits", "block_size", "scale_dtype")),
    )


class MemoryInfo(ctypes.Structure):
    """ek_memory_info."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("total_bytes", "available_bytes")),
        *((name, ctypes.c_char_p) for name in ("total_source", "available_source")),
    )


class CoreInfo(ctypes.Structure):
    """ek_core_info."""

    _fields_ = tuple((name, ctypes.c_int32) for name in ("physical", "fast", "threads", "is_reported"))


_POINTER, _LONG, _INT, _TEXT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_char_p
# The result type, then the argument types, as declared in the headers.
_SIGNATURES: dict[str, tuple[type | None, ...]] = {
    "ek_quantize_rows": (
        _INT, _POINTER, _INT, _LONG, _LONG, _INT, _INT, _INT, _INT, _POINTER, _POINTER, _POINTER,
        ctypes.POINTER(ctypes.c_int64),
    ),
    "ek_last_error": (_TEXT,),
    "ek_kernel_name": (_TEXT,),
    "ek_model_open": (_INT, _TEXT, ctypes.POINTER(ctypes.c_void_p)),
    "ek_model_close": (None, _POINTER),
    "ek_model_vocab_size": (_LONG, _POINTER),
    "ek_model_context_length": (_LONG, _POINTER),
    "ek_session_create": (_INT, _POINTER, _LONG, _INT, _INT, ctypes.POINTER(ctypes.c_void_p)),
    "ek_session_free": (None, _POINTER),
    "ek_session_position": (_LONG, _POINTER),
    "ek_session_cache_bytes": (_LONG, _POINTER),
    "ek_session_threads": (_INT, _POINTER, ctypes.POINTER(_INT)),
    "ek_session_evaluate": (_INT, _POINTER, _POINTER, _LONG, _INT, _POINTER),
    "ek_session_step": (_INT, _POINTER, ctypes.POINTER(_POINTER), _POINTER, _LONG, _POINTER),
    "ek_session_step_pieces": (
        _INT, _POINTER, ctypes.POINTER(_POINTER), _POINTER, _POINTER, _LONG, _POINTER,
    ),
    "ek_session_rewind": (_INT, _POINTER, _LONG),
    "ek_session_copy": (_INT, _POINTER, _POINTER),
    "ek_session_block_bytes": (_LONG, _POINTER),
    "ek_session_get_block": (_INT, _POINTER, _LONG, _POINTER),
    "ek_session_append_block": (_INT, _POINTER, _POINTER, _POINTER),
    "ek_session_save": (_INT, _POINTER, _TEXT),
    "ek_session_load": (_INT, _POINTER, _TEXT),
    "ek_session_tokens": (_INT, _POINTER, _POINTER, _LONG),
    "ek_default_threads": (_INT,),
    "ek_host_memory": (_INT, _TEXT, ctypes.POINTER(MemoryInfo)),
    "ek_host_cores": (_INT, _TEXT, _POINTER, _LONG, ctypes.POINTER(CoreInfo)),
    "ek_kernel_candidate": (_TEXT, _INT, _INT, ctypes.POINTER(_INT), ctypes.POINTER(ctypes.c_double)),
    "ek_kernel_at": (_TEXT, _INT, ctypes.POINTER(_INT)),
    "ek_measure_bandwidth": (_INT, _INT, _LONG, ctypes.POINTER(ctypes.c_double)),
    "ek_measure_kernel": (_INT, _TEXT, _INT, ctypes.POINTER(ctypes.c_double)),
    "ek_model_token_bytes": (_LONG, _POINTER),
    "ek_model_prompt_multiply_adds": (_LONG, _POINTER, _LONG),
    "ek_sample": (_INT, _POINTER, _LONG, ctypes.POINTER(Sampling), _POINTER, ctypes.POINTER(ctypes.c_uint64),
                  ctypes.POINTER(ctypes.c_int32)),
    "ek_session_sample": (_INT, _POINTER, _POINTER, _LONG, _POINTER, _POINTER, _POINTER, _POINTER),
    "ek_multiply": (_INT, _TEXT, ctypes.POINTER(Matrix), _POINTER, _LONG, _INT, _POINTER),
    "ek_session_next": (_INT, _POINTER, ctypes.c_int32, _POINTER),
    "ek_session_accepted": (_LONG, _POINTER),
    "ek_session_set_draft": (_INT, _POINTER, _POINTER),
    "ek_text_open": (_INT, _TEXT, ctypes.POINTER(_POINTER)),
    "ek_text_close": (None, _POINTER),
    "ek_text_describe": (_INT, _POINTER, _POINTER),
    "ek_text_stop_id": (ctypes.c_int32, _POINTER, ctypes.c_int32),
    "ek_text_token_id": (ctypes.c_int32, _POINTER, _TEXT),
    "ek_text_encode": (_INT, _POINTER, _TEXT, _LONG, _INT, _POINTER, _LONG, ctypes.POINTER(_LONG)),
    "ek_text_decode": (_INT, _POINTER, _POINTER, _LONG, _POINTER, _LONG, ctypes.POINTER(_LONG)),
    "ek_text_prompt": (_INT, _POINTER, _POINTER, _LONG, _POINTER, _LONG, ctypes.POINTER(_LONG)),
    "ek_text_words": (
        _INT, _POINTER, _TEXT, _LONG, _POINTER, _LONG, ctypes.POINTER(_LONG), _POINTER, _LONG, ctypes.POINTER(_LONG),
    ),
    "ek_stream_create": (_INT, _POINTER, ctypes.POINTER(_POINTER)),
    "ek_stream_free": (None, _POINTER),
    "ek_stream_push": (_INT, _POINTER, ctypes.c_int32, ctypes.POINTER(_POINTER), ctypes.POINTER(_LONG)),
    "ek_stream_finish": (_INT, _POINTER, ctypes.POINTER(_POINTER), ctypes.POINTER(_LONG)),
    "ek_generate": (_INT, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER),
    "ek_prepare": (_INT, _POINTER, _POINTER, _POINTER, _LONG),
    "ek_watch_create": (_INT, _LONG, _INT, _INT, ctypes.POINTER(_POINTER)),
    "ek_watch_free": (None, _POINTER),
    "ek_watch_push": (_INT, _POINTER, ctypes.c_int32, _INT, ctypes.POINTER(ctypes.c_int32)),
    "ek_watch_adjust": (_INT, _POINTER, _POINTER, _LONG),
    "ek_watch_loops": (_LONG, _POINTER),
    "ek_thought_closing": (_INT, ctypes.c_int32, _TEXT, _LONG, _TEXT, _LONG, ctypes.POINTER(_LONG)),
    "ek_session_cancel": (None, _POINTER),
    "ek_attend": (_INT, _POINTER, _LONG, _LONG, _LONG, _LONG, _POINTER, _POINTER, _INT, _POINTER),
}  # fmt: skip


def last_error() -> str:
    """The message of the last failed call in this thread."""
    text: bytes = library().ek_last_error()
    return text.decode("utf-8", "replace")
