"""Where an engine runs each node of an artifact: a fast kernel, a slow fallback, or a copy between host and device.

``native_kernels.py`` asks edgekit's own library, ``session_profile.py`` onnxruntime. :func:`slow_fallbacks` turns the
result into the warnings of ``edgekit build`` and ``edgekit smoke``.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..artifact.manifest import RuntimeFacts
from ..devices import DeviceProfile
from ..errors import AcceleratorError, ArtifactError, EngineFallbackWarning, UnknownNameError, nearest
from ..planning.hardware import MULTIPLY_ADDS_PER_CYCLE
from ..runtime.engine import engines, ranked_engines
from .contents import Model, read_model

# The states of a node.
FAST = "fast"  # a kernel made for this processor or device
SLOW = "slow"  # computed in a way, or at a place, that costs several times as much
COPY = "copy"  # moves data between the host's memory and the device's
HOST = "host"  # arithmetic on lengths, which the host does for an accelerator; some bytes
# Instructions of which the native engine's kernels need one (native/kernels), as Linux spells them.
FAST_ISA = frozenset(MULTIPLY_ADDS_PER_CYCLE) - {"asimd"}
WHY_PORTABLE = "the portable kernels are used, which have no vector instructions"
STATES = {
    FAST: "fast kernel",
    SLOW: "slow fallback",
    COPY: "copied between host and device",
    HOST: "on the host, lengths only",
}


@dataclass(frozen=True)
class Place:
    """Nodes of one kind that run in the same way.

    Attributes:
        part: A part of the contents that the nodes multiply or look up, such as ``attn.qkv_proj``; otherwise empty.
        format: The part's format; empty without a part.
        operator: The operator, such as ``MatMulNBits``.
        runs_on: The kernel or execution provider.
        state: One of :data:`STATES`.
        nodes: Number of nodes.
        weight_bytes: Bytes of their weights in the artifact.
        copied_bytes: Bytes that are copied between host and device for a token.
        time_share: Measured share of a token's time; None if it was not measured.
        reason: Why it is slow; empty if it is not.
    """

    part: str
    format: str
    operator: str
    runs_on: str
    state: str
    nodes: int
    weight_bytes: int = 0
    copied_bytes: int = 0
    time_share: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class StateSum:
    """All nodes of one state."""

    state: str
    nodes: int
    weight_bytes: int
    copied_bytes: int
    time_share: float | None

    @property
    def title(self) -> str:
        return STATES[self.state]


@dataclass(frozen=True)
class Placement:
    """Where an engine runs an artifact on this machine.

    Attributes:
        engine: The engine's name.
        kernel: Library, version and provider, or instruction sets.
        places: In the order in which the model uses them.
    """

    engine: str
    kernel: str
    places: tuple[Place, ...]

    def sums(self) -> tuple[StateSum, ...]:
        """The nodes by state; every state is listed, with 0 nodes if there are none."""
        return tuple(_sum(state, [place for place in self.places if place.state == state]) for state in STATES)

    def warnings(self) -> tuple[str, ...]:
        """A sentence for each reason for which nodes are slow, with the parts it applies to."""
        reasons: dict[str, list[Place]] = {}
        for place in self.places:
            if place.state == SLOW:
                reasons.setdefault(place.reason, []).append(place)
        return tuple(self._warning(reason, places) for reason, places in reasons.items())

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON shows it."""
        return {
            "engine": self.engine,
            "kernel": self.kernel,
            "nodes": [asdict(place) for place in self.places],
            "sums": [asdict(each) for each in self.sums()],
            "warnings": list(self.warnings()),
        }

    def _warning(self, reason: str, places: list[Place]) -> str:
        names = ", ".join(dict.fromkeys(place.part or place.operator for place in places))
        count = sum(place.nodes for place in places)
        shares = [place.time_share for place in places if place.time_share is not None]
        share = f", {sum(shares):.0%} of a token's time" if shares else ""
        about = f"{count} node{'s' * (count != 1)}{share}"
        return f"the engine {self.engine} uses a slow fallback for {names} ({about}): {reason}"


def _sum(state: str, places: Iterable[Place]) -> StateSum:
    places = list(places)
    shares = [place.time_share for place in places if place.time_share is not None]
    return StateSum(
        state,
        sum(place.nodes for place in places),
        sum(place.weight_bytes for place in places),
        sum(place.copied_bytes for place in places),
        sum(shares) if shares else None,
    )


def placement_of(folder: Path, facts: RuntimeFacts, engine: str) -> Placement:
    """Find out where an engine runs each node on this machine. onnxruntime's engines open the artifact for it.

    For a graph that edgekit did not export, the nodes are not related to parts of the contents.

    Args:
        folder: The artifact.
        facts: Its manifest.
        engine: The engine's name, or ``auto``. If the GPU of the engine that ``auto`` prefers cannot be used, an
            :class:`~edgekit.errors.EngineFallbackWarning` says so, and the next engine counts.

    Raises:
        EngineError: The engine cannot run the artifact on this machine.
        NativeLibraryError: The native library is missing.
        UnknownNameError: There is no such engine.
    """
    try:
        model = read_model(folder, facts)
    except ArtifactError:  # not written by edgekit's builder
        model = None
    names = ranked_engines(facts) if engine == "auto" else (engine,)
    for name, following in itertools.pairwise(names):
        try:
            return _placement(folder, facts, name, model)
        except AcceleratorError as error:
            text = f"the engine {name} is not used, but {following}: {error.message}"
            warnings.warn(text, EngineFallbackWarning, stacklevel=2)
    return _placement(folder, facts, names[-1], model)


def _placement(folder: Path, facts: RuntimeFacts, name: str, model: Model | None) -> Placement:
    if name not in engines():
        raise UnknownNameError(f"there is no engine {name!r}", hint=nearest(name, ("auto", *engines())))
    if name == "native":
        from .native_kernels import native_placement

        return native_placement(facts, model)
    from .session_profile import profiled_placement

    return profiled_placement(folder, facts, name, model)


def slow_fallbacks(
    folder: Path, facts: RuntimeFacts, engine: str, device: DeviceProfile | None = None
) -> tuple[str, ...]:
    """The slow fallbacks of an engine, one sentence each; empty if there are none.

    Args:
        folder: The artifact.
        facts: Its manifest.
        engine: The engine's name, or ``auto``.
        device: Where the artifact is to run; None for this machine. Of another machine only its profile is known, which
            tells whether the native engine has kernels for its processor.

    Raises:
        EdgekitError: See :func:`placement_of`.
    """
    if device is None or device.kind == "host":
        return placement_of(folder, facts, engine).warnings()
    if engine == "native" and not set(device.cpu.isa.value) & FAST_ISA:
        lacking = f"the processor has none of {', '.join(sorted(FAST_ISA))}"
        return (f"the engine native uses a slow fallback on {device.name}: {WHY_PORTABLE}, because {lacking}",)
    return ()
