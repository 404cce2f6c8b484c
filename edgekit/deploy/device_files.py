"""What of the native code a device gets: the program, and the C library with its headers where the device can load it.

Both are compiled for the ``target`` of the device's profile. The program is the static one wherever there is one,
because it runs with every C library and on Android.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..devices import DeviceProfile
from ..errors import BundleError, EdgekitError
from ..host import cache_folder
from .compile import Compiled, Toolchain, compile_native
from .targets import Target, target_named

Compile = Callable[[Target], Compiled]

# The target of a profile: what the program and the library are compiled for; None: there is no such library.
_COMPILED: dict[str, tuple[str, str | None]] = {
    "linux-x86_64": ("musl-x86_64", "linux-x86_64"),
    "linux-aarch64": ("musl-aarch64", "linux-aarch64"),
    "musl-x86_64": ("musl-x86_64", "musl-x86_64"),
    "musl-aarch64": ("musl-aarch64", "musl-aarch64"),
    "android-aarch64": ("musl-aarch64", None),
    "macos-arm64": ("macos-arm64", "macos-arm64"),
}
_NO_LIBRARY = (
    "the bundle has no C library: a library for Android apps must be built with the Android NDK. edgekit-run is static "
    "and runs through adb"
)


@dataclass(frozen=True)
class DeviceFiles:
    """The native files of a bundle.

    Attributes:
        target: The target of the program.
        program: edgekit-run.
        library: The C library; None if the device cannot load one.
        headers: The headers of the library; empty without one.
        licences: Licence texts of what is linked into them, by the component's name.
        notes: What a user should know, one sentence each.
    """

    target: Target
    program: Path
    library: Path | None
    headers: tuple[Path, ...]
    licences: dict[str, Path]
    notes: tuple[str, ...] = ()


def device_files(device: DeviceProfile, compile_for: Compile | None = None) -> DeviceFiles:
    """Compile what a device needs, unless the cache has it.

    Args:
        device: Its profile names the target.
        compile_for: Compiles for a target; None: with zig, into edgekit's cache folder.

    Raises:
        BundleError: The profile names no target, or one that cannot be compiled for here.
        MissingPackageError: zig, cmake or ninja is not installed.
        CompileError: It could not be compiled.
    """
    if not device.target:
        raise BundleError(
            f"cannot bundle for {device.name}: its profile does not say what to compile for",
            hint='add a line such as target = "linux-aarch64" to the profile; edgekit compile -h lists the targets',
        )
    if device.target not in _COMPILED:
        raise BundleError(
            f"cannot bundle for {device.name}: edgekit cannot compile for {device.target}; it can for "
            + ", ".join(_COMPILED),
            hint="build an app with the sources of the C library instead: docs/runtime.md",
        )
    program_target, library_target = _COMPILED[device.target]
    compile_for = compile_for or _compile_with_zig
    with_program = compile_for(target_named(program_target))
    same = library_target in (None, program_target)
    with_library = with_program if library_target is None or same else compile_for(target_named(library_target))
    return DeviceFiles(
        target=with_program.target,
        program=with_program.program,
        library=None if library_target is None else with_library.library,
        headers=() if library_target is None else with_library.headers,
        licences=linked_licences(with_program.target),
        notes=(_NO_LIBRARY,) if library_target is None else (),
    )


def linked_licences(target: Target) -> dict[str, Path]:
    """The licence texts of the libraries that zig links into a program, where zig's package has them."""
    try:
        lib = Toolchain.find().zig.parent / "lib"
    except EdgekitError:
        return {}
    texts = {"libc++": lib / "libcxx/LICENSE.TXT", "libunwind": lib / "libunwind/LICENSE.TXT"}
    if target.is_static:
        texts["musl"] = lib / "libc/musl/COPYRIGHT"
    return {name: path for name, path in texts.items() if path.is_file()}


def _compile_with_zig(target: Target) -> Compiled:
    return compile_native(target, cache_folder() / "native")
