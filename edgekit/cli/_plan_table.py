"""A plan as a person reads it; ``plan`` prints it, and ``build`` before it reads a weight."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import replace

import click

from ..planning.budget import DOUBTFUL, LIKELY, MET, MISSED, UNKNOWN, Limit
from ..planning.choice import show_times
from ..planning.efficiency import Interval
from ..planning.plan import Plan
from ..scheme import QuantizationConfig, QuantizationScheme
from ..units import format_bytes, format_seconds
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
_COLOURS = {MET: "green", LIKELY: "green", DOUBTFUL: "yellow", MISSED: "red", UNKNOWN: "yellow"}
UNCALIBRATED = "uncalibrated: nothing was published or measured of devices like this one, so the intervals are wide"
UNMEASURED = "speed unknown: the profile has no bandwidth; edgekit probe --out FILE.toml measures this machine"


def print_plan(plan: Plan, err: bool = False) -> None:
    """Print a plan: memory by part, speed with its intervals, each beside its limit, and what would do instead."""
    model, device = click.style(plan.model, bold=True), click.style(plan.device, bold=True)
    mode = f" in mode {plan.power_mode}" if plan.power_mode else ""
    say(f"{model} on {device}{mode}, context {plan.context} tokens", err)
    if plan.memory.weight_groups is None:
        formats = "from the stated number of parameters"
    else:
        formats = describe_quantization(plan.quantization)
    summary = (
        f"{formats}; {plan.bits_per_weight:.2f} bits per weight; engine {plan.engine}, activations in "
        f"{plan.activation_type}, KV cache in {plan.kv_type}"
    )
    say(click.style(summary, dim=True) + "\n", err)
    print_table((Column(), Column(right=True), Column(wraps=True)), _parts(plan), err)
    _print_latency(plan, err)
    _print_verdict(plan, err)
    if plan.plan_only:
        say(f"{click.style('plan only', fg='yellow')}: {plan.plan_only}", err)
    if plan.offers:
        show("\nWhat does:", err)
        offers = [(click.style(shlex.join(offer.options), fg="cyan"), offer.sentence) for offer in plan.offers]
        print_table((Column(), Column(wraps=True)), offers, err)


def describe_quantization(quantization: QuantizationConfig) -> str:
    """The formats in words: ``layers int4 block 64 asymmetric, embedding ..., lm_head ...``."""
    if quantization.rotate or quantization.scale:
        changes = ", rotated" * quantization.rotate + ", scaled" * quantization.scale
        return describe_quantization(replace(quantization, rotate=False, scale=False)) + changes
    if quantization.mean_bits is not None:
        linear = quantization.linear or QuantizationScheme()
        zeros = "symmetric" if linear.symmetric else "asymmetric"
        return f"int4 and int8 by what each matrix loses, block {linear.block_size} {zeros} in the layers"
    others = Counter(scheme for scheme in quantization.matrices.values() if scheme != quantization.linear)
    mixed = "".join(
        f" ({count} matri{'x' if count == 1 else 'ces'} {scheme or 'float'})" for scheme, count in others.items()
    )
    parts = {
        "layers": quantization.linear,
        "embedding": quantization.embedding,
        "lm_head": quantization.lm_head,
    }
    words = {name: f"{name} {scheme or 'float'}" for name, scheme in parts.items()}
    return ", ".join({**words, "layers": words["layers"] + mixed}.values())


def show_speed(interval: Interval | None) -> str:
    """``14 (11-18)``: expected, and where eight cases of ten lie."""
    if interval is None:
        return "unknown"
    return f"{_digits(interval.mid)} ({_digits(interval.low)}-{_digits(interval.high)})"


def show_seconds(interval: Interval | None) -> str:
    """As :func:`show_speed`, of a time: ``0.41 s (0.20-0.80)``."""
    if interval is None:
        return "unknown"
    factor, unit = (1000, "ms") if interval.high < 1 else (1, "s")
    low, mid, high = (_digits(value * factor) for value in (interval.low, interval.mid, interval.high))
    return f"{mid} {unit} ({low}-{high})"


def _digits(value: float) -> str:
    """Two significant digits or all before the point: more would be made up."""
    if value >= 10:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _parts(plan: Plan) -> list[tuple[str, str, str]]:
    """A row per part: its name, its size, its bar."""
    memory = plan.memory
    rows = [("weights", format_bytes(memory.weights), _bar(memory.weights, plan))]
    if memory.weight_groups is not None:
        unread = {"embedding": memory.unread_embedding, "rotary": memory.unread_rotary}
        for key, name in _GROUP_NAMES.items():
            size = getattr(memory.weight_groups, key)
            left = unread.get(key, 0)
            text = format_bytes(size - left) if size else "the embedding's"
            note = f"of {format_bytes(size)} in the file: the rows looked up" if left else ""
            rows.append((click.style(f"  {name}", dim=True), click.style(text, dim=True), click.style(note, dim=True)))
    for name, size in (
        ("repacking", memory.repacking),
        ("KV cache", memory.kv_cache),
        ("activations", memory.activations),
        ("tokenizer", memory.tokenizer),
        ("runtime", memory.runtime),
    ):
        if size:
            rows.append((name, format_bytes(size), _bar(size, plan)))
    total = click.style(format_bytes(memory.total), fg="green" if plan.fits else "red", bold=True)
    rows.append(("", "", ""))
    rows.append(
        (click.style("total", bold=True), total, f"{100 * memory.peak / plan.usable_bytes:.0f} % of what is usable")
    )
    if memory.load_peak > memory.total:
        rows.append(("while loading", format_bytes(memory.load_peak), ""))
    rows.append(("usable", format_bytes(plan.usable_bytes), click.style(plan.usable_source, dim=True)))
    return rows


def _bar(size: int, plan: Plan) -> str:
    """A part's share of the larger of need and memory, at least one cell."""
    whole = max(plan.usable_bytes, plan.memory.total)
    return click.style("█" * max(round(_BAR_WIDTH * size / whole), 1), fg="blue")


