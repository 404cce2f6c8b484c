"""Compares measured times with a build's plan and budgets, and a minute of decode with itself. Part of the smoke test.

A plan holds for one device, so ``smoke.py`` asks for these checks only if the machine was said to be that device.
"""

from __future__ import annotations

import time
from typing import Any

from ..runtime.engine import Engine
from ..units import format_rate, format_seconds
from .receipt import FAIL, PASS, WARN, Check, Prompt, Sustained

# Clocks that settle, other programs and the timer make the last third differ by some percent without any heat.
SUSTAINED_SHARE = 0.9


def check_ttft(prompt: Prompt, plan: dict[str, Any]) -> list[Check]:
    """The first token of a prompt of the plan's length; no check if the plan has neither a figure nor a budget.

    Args:
        prompt: As measured.
        plan: The manifest's.
    """
    planned, budget = _expected(plan, "ttft_s")
    if not planned and not budget:
        return []
    found = f"{format_seconds(prompt.ttft_s)} for {prompt.tokens} tokens"
    late = bool(planned) and prompt.ttft_s > planned["high"]
    missed = bool(budget) and prompt.ttft_s > budget["value"]
    if planned:
        found += f"; planned {format_seconds(planned['mid'])}, at most {format_seconds(planned['high'])}"
    if budget:
        found += f"; budget {format_seconds(budget['value'])}"
    return [Check("ttft", _verdict(late, missed, budget), found)]


def check_decode(decode_tok_s: float, plan: dict[str, Any]) -> list[Check]:
    """The decode speed; no check if the plan has neither a figure nor a budget."""
    planned, budget = _expected(plan, "decode_tok_s")
    if not planned and not budget:
        return []
    found = format_rate(decode_tok_s, "tok")
    slow = bool(planned) and decode_tok_s < planned["low"]
    missed = bool(budget) and decode_tok_s < budget["value"]
    if planned:
        found += f"; planned {format_rate(planned['mid'], 'tok')}, at least {format_rate(planned['low'], 'tok')}"
    if budget:
        found += f"; budget {format_rate(budget['value'], 'tok')}"
    return [Check("decode", _verdict(slow, missed, budget), found)]


def check_load_time(load_s: float, plan: dict[str, Any]) -> list[Check]:
    """The time to load against the plan's slowest storage; no check if the plan knows none."""
    storage = plan.get("load_s") or {}
    if not storage:
        return []
    name, seconds = max(storage.items(), key=lambda entry: entry[1])
    detail = f"{format_seconds(load_s)}; planned at most {format_seconds(seconds)} from {name}"
    return [Check("load_time", PASS if load_s <= seconds else WARN, detail)]


def check_sustained(found: Sustained) -> Check:
    """The last third of the time against the first."""
    if found.first_tok_s <= 0:
        return Check("sustained", WARN, f"unknown: no token in the first third of {format_seconds(found.seconds)}")
    share = found.last_tok_s / found.first_tok_s
    detail = (
        f"{format_rate(found.last_tok_s, 'tok')} in the last third of {format_seconds(found.seconds)}, {share:.0%} of "
        f"{format_rate(found.first_tok_s, 'tok')} in the first; expected at least {SUSTAINED_SHARE:.0%}"
    )
    return Check("sustained", PASS if share >= SUSTAINED_SHARE else WARN, detail)


def measure_prompt(engine: Engine, golden: list[int], tokens: int) -> Prompt:
    """Time the first token of a prompt that repeats the golden one up to a length, at most the engine's context."""
    tokens = min(tokens, engine.context)
    prompt = (golden * (tokens // len(golden) + 1))[:tokens]
    engine.rewind(0)
    started = time.perf_counter()
    engine.evaluate(prompt)
    return Prompt(tokens, time.perf_counter() - started)


def measure_sustained(engine: Engine, golden: list[int], seconds: float) -> Sustained:
    """Generate greedily for some seconds.

    The context is emptied again whenever it holds the golden prompt and 64 tokens more, so that every third evaluates
    the same contexts and only the machine can change the speed.

    Args:
        engine: An engine whose context holds the golden prompt and at least one more token.
        golden: The golden prompt's ids.
        seconds: How long to decode, without the evaluations of the prompt.
    """
    room = min(64, engine.context - len(golden))
    ends: list[float] = []  # seconds of decode after each token
    spent = 0.0
    while spent < seconds:
        engine.rewind(0)
        token = int(engine.evaluate(golden)[-1].argmax())
        for _ in range(room):
            started = time.perf_counter()
            token = int(engine.evaluate([token])[-1].argmax())
            spent += time.perf_counter() - started
            ends.append(spent)
            if spent >= seconds:
                break
    first = sum(end <= spent / 3 for end in ends)
    last = sum(end > spent * 2 / 3 for end in ends)
    third = spent / 3
    return Sustained(seconds=spent, tokens=len(ends), first_tok_s=max(first, 1) / third, last_tok_s=last / third)


def _expected(plan: dict[str, Any], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A figure's interval in the plan, and its budget; empty where there is none."""
    return plan.get(name) or {}, (plan.get("budget") or {}).get(name) or {}


def _verdict(worse: bool, missed: bool, budget: dict[str, Any]) -> str:
    """A budget that was set for the build must be met; the plan and a device's default budget are expectations."""
    if missed and budget.get("asked"):
        return FAIL
    return WARN if worse or missed else PASS
