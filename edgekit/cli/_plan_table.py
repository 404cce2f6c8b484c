"""Prints a plan for a person. ``build`` prints it before it reads any weights."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from ..planning.budget import DOUBTFUL, LIKELY, MET, MISSED, UNKNOWN, Limit, show_times
from ..planning.kv_choice import cost
from ..planning.plan import Plan
from ..scheme import QuantizationConfig, QuantizationScheme
from ..units import format_bytes, format_seconds
from ._engines_table import print_engines
from ._intervals import expected_and_interval
from ._output import Cell, Column

if TYPE_CHECKING:
    from rich.progress_bar import ProgressBar

    from ._screen import Screen

_BAR_WIDTH = 30
_GROUPS = {
    "linears": "layers",
    "embedding": "embedding",
    "lm_head": "lm_head",
    "norms_and_biases": "norms, biases",
    "rotary": "rotary tables",
}
_COLOURS = {MET: "green", LIKELY: "green", DOUBTFUL: "yellow", MISSED: "red", UNKNOWN: "yellow"}
UNMEASURED = (
    "speed unknown: the device profile has no memory bandwidth; edgekit probe --out FILE.toml measures this machine"
)


def print_plan(plan: Plan, screen: Screen) -> None:
    """Print a plan: memory by part, speed with prediction intervals and budgets, and what would fit instead."""
    mode = f" in power mode {plan.power_mode}" if plan.power_mode else ""
    mode += " without a desktop" if plan.headless else ""
    screen.say((plan.model, "bold"), " on ", (plan.device, "bold"), f"{mode}, context {plan.context} tokens")
    estimated = plan.memory.weight_groups is None
    formats = "estimated from the number of parameters" if estimated else describe_quantization(plan.quantization)
    summary = {
        "quantization": f"{formats}; {plan.bits_per_weight:.2f} bits per weight",
        "reasoning": f"{'yes' if plan.reasoning else 'no'}{': ' * bool(plan.reasoning_signs)}"
        + "; ".join(plan.reasoning_signs),
        "engine": f"{plan.engine}: {plan.engine_because}; activations {plan.activation_type}, KV cache {plan.kv_type}",
    }
    if plan.kv_because:
        summary["KV cache"] = f"{plan.kv_type}: {plan.kv_because}; {cost(plan.kv_type)}"
    screen.table((Column(), Column(wraps=True)), [((key, "dim"), (text, "dim")) for key, text in summary.items()])
    screen.say()
    screen.table((Column(), Column(right=True), Column(wraps=True)), _parts(plan))
    _print_latency(plan, screen)
    print_engines(plan, screen)
    _print_verdict(plan, screen)
    if plan.plan_only:
        screen.say(("plan only", "yellow"), f": {plan.plan_only}")
    if plan.offers:
        screen.say("\nOptions that fit:" if not plan.fits else "\nOptions that meet the budget:")
        offers = [((shlex.join(offer.options), "cyan"), offer.sentence) for offer in plan.offers]
        screen.table((Column(wraps=True, min_width=24), Column(wraps=True)), offers)


def describe_quantization(quantization: QuantizationConfig) -> str:
    """Describe the formats: ``layers int4 block 64 asymmetric, embedding ..., lm_head ...``."""
    if quantization.rotate or quantization.scale:
        changes = ", rotated" * quantization.rotate + ", scaled" * quantization.scale
        return describe_quantization(replace(quantization, rotate=False, scale=False)) + changes
    if quantization.mean_bits is not None:
        linear = quantization.linear or QuantizationScheme()
        zeros = "symmetric" if linear.symmetric else "asymmetric"
        return f"int4 and int8 chosen by the error of each matrix, block {linear.block_size} {zeros} in the layers"
    others = Counter(scheme for scheme in quantization.matrices.values() if scheme != quantization.linear)
    mixed = (f" ({count} matri{'x' if count == 1 else 'ces'} {scheme or 'float'})" for scheme, count in others.items())
    layers = f"layers {quantization.linear or 'float'}{''.join(mixed)}"
    return f"{layers}, embedding {quantization.embedding or 'float'}, lm_head {quantization.lm_head or 'float'}"


def _parts(plan: Plan) -> list[tuple[Cell, Cell, Cell]]:
    """A row per part: its name, its size, and a bar or a note."""
    memory = plan.memory
    rows: list[tuple[Cell, Cell, Cell]] = [("weights", format_bytes(memory.weights), _bar(memory.weights, plan))]
    unread = {"embedding": memory.unread_embedding, "rotary": memory.unread_rotary}
    for key, name in _GROUPS.items() if memory.weight_groups else ():
        size = getattr(memory.weight_groups, key)
        left = unread.get(key, 0)
        text = format_bytes(size - left) if size else "shared"
        note = f"of {format_bytes(size)} in the file; only rows in use are read" if left else ""
        note = note if size else "with the embedding"
        rows.append(((f"  {name}", "dim"), (text, "dim"), (note, "dim")))
    for name in ("repacking", "kv_cache", "activations", "tokenizer", "runtime"):
        if size := getattr(memory, name):
            rows.append((name.replace("kv_", "KV "), format_bytes(size), _bar(size, plan)))
    total = (format_bytes(memory.total), "bold green" if plan.fits else "bold red")
    share = f"{100 * memory.peak / plan.usable_bytes:.0f} % of the usable memory"
    rows += [("", "", ""), (("total", "bold"), total, share)]
    if memory.load_peak > memory.total:
        rows.append(("while loading", format_bytes(memory.load_peak), ""))
    rows.append(("usable", format_bytes(plan.usable_bytes), (plan.usable_source, "dim")))
    return rows


def _bar(size: int, plan: Plan) -> ProgressBar:
    """A part's share of the total; at least one cell."""
    from rich.progress_bar import ProgressBar

    whole = plan.memory.total
    completed = max(size, whole / _BAR_WIDTH)
    return ProgressBar(whole, completed, width=_BAR_WIDTH, complete_style="blue", finished_style="blue")


