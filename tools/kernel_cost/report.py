"""Static estimates of the NEON kernels: instructions of the inner loops, cycles by llvm-mca, and the speed of devices.

    python tools/kernel_cost/report.py [--compiler gcc|clang] [--recipe deepseek-r1-distill-qwen-1.5b]

Nothing is run or measured. The tool compiles the kernel files for 64-bit ARM, finds the loops that multiply, and has
llvm-mca simulate them with all data in the L1 cache. It needs g++-aarch64-linux-gnu or clang with Arm's headers, and
llvm-mca 19 or later. It prints the tables of "NEON kernels, estimated" in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from edgekit.devices import DeviceProfile, load_device
from edgekit.models import spec_from_config
from edgekit.recipes import load_recipe
from kernel_cost.kernels import (
    COMPILERS,
    FORMATS,
    TABLES,
    TILE_ROWS,
    Attention,
    Format,
    Table,
    compile_kernels,
    find_attention,
    find_loops,
)
from kernel_cost.loops import multiply_adds, vector_instructions
from kernel_cost.processors import BY_CLUSTER, CORES, Core, Simulator

DEVICES = ("raspberry-pi-5-8gb", "jetson-orin-nano", "snapdragon-8-gen-3")
FEW = (2, 4, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--compiler", choices=tuple(COMPILERS), default="gcc")
    parser.add_argument("--recipe", default="deepseek-r1-distill-qwen-1.5b")
    options = parser.parse_args()
    simulator = Simulator()
    tables = {name: find_loops(name, compile_kernels(name, options.compiler)) for name in TABLES}
    print(f"Compiled with {options.compiler}, simulated with llvm-mca {simulator.version}.\n")
    for lines in (decode_loops(tables, simulator), few_loops(tables, simulator), prefill_loops(tables, simulator)):
        print("\n".join(lines), end="\n\n")
    attention = find_attention(compile_kernels("neon_bf16", options.compiler))
    print("\n".join(attention_lines(attention, simulator)), end="\n\n")
    model = Model.of_recipe(options.recipe)
    for device in map(load_device, DEVICES):
        print("\n".join(device_table(device, model, tables, simulator)), end="\n\n")


def decode_loops(tables: dict[str, Table], simulator: Simulator) -> Iterator[str]:
    """Decode: instructions per iteration, and bytes of codes per cycle."""
    yield f"| decode | codes | vector instructions | all | per weight | {' | '.join(core.name for core in CORES)} |"
    yield "|---|---|---|---|---|" + "---|" * len(CORES)
    for name, table in tables.items():
        for fmt in FORMATS:
            loop = table.loop("decode", fmt, 1)
            codes = loop.weights * fmt.bits // 8
            speeds = [
                f"{codes / simulator.cycles(core, loop.instructions):.1f}" if core.kernels == name else ""
                for core in CORES
            ]
            yield (
                f"| {name}, {fmt.name} | {codes} bytes | {loop.vector} | {len(loop.instructions)} | "
                f"{loop.vector / loop.weights:.3f} | {' | '.join(speeds)} |"
            )


def few_loops(tables: dict[str, Table], simulator: Simulator) -> Iterator[str]:
    """Few rows: vector instructions for 128 weights, and the time of R rows as a multiple of that of one."""
    yield f"| few rows | 128 weights, 1 row | {' | '.join(f'{rows} rows' for rows in FEW)} |"
    yield "|---|---|" + "---|" * len(FEW)
    for name, table in tables.items():
        for fmt in FORMATS:
            one = table.loop("decode", fmt, 1)
            cells = [f"{128 * one.vector / one.weights:.0f}"]
            core = next(core for core in CORES if core.kernels == name)
            for rows in FEW:
                loop = table.loop("few", fmt, rows)
                ratio = weight_cycles(simulator, core, table, fmt, rows) / weight_cycles(simulator, core, table, fmt, 1)
                cells.append(f"{128 * loop.vector / loop.weights:.0f} ({ratio:.1f})")
            yield f"| {name}, {fmt.name} | {' | '.join(cells)} |"


def prefill_loops(tables: dict[str, Table], simulator: Simulator) -> Iterator[str]:
    """Prefill: instructions for a block of a tile, and the share of the unit's peak."""
    yield f"| prefill | multiply-adds | vector instructions | all | {' | '.join(core.name for core in CORES)} |"
    yield "|---|---|---|---|" + "---|" * len(CORES)
    for name, table in tables.items():
        for fmt in FORMATS:
            loop = table.loop("prefill", fmt, TILE_ROWS[name])
            counts = f"{loop.multiply_adds} | {loop.vector} | {len(loop.instructions)}"
            shares = [
                f"{peak_share(simulator, core, table, fmt):.0%}" if core.kernels == name else "" for core in CORES
            ]
            yield f"| {name}, {fmt.name} | {counts} | {' | '.join(shares)} |"


