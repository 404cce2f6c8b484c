"""``edgekit bench``: prefill, decode, load time and memory of an artifact on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..units import format_bytes, format_seconds
from . import _options as options
from ._failures import needs_memory
from ._output import Column, emit_json, open_screen, print_planned_cache, progress_bars

if TYPE_CHECKING:
    from ..probe.bench import BenchResult, Decode, Prefill


_DIGITS = 10  # fewer than int() takes


def _counts(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """``128,512`` -> (128, 512)."""
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isdecimal() and len(part) < _DIGITS and int(part) > 0 for part in parts):
        raise click.BadParameter(f"{value!r} is not a list of positive whole numbers, such as 128,512")
    return tuple(int(part) for part in parts)


@options.command(
    "edgekit bench smollm2-135m-cpu",
    "edgekit bench smollm2-135m-cpu --prompt-tokens 32,2048 --repeat 10 --json",
    see_also="edgekit probe measures the machine, edgekit plan predicts the speed.",
)
@options.artifact
@options.engine
@click.option(
    "--prompt-tokens",
    callback=_counts,
    default="128,512",
    show_default=True,
    metavar="N,N,...",
    help="Measure prompts of these lengths, in tokens.",
)
@options.count("--gen-tokens", "Generate this many tokens.", 32)
@options.count("--repeat", "Time this many rounds.", 3, metavar="N")
@options.threads
@options.kv_type
@options.as_json
@needs_memory(200)
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
    """Measure how fast ARTIFACT runs on this machine and how much memory it takes.

    Reports the tokens per second of prefill and decode (median, lowest, highest), also as a percentage of the hardware
    limits measured in the same run: the arithmetic of the best kernel for prefill, the memory bandwidth for decode.
    Loading time and memory follow.
    """
    from ..artifact.manifest import read_manifest
    from ..probe.bench import bench  # imports numpy

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
    print_planned_cache(read_manifest(artifact).plan, result.kv_type, kv_type)
    if as_json:
        emit_json(result.to_json())
    else:
        _print(result)


def _print(result: BenchResult) -> None:
    screen = open_screen()
    screen.say(
        f"{result.name}: {result.engine} ({result.kernel}), {_threads(result.threads)}, {result.kv_type} cache; "
        f"median of {result.repeat} rounds\n"
    )
    rows = [
        (f"prefill {p.tokens} tokens", *_speeds(p), _share(p.share_of_peak), format_seconds(p.ttft_s))
        for p in result.prefill
    ]
    for d in result.decode:
        name = f"decode {result.gen_tokens} at context {d.context}"
        rows.append((name, *_speeds(d), _share(d.share_of_bandwidth), ""))
    headings = ("tok/s", "lowest", "highest", "of the limit", "first token")
    screen.table((Column(), *(Column(heading, right=True, wraps=True) for heading in headings)), rows)
    memory = {"peak memory": result.peak_rss_bytes, "private memory": result.private_bytes}
    sizes = (f", {name} {format_bytes(size)}" for name, size in memory.items() if size is not None)
    screen.say(f"\nload {format_seconds(result.load_s)}", *sizes)
    if result.limits is not None:
        limits = result.limits
        screen.say(
            f"hardware limits with {_threads(limits.threads)}: memory {limits.bandwidth_gb_s:.1f} GB/s (decode), "
            f"{limits.kernel} {limits.kernel_gmac_s:.1f} x 10^9 multiply-adds/s (prefill)"
        )
    if result.shares_unknown is not None:
        screen.say(f"share of the limits unknown: {result.shares_unknown}")


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count != 1)}"


def _share(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.0%}"


def _speeds(result: Prefill | Decode) -> tuple[str, str, str]:
    return f"{result.tok_s:.1f}", f"{result.tok_s_min:.1f}", f"{result.tok_s_max:.1f}"
