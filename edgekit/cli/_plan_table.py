"""A plan as a person reads it; ``plan`` prints it, and ``build`` before it reads a weight."""

from __future__ import annotations

import shlex

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..planning.plan import Plan
from ..scheme import QuantizationConfig
from ..units import format_bytes

_BAR_WIDTH = 30
_GROUP_NAMES = {
    "linears": "layers",
    "embedding": "embedding",
    "lm_head": "lm_head",
    "norms_and_biases": "norms, biases",
    "rotary": "rotary tables",
}


def print_plan(plan: Plan, console: Console) -> None:
    """Print a plan: its parts against the device's usable memory, the verdict, and what would fit instead."""
    console.print(f"[bold]{escape(plan.model)}[/] on [bold]{escape(plan.device)}[/], context {plan.context} tokens")
    if plan.memory.weight_groups is None:
        formats = "from the stated number of parameters"
    else:
        formats = describe_quantization(plan.quantization)
    console.print(
        f"[dim]{formats}; {plan.bits_per_weight:.2f} bits per weight; activations in {plan.activation_type}[/]"
    )
    console.print(_parts(plan))
    spare = plan.usable_bytes - plan.memory.total
    if plan.fits:
        console.print(f"[bold green]fits[/], {format_bytes(spare)} to spare")
    else:
        console.print(f"[bold red]does not fit[/]: {format_bytes(-spare)} too much")
    if plan.plan_only:
        console.print(f"[yellow]plan only[/]: {escape(plan.plan_only)}")
    if plan.offers:
        console.print("\nWhat fits:")
        offers = Table(box=None, show_header=False, padding=(0, 2))
        offers.add_column(style="cyan")
        offers.add_column()
        for offer in plan.offers:
            offers.add_row(escape(shlex.join(offer.options)), escape(offer.sentence))
        console.print(offers)


def describe_quantization(quantization: QuantizationConfig) -> str:
    """The formats in words: ``layers int4 block 64 asymmetric, embedding ..., lm_head ...``."""
    parts = {
        "layers": quantization.linear,
        "embedding": quantization.embedding,
        "lm_head": quantization.lm_head,
    }
    return ", ".join(f"{name} {scheme or 'float'}" for name, scheme in parts.items())


def _parts(plan: Plan) -> Table:
    memory = plan.memory
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("weights", format_bytes(memory.weights), _bar(memory.weights, plan))
    if memory.weight_groups is not None:
        for key, name in _GROUP_NAMES.items():
            size = getattr(memory.weight_groups, key)
            text = format_bytes(size) if size else "the embedding's"
            table.add_row(f"[dim]  {name}[/]", f"[dim]{text}[/]", "")
    if memory.repacking:
        table.add_row("repacking", format_bytes(memory.repacking), _bar(memory.repacking, plan))
    table.add_row("KV cache", format_bytes(memory.kv_cache), _bar(memory.kv_cache, plan))
    table.add_row("activations", format_bytes(memory.activations), _bar(memory.activations, plan))
    table.add_row("runtime", format_bytes(memory.runtime), _bar(memory.runtime, plan), end_section=True)
    colour = "green" if plan.fits else "red"
    table.add_row(
        "[bold]total[/]",
        f"[bold {colour}]{format_bytes(memory.total)}[/]",
        f"{100 * memory.total / plan.usable_bytes:.0f} % of what is usable",
    )
    table.add_row("usable", format_bytes(plan.usable_bytes), f"[dim]{escape(plan.usable_source)}[/]")
    return table


def _bar(size: int, plan: Plan) -> str:
    """A part's share of the larger of need and memory, at least one cell."""
    whole = max(plan.usable_bytes, plan.memory.total)
    return f"[blue]{'█' * max(round(_BAR_WIDTH * size / whole), 1)}[/]"
