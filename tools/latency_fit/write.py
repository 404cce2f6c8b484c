"""Writes ``edgekit/planning/fitted.py``: the fit as constants, so that planning reads no file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from edgekit.planning.efficiency import Effect, EfficiencyModel

FITTED = Path(__file__).parents[2] / "edgekit" / "planning" / "fitted.py"
_WIDTH = 120  # columns of a line
_HEAD = '''"""Effects fitted to published speeds. Do not edit: ``tools/latency_fit/fit.py --write`` writes this file.

``DECODE``: shares of the memory's specified bandwidth. ``PREFILL``: shares of the processor's multiply-adds per second.
An effect is mean and variance of a term of the log efficiency, and the number of rows it was fitted on.
"""

from __future__ import annotations

from .efficiency import Effect, EfficiencyModel

# fmt: off
'''


def format_fitted(decode: EfficiencyModel, prefill: EfficiencyModel) -> str:
    """The module's text."""
    return _HEAD + "\n" + "\n".join([*_model("DECODE", decode), "", *_model("PREFILL", prefill)]) + "\n"


def write_fitted(decode: EfficiencyModel, prefill: EfficiencyModel) -> None:
    """Write the module into the source tree."""
    FITTED.write_text(format_fitted(decode, prefill), encoding="utf-8")
    print(f"\nwritten: {FITTED}")


def _model(name: str, model: EfficiencyModel) -> Iterator[str]:
    yield f"{name} = EfficiencyModel("
    yield f"    intercept={_effect(model.intercept)},"
    yield "    effects={"
    for effect, levels in model.effects.items():
        yield f'        "{effect}": {{'
        yield from _filled(f'"{level}": {_effect(found)},' for level, found in sorted(levels.items()))
        yield "        },"
    yield "    },"
    yield "    prior_variances={"
    for effect, variances in model.prior_variances.items():
        yield f'        "{effect}": {_by_kind(variances)},'
    yield "    },"
    yield "    device_variances={"
    yield from _filled(f'"{kind}": {value:.4g},' for kind, value in model.device_variances.items())
    yield "    },"
    yield f"    source_variance={model.source_variance:.4g},"
    yield f"    noise_variance={model.noise_variance:.4g},"
    yield ")"


def _by_kind(variances: Mapping[str, float]) -> str:
    return "{" + ", ".join(f'"{kind}": {value:.4g}' for kind, value in variances.items()) + "}"


def _effect(effect: Effect) -> str:
    return f"Effect({effect.mean:.4f}, {effect.variance:.5f}, {effect.rows})"


def _filled(entries: Iterable[str]) -> Iterator[str]:
    """The entries on as few lines as hold them, in their order."""
    indent = line = " " * 12
    for entry in entries:
        if line != indent and len(line) + len(entry) > _WIDTH:
            yield line.rstrip()
            line = indent
        line += entry + " "
    yield line.rstrip()
