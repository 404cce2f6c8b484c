"""Receipts for tests: a complete one, which tests change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgekit.deploy.receipt import Check, Clock, Machine, Prompt, Receipt, Sustained, Temperature

JETSON = Machine(
    system="Linux 5.15.148-tegra",
    machine="aarch64",
    board="NVIDIA Jetson Orin Nano Developer Kit",
    processor="ARMv8 Processor rev 1 (v8l)",
    isa=("asimd", "fphp", "asimdhp", "asimddp"),
    cores=6,
    memory_bytes=7_990_000_000,
    available_bytes=6_100_000_000,
    clocks=(Clock("0 1 2 3 4 5", 1728.0, 1728.0, "schedutil"),),
    temperatures=(Temperature("cpu-thermal", 51.5),),
    power_mode="MAXN_SUPER",
)


def receipt(machine: Machine = JETSON, **changes: Any) -> Receipt:
    """A receipt of the jetson profile that contradicts nothing."""
    complete = Receipt(
        program="edgekit-run",
        edgekit_version="0.1.0",
        created="2026-01-31T12:00:00Z",
        artifact="tiny",
        manifest_sha256="0" * 64,
        host=machine,
        device="jetson-orin-nano",
        engine="native",
        kernel="neon_dotprod",
        threads=6,
        context=4096,
        kv_type="float16",
        checks=(Check("files", "pass", "9 files"), Check("decode", "warn", "slow")),
        load_s=0.02,
        ttft_s=0.4,
        decode_tok_s=30.0,
        peak_rss_bytes=200_000_000,
        prompt=Prompt(128, 1.5),
        sustained=Sustained(60.0, 1700, 30.0, 29.5),
    )
    return replace(complete, **changes)
