"""The native library, reached by ctypes: one binding for every function of ``include/edgekit.h``."""

from __future__ import annotations

import ctypes
import sys
import sysconfig
from functools import cache
from pathlib import Path

from ..errors import NativeLibraryError

ABI_VERSION = 1

OK, BAD_ARGUMENT, NON_FINITE = 0, 1, 2
FLOAT32, FLOAT16, BFLOAT16 = 0, 1, 2

_NAME = {"win32": "edgekit_native.dll", "darwin": "libedgekit_native.dylib"}.get(sys.platform, "libedgekit_native.so")


@cache
def library() -> ctypes.CDLL:
    """Load the library once.

    Raises:
        NativeLibraryError: It was not built, or its ABI is another version's.
    """
    # An editable install keeps the Python files in the checkout and the built library in site-packages.
    folders = (Path(__file__).parent, Path(sysconfig.get_path("platlib")) / "edgekit" / "native")
    path = next((f / _NAME for f in folders if (f / _NAME).is_file()), None)
    if path is None:
        raise NativeLibraryError(
            f"edgekit's native library {_NAME} is not in {folders[0]}",
            hint="install the package: pip install . in the checkout, or pip install -e . to run from the source tree",
        )
    try:
        lib = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeLibraryError(f"cannot load {path}: {error}") from None
    found = lib.ek_abi_version()
    if found != ABI_VERSION:
        raise NativeLibraryError(
            f"{path} has ABI version {found}; this edgekit needs {ABI_VERSION}", hint="install the package again"
        )
    pointer, long = ctypes.c_void_p, ctypes.c_int64
    lib.ek_quantize_rows.argtypes = [
        pointer, ctypes.c_int, long, long, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int,
        pointer, pointer, pointer, ctypes.POINTER(long),
    ]  # fmt: skip
    lib.ek_quantize_rows.restype = ctypes.c_int
    return lib