def _print_latency(plan: Plan, err: bool) -> None:
    """Times and speeds, each with its interval and its limit."""
    latency = plan.latency
    if latency.decode_tok_s is None:
        show(err=err)
        say(click.style(UNMEASURED, fg="yellow"), err)
        return
    limits = {limit.name: _limit(limit) for limit in plan.limits}
    rows = [
        (f"first token, prompt of {latency.prompt_tokens}", show_seconds(latency.ttft_s), limits.get("ttft_s", "")),
        ("decode, empty context", _rate(latency.decode_tok_s), ""),
        ("decode, full context", _rate(latency.decode_full_tok_s), limits.get("decode_tok_s", "")),
    ]
    if latency.sustained_tok_s is not None:
        rows.append(("decode after minutes, hot", _rate(latency.sustained_tok_s), ""))
    show(err=err)
    split = [(what, *_split(shown), limit) for what, shown, limit in rows]
    print_table([Column(heading) for heading in ("", "expected", "80 % of cases", "budget")], split, err)
    if latency.load_s:
        loads = "; ".join(f"{format_seconds(seconds)} from {name}" for name, seconds in latency.load_s)
        say(click.style(f"\nthe first load reads the file: {loads}", dim=True), err)
    if not latency.calibrated:
        say(click.style(f"\n{UNCALIBRATED}", fg="yellow"), err)


def _rate(interval: Interval | None) -> str:
    """A speed with its unit."""
    return show_speed(interval).replace(" (", " tok/s (")


def _split(shown: str) -> tuple[str, str]:
    """Expected and interval of a shown prediction."""
    expected, _, interval = shown.partition(" (")
    return expected, interval.removesuffix(")")


def _limit(limit: Limit) -> str:
    """The limit and its verdict in words."""
    unit = f"at most {format_seconds(limit.value)}" if limit.name == "ttft_s" else f"at least {limit.value:g}"
    verdict = limit.verdict
    if limit.short_by is not None and limit.short_by > 1:
        verdict += f", {show_times(limit.short_by)} times too slow"
    return f"{unit}: {click.style(verdict, fg=_COLOURS[limit.verdict])}"


def _print_verdict(plan: Plan, err: bool) -> None:
    spare = plan.usable_bytes - plan.memory.peak
    if not plan.fits:
        say(f"\n{click.style('does not fit', fg='red', bold=True)}: {format_bytes(-spare)} too much", err)
        return
    say(f"\n{click.style('fits', fg='green', bold=True)}, {format_bytes(spare)} to spare", err)
    if not plan.acceptable:
        say(f"{click.style('too slow', fg='red', bold=True)} for the budget that was asked for", err)
