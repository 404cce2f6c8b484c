"""The kernels that the native engine uses for each part of a model on this processor, as its library chose them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .. import native
from ..artifact.manifest import RuntimeFacts
from ..errors import EngineError
from ..probe.kernels import chosen_kernels
from .contents import EMBEDDING, HEAD, INNER, NORMS, Model, Part, parts_of
from .placement import FAST, SLOW, WHY_PORTABLE, Place, Placement

PORTABLE = "scalar"  # the kernels without vector instructions
_NO_PART = Part("", "", 0, None, 0, 0, 0, 0)


def native_placement(facts: RuntimeFacts, model: Model | None) -> Placement:
    """The kernels of the native engine. Nothing is opened; the first call may measure, for some 20 ms.

    Args:
        facts: The artifact's manifest.
        model: The artifact's tensors, if they are known.

    Raises:
        EngineError: The native engine cannot run the artifact.
        NativeLibraryError: The native library is missing.
        ProbeError: ``EDGEKIT_ISA`` names a kernel that does not run on this machine.
    """
    if not facts.quantized:
        raise EngineError(
            f"the native engine runs only quantized models; parts of {facts.name} are not quantized",
            hint="use --engine ort",
        )
    kernels = chosen_kernels()
    name = native.library().ek_kernel_name().decode()
    elementwise = name.partition(",")[0]  # the name starts with the set that does everything else
    roles = {kernels[role].kernel: role for role in ("prefill", "decode")}
    products = tuple(roles) if len(roles) == 1 else tuple(f"{kernel} ({role})" for kernel, role in roles.items())
    layers, norms, places = int(facts.model["num_layers"]), 0, []
    parts = () if model is None else parts_of(model.layout)
    shared = any(part.name == HEAD and not part.size_bytes for part in parts)  # lm_head reads the embedding's table
    for part in parts:
        if part.name == EMBEDDING:
            places.append(_place(part, "lookup", (elementwise,), 0 if shared else part.size_bytes))
        elif part.name == HEAD or part.name.startswith(INNER):
            places.append(_place(part, "product", products, part.token_bytes))
        elif part.name == NORMS:
            norms = part.tensors
    for operator, kernel, nodes in (
        ("attention", kernels["attention"].kernel, layers),
        ("norms", elementwise, norms or 2 * layers + 1),
        ("rotation, SiLU", elementwise, 2 * layers),
    ):
        places.append(_place(replace(_NO_PART, tensors=nodes), operator, (kernel,)))
    return Placement("native", name, tuple(places))


def _place(part: Part, operator: str, kernels: Sequence[str], weight_bytes: int = 0) -> Place:
    slow = any(kernel.split()[0] == PORTABLE for kernel in kernels)
    return Place(
        part=part.name,
        format=part.format,
        operator=operator,
        runs_on=", ".join(kernels),
        state=SLOW if slow else FAST,
        nodes=part.tensors,
        weight_bytes=weight_bytes,
        reason=WHY_PORTABLE if slow else "",
    )
