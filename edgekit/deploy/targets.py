"""The systems that edgekit's native library and the program edgekit-run can be compiled for."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UnknownNameError, nearest

OLDEST_GLIBC = "2.28"  # Debian 10, RHEL 8, Ubuntu 20.04 (JetPack 5) and later


@dataclass(frozen=True)
class Target:
    """A processor architecture, an operating system and a C library.

    Attributes:
        name: The name in edgekit, such as ``linux-aarch64``.
        zig: What zig calls it, with the oldest supported glibc.
        machine: The architecture as ``uname -m`` prints it.
        wheel_platform: The platform tag of a wheel, or None if edgekit builds no wheel for it.
        description: One line for people.
    """

    name: str
    zig: str
    machine: str
    wheel_platform: str | None
    description: str

    @property
    def library(self) -> str:
        """The file name of the shared library."""
        return "libedgekit_native." + ("dylib" if "macos" in self.zig else "so")

    @property
    def is_static(self) -> bool:
        """Whether edgekit-run needs no library of the system."""
        return self.zig.endswith("musl")


_ARCHITECTURES = ("x86_64", "aarch64")
TARGETS = (
    *(
        Target(f"linux-{machine}", f"{machine}-linux-gnu.{OLDEST_GLIBC}", machine,
               f"manylinux_{OLDEST_GLIBC.replace('.', '_')}_{machine}", f"Linux with glibc {OLDEST_GLIBC} or later")
        for machine in _ARCHITECTURES
    ),
    *(
        Target(f"musl-{machine}", f"{machine}-linux-musl", machine, f"musllinux_1_2_{machine}",
               "Linux with musl; the program is static and runs on any Linux and on Android")
        for machine in _ARCHITECTURES
    ),
    Target("macos-arm64", "aarch64-macos.12.0", "arm64", None, "macOS 12 or later; compiled and linked, never run"),
)  # fmt: skip


def target_named(name: str) -> Target:
    """The target with this name.

    Raises:
        UnknownNameError: There is no such target.
    """
    for target in TARGETS:
        if target.name == name:
            return target
    known = [target.name for target in TARGETS]
    raise UnknownNameError(f"there is no target {name!r}; {nearest(name, known)}", hint="list them: edgekit compile -h")
