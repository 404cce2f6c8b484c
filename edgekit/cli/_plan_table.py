"""A plan as a person reads it; ``plan`` prints it, and ``build`` before it reads a weight."""

from __future__ import annotations

import shlex

import click

from ..planning.plan import Plan
from ..scheme import QuantizationConfig
from ..units import format_bytes
from ._output import print_table, say, show
from ._table import Column

_BAR_WIDTH = 30
_GROUP_NAMES = {
    "linears": "layers",
    "embedding": "embedding",
    "lm_head": "lm_head",
    "norms_and_biases": "norms, biases",
    "rotary": "rotary tables",
}


def print_plan(plan: Plan, err: bool = False) -> None:
    """Print a plan: its parts against the device's usable memory, the verdict, and what would fit instead."""
    model, device = click.style(plan.model, bold=True), click.style(plan.device, bold=True)
    say(f"{model} on {device}, context {plan.context} tokens", err)
    if plan.memory.weight_groups is None:
        formats = "from the stated number of parameters"
    else:
        formats = describe_quantization(plan.quantization)
    summary = f"{formats}; {plan.bits_per_weight:.2f} bits per weight; activations in {plan.activation_type}"
    say(click.style(summary, dim=True) + "\n", err)
    print_table((Column(), Column(right=True), Column(wraps=True)), _parts(plan), err)
    spare = plan.usable_bytes - plan.memory.total
    if plan.fits:
        say(f"\n{click.style('fits', fg='green', bold=True)}, {format_bytes(spare)} to spare", err)
    else:
        say(f"\n{click.style('does not fit', fg='red', bold=True)}: {format_bytes(-spare)} too much", err)
    if plan.plan_only:
        say(f"{click.style('plan only', fg='yellow')}: {plan.plan_only}", err)
    if plan.offers:
        show("\nWhat fits:", err)
        offers = [(click.style(shlex.join(offer.options), fg="cyan"), offer.sentence) for offer in plan.offers]
        print_table((Column(), Column(wraps=True)), offers, err)


def describe_quantization(quantization: QuantizationConfig) -> str:
    """The formats in words: ``layers int4 block 64 asymmetric, embedding ..., lm_head ...``."""
    parts = {
        "layers": quantization.linear,
        "embedding": quantization.embedding,
        "lm_head": quantization.lm_head,
    }
    return ", ".join(f"{name} {scheme or 'float'}" for name, scheme in parts.items())


def _parts(plan: Plan) -> list[tuple[str, str, str]]:
    """A row per part: its name, its size, its bar."""
    memory = plan.memory
    rows = [("weights", format_bytes(memory.weights), _bar(memory.weights, plan))]
    if memory.weight_groups is not None:
        for key, name in _GROUP_NAMES.items():
            size = getattr(memory.weight_groups, key)
            text = format_bytes(size) if size else "the embedding's"
            rows.append((click.style(f"  {name}", dim=True), click.style(text, dim=True), ""))
    if memory.repacking:
        rows.append(("repacking", format_bytes(memory.repacking), _bar(memory.repacking, plan)))
    for name, size in (("KV cache", memory.kv_cache), ("activations", memory.activations), ("runtime", memory.runtime)):
        rows.append((name, format_bytes(size), _bar(size, plan)))
    total = click.style(format_bytes(memory.total), fg="green" if plan.fits else "red", bold=True)
    share = f"{100 * memory.total / plan.usable_bytes:.0f} % of what is usable"
    rows.append(("", "", ""))
    rows.append((click.style("total", bold=True), total, share))
    rows.append(("usable", format_bytes(plan.usable_bytes), click.style(plan.usable_source, dim=True)))
    return rows


def _bar(size: int, plan: Plan) -> str:
    """A part's share of the larger of need and memory, at least one cell."""
    whole = max(plan.usable_bytes, plan.memory.total)
    return click.style("█" * max(round(_BAR_WIDTH * size / whole), 1), fg="blue")
