"""``edgekit bench``: prefill, decode, load time and memory of an artifact on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from ..probe.bench import BenchResult, bench
from ..units import format_bytes, format_seconds
from ._engine_options import engine_option, kv_type_option
from ._output import emit_json, json_option, print_table, progress_bars, say
from ._table import Column


def _counts(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """``128,512`` -> (128, 512)."""
    parts = value.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"{value!r} is not a list of whole numbers above 0, such as 128,512")
    return tuple(int(part) for part in parts)


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@engine_option
@click.option("--prompt-tokens", callback=_counts, default="128,512", show_default=True, help="Lengths of the prompts.")
@click.option("--gen-tokens", type=click.IntRange(min=1), default=32, show_default=True, help="Tokens after each.")
@click.option("--repeat", type=click.IntRange(min=1), default=3, show_default=True, help="Timed rounds.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads; default: one per physical core.")
@kv_type_option
@json_option
def command(
    artifact: Path,
    engine: str,
    prompt_tokens: tuple[int, ...],
    gen_tokens: int,
    repeat: int,
    threads: int | None,
    kv_type: str | None,
    as_json: bool,
) -> None:
    """Measure ARTIFACT: tokens per second of prefill and decode (median, least, greatest), load time and memory.

    Beside the speeds stands their share of what this machine can do at most, measured in the same run: prefill of the
    multiply-adds of its best kernel, decode of the bandwidth of its memory.
    """
    with progress_bars(quiet=as_json) as progress:
        result = bench(
            artifact,
            engine=engine,
            prompt_tokens=prompt_tokens,
            gen_tokens=gen_tokens,
            repeat=repeat,
            threads=threads,
            kv_type=kv_type,
            progress=progress,
        )
    if as_json:
        emit_json(result.to_json())
    else:
        _print(result)


def _print(result: BenchResult) -> None:
    say(
        f"{result.name}: {result.engine} ({result.kernel}), {result.threads} threads, {result.kv_type} cache; "
        f"median of {result.repeat} rounds\n"
    )
    headings = ("tok/s", "least", "greatest", "of the limit", "first token")
    rows = []
    for p in result.prefill:
        speeds = _rates(p.tok_s, p.tok_s_min, p.tok_s_max)
        rows.append((f"prefill {p.tokens}", *speeds, _share(p.share_of_peak), format_seconds(p.ttft_s)))
    for d in result.decode:
        speeds = _rates(d.tok_s, d.tok_s_min, d.tok_s_max)
        rows.append((f"decode {result.gen_tokens} at {d.context}", *speeds, _share(d.share_of_bandwidth), ""))
    print_table((Column(), *(Column(heading, right=True) for heading in headings)), rows)
    memory = [f"load {format_seconds(result.load_s)}"]
    if result.peak_rss_bytes is not None:
        memory.append(f"peak memory {format_bytes(result.peak_rss_bytes)}")
    if result.private_bytes is not None:
        memory.append(f"private {format_bytes(result.private_bytes)}")
    say("\n" + ", ".join(memory))
    if result.limits is not None:
        limits = result.limits
        say(
            f"limits of this machine with {limits.threads} threads: memory {limits.bandwidth_gb_s:.1f} GB/s (decode), "
            f"{limits.kernel} {limits.kernel_gmac_s:.1f} x 10^9 multiply-adds/s (prefill)"
        )
    if result.shares_unknown is not None:
        say(f"no shares of the limits: {result.shares_unknown}")


def _share(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.0%}"


def _rates(*tok_s: float) -> tuple[str, ...]:
    return tuple(f"{value:.1f}" for value in tok_s)