def attention_lines(attention: Attention, simulator: Simulator) -> Iterator[str]:
    """Attention with head_dim 128: eight rows and a block of 64 keys."""
    cores = [core for core in CORES if core.kernels == "neon_i8mm"]
    yield f"| attention, 8 rows, 64 keys | vector instructions | {' | '.join(core.name for core in cores)} |"
    yield "|---|---|" + "---|" * len(cores)
    steps = {"scores": (attention.scores, 64 // 8 * 128 // 4), "values": (attention.values, 128 // 8 * 64 // 4)}
    parts = {**steps, "softmax": (attention.softmax, 8)}
    cycles = {core: [simulator.cycles(core, text) * times for text, times in parts.values()] for core in cores}
    for place, (part, (text, times)) in enumerate(parts.items()):
        figures = " | ".join(f"{cycles[core][place]:.0f} cycles" for core in cores)
        yield f"| {part} | {vector_instructions(text) * times} | {figures} |"
    products = 2 * 8 * 64 * 128
    yield f"| multiply-adds per cycle | | {' | '.join(f'{products / sum(cycles[core]):.0f}' for core in cores)} |"


class Model:
    """What a token of a model costs.

    Attributes:
        weights: Weights read to generate a token: the layers and the lm_head.
        inner: Those in the layers, each multiplied with every token of a prompt.
    """

    def __init__(self, weights: int, inner: int) -> None:
        self.weights, self.inner = weights, inner

    @classmethod
    def of_recipe(cls, name: str) -> Model:
        spec = spec_from_config(load_recipe(name).config)
        inner = sum(linear.out_features * linear.in_features for layer in spec.layers for linear in layer.linears)
        return cls(inner + spec.lm_head.out_features * spec.lm_head.in_features, inner)


def device_table(device: DeviceProfile, model: Model, tables: dict[str, Table], simulator: Simulator) -> Iterator[str]:
    """Speeds of a device by its arithmetic alone and by its memory alone."""
    cores = device_cores(device)
    bandwidth = device.bandwidth.theoretical
    assert bandwidth is not None, f"{device.title} has no bandwidth"
    memory = bandwidth.value
    described = ", ".join(f"{count} {core.name} at {clock} GHz" for core, count, clock in cores)
    few = " | ".join(f"{rows} rows" for rows in FEW)
    yield f"{device.title}: {described}; memory {memory:.0f} GB/s\n"
    yield f"| format | decode by arithmetic | by memory | ratio | {few} | prefill |"
    yield "|---|---|---|---|" + "---|" * (len(FEW) + 1)
    for fmt in (replace(fmt, scale_bits={"float16": 16, "float32": 32}[device.activation_type]) for fmt in FORMATS):
        by_memory = memory * 1e9 / (model.weights * fmt.bytes_per_weight)
        speeds = {rows: weights_per_second(simulator, cores, tables, fmt, rows) / model.weights for rows in (1, *FEW)}
        times = {rows: max(1 / speed, 1 / by_memory) for rows, speed in speeds.items()}
        prefill_speed = sum(
            count * clock * 1e9 * prefill_rate(simulator, core, tables[core.kernels], fmt)
            for core, count, clock in cores
        )
        arithmetic = f"{speeds[1]:.0f} tok/s ({speeds[1] * model.weights * fmt.bytes_per_weight / 1e9:.0f} GB/s)"
        ratios = " | ".join(f"{times[rows] / times[1]:.2f}" for rows in FEW)
        yield (
            f"| {fmt.name} | {arithmetic} | {by_memory:.0f} tok/s | {speeds[1] / by_memory:.2f} | {ratios} | "
            f"{prefill_speed / model.inner:.0f} tok/s |"
        )


def device_cores(device: DeviceProfile) -> list[tuple[Core, int, float]]:
    found = []
    for cluster in device.cpu.clusters:
        if cluster.name in BY_CLUSTER:
            assert cluster.clock_ghz is not None, f"{device.title}: {cluster.name} has no clock"
            found.append((BY_CLUSTER[cluster.name], cluster.cores.value, cluster.clock_ghz.value))
    assert found, f"{device.title} has no core that is known to kernel_cost"
    return found


def weights_per_second(
    simulator: Simulator, cores: list[tuple[Core, int, float]], tables: dict[str, Table], fmt: Format, rows: int
) -> float:
    """Weights that all cores multiply with so many rows per second, from the L1 cache."""
    return sum(
        count * clock * 1e9 / weight_cycles(simulator, core, tables[core.kernels], fmt, rows)
        for core, count, clock in cores
    )


def weight_cycles(simulator: Simulator, core: Core, table: Table, fmt: Format, rows: int) -> float:
    """Cycles to multiply a weight with so many rows of activations."""
    loop = table.loop("decode" if rows == 1 else "few", fmt, rows)
    return simulator.cycles(core, loop.instructions) / loop.weights


def prefill_rate(simulator: Simulator, core: Core, table: Table, fmt: Format) -> float:
    """Multiply-adds per cycle."""
    loop = table.loop("prefill", fmt, TILE_ROWS[table.name])
    return loop.multiply_adds / simulator.cycles(core, loop.instructions)


def peak_share(simulator: Simulator, core: Core, table: Table, fmt: Format) -> float:
    """Multiply-adds per cycle in prefill, as a share of those of a loop with products alone."""
    peak = multiply_adds(table.peak) / simulator.cycles(core, table.peak)
    return prefill_rate(simulator, core, table, fmt) / peak


if __name__ == "__main__":
    main()