def _print_latency(plan: Plan, screen: Screen) -> None:
    """Times and speeds, each with its prediction interval and its budget."""
    latency = plan.latency
    screen.say()
    if latency.decode_tok_s is None:
        screen.say((UNMEASURED, "yellow"))
        return
    limits = {limit.name: _limit(limit) for limit in plan.limits}
    ttft, decode = limits.get("ttft_s", ""), limits.get("decode_tok_s", "")
    rows = [
        (f"first token, prompt of {latency.prompt_tokens}", *expected_and_interval(latency.ttft_s, " s"), ttft),
        ("decode, empty context", *expected_and_interval(latency.decode_tok_s, " tok/s"), ""),
        ("decode, full context", *expected_and_interval(latency.decode_full_tok_s, " tok/s"), decode),
    ]
    if latency.sustained_tok_s is not None:
        rows.append(("decode when hot, after minutes", *expected_and_interval(latency.sustained_tok_s, " tok/s"), ""))
    headings = (Column(), Column("expected"), Column("80 % interval"), Column("budget", wraps=True))
    screen.table(headings, rows)
    if latency.load_s:
        loads = "; ".join(f"{format_seconds(seconds)} from {name}" for name, seconds in latency.load_s)
        screen.say((f"\nthe first load takes {loads}", "dim"))
    if not latency.calibrated:
        screen.say((f"\nuncalibrated: {latency.uncalibrated_because}", "yellow"))


def _limit(limit: Limit) -> Cell:
    """The limit and whether the plan meets it."""
    bound = f"at most {format_seconds(limit.value)}" if limit.name == "ttft_s" else f"at least {limit.value:g} tok/s"
    verdict = limit.verdict
    if limit.slow and limit.short_by is not None:
        verdict += f", {show_times(limit.short_by)} times too slow"
    return [f"{bound}: ", (verdict, _COLOURS[limit.verdict])]


def _print_verdict(plan: Plan, screen: Screen) -> None:
    spare = plan.usable_bytes - plan.memory.peak
    if not plan.fits:
        screen.say(("\ndoes not fit", "bold red"), f": {format_bytes(-spare)} over the usable memory")
        return
    screen.say(("\nfits", "bold green"), f", {format_bytes(spare)} to spare")
    if not plan.acceptable:
        screen.say(("too slow", "bold red"), " for the requested budget")
