"""The classes of processors whose published speeds plans are based on: what ``fitted_as`` may name in a profile.

``planning/fitted.py`` has the figures of those for which speeds were published. A device of another class is planned
with the figures of its kind of processor.
"""

from __future__ import annotations

from ..errors import nearest

CLASSES = (
    "apple-cpu", "apple-metal", "arm-board", "desktop", "gb10", "geforce", "iphone-cpu", "iphone-gpu", "jetson",
    "jetson-volta", "laptop", "laptop-gpu", "laptop-npu", "mini-pc", "phone-cpu", "phone-gpu", "phone-npu", "radeon",
    "raspberry-pi-4", "raspberry-pi-5", "rk3588", "server",
)  # fmt: skip


def check_class(name: str) -> None:
    """Check the ``fitted_as`` of a profile; empty for no class.

    Raises:
        ValueError: There is no such class.
    """
    if name and name not in CLASSES:
        raise ValueError(f"fitted_as is {name!r}; {nearest(name, CLASSES)}")
