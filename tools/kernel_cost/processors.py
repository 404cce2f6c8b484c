"""The cores whose speed is estimated, and llvm-mca, which simulates a loop on them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

OLDEST_LLVM = 19  # the oldest version with the models below
ITERATIONS = 40


@dataclass(frozen=True)
class Core:
    """A core and what LLVM knows of it.

    LLVM simulates Cortex-A76 and A78 as a Cortex-A57, which loads one register per cycle. Here they use the model of
    Neoverse N1, the server's version of A76, with the widths of Arm's optimization guides. An A78 also loads three
    registers per cycle where the N1 loads two, so its estimate is on the low side.

    Attributes:
        name: What the tables call it.
        model: The ``-mcpu`` of llvm-mca.
        kernels: The kernel table that edgekit uses on it.
        micro_ops: Micro-operations dispatched per cycle; None: as in LLVM's model.
        decodes: Instructions decoded per cycle; None: only micro-operations count.
    """

    name: str
    model: str
    kernels: str
    micro_ops: int | None = None
    decodes: int | None = None


A76 = Core("Cortex-A76, Neoverse N1", "neoverse-n1", "neon_dotprod", 8, 4)
A78 = Core("Cortex-A78", "neoverse-n1", "neon_dotprod", 12, 6)
X1 = Core("Cortex-X1", "neoverse-v1", "neon_dotprod", 16, 8)
V1 = Core("Neoverse V1", "neoverse-v1", "neon_i8mm", 16, 8)
A720 = Core("Cortex-A720", "cortex-a720", "neon_i8mm")
X4 = Core("Cortex-X4", "cortex-x4", "neon_i8mm")
CORES = (A76, A78, X1, V1, A720, X4)

# The cores of the devices by the names in their profiles; smaller cores are left out, as edgekit leaves them idle.
BY_CLUSTER = {"Cortex-A76": A76, "Cortex-A78AE": A78, "Cortex-X4": X4, "Cortex-A720, fast": A720, "Cortex-A720": A720}


class Simulator:
    """llvm-mca, the newest version found.

    Raises:
        SystemExit: No version is installed that is new enough.
    """

    def __init__(self) -> None:
        names = ["llvm-mca", *(f"llvm-mca-{version}" for version in range(OLDEST_LLVM, 40))]
        found = {self._version(path): path for name in names if (path := shutil.which(name))}
        if not found or max(found) < OLDEST_LLVM:
            newest = f"version {max(found)} was found" if found else "none was found"
            raise SystemExit(
                f"kernel_cost needs llvm-mca {OLDEST_LLVM} or later; {newest}. Install llvm, for example llvm-22."
            )
        self.version = max(found)
        self._path = found[self.version]
        self._known = dict[tuple[Core, tuple[str, ...]], float]()

    @staticmethod
    def _version(path: str) -> int:
        text = subprocess.run([path, "--version"], check=True, capture_output=True, text=True).stdout
        match = re.search(r"LLVM version (\d+)", text)
        return int(match[1]) if match else 0

    def cycles(self, core: Core, instructions: Sequence[str]) -> float:
        """Cycles of one iteration of a loop when it runs many times and all data is in the L1 cache.

        Raises:
            ValueError: llvm-mca does not understand an instruction.
        """
        key = core, tuple(instructions)
        if key not in self._known:
            width = [f"-dispatch={core.micro_ops}"] if core.micro_ops else []
            simulated = self._total(core, width, instructions, 2 * ITERATIONS) - self._total(
                core, width, instructions, ITERATIONS
            )
            decoding = len(instructions) / core.decodes if core.decodes else 0.0
            self._known[key] = max(simulated / ITERATIONS, decoding)
        return self._known[key]

    def _total(self, core: Core, width: list[str], instructions: Sequence[str], iterations: int) -> int:
        # gcc writes a negative byte as 64 bits, which LLVM's assembler refuses.
        text = re.sub(r"(movi .*, 0x)f{14}([0-9a-f]{2})\b", r"\1\2", "\n".join(instructions))
        done = subprocess.run(
            [self._path, "--mtriple=aarch64", f"--mcpu={core.model}", "--mattr=+dotprod,+i8mm,+bf16", *width,
             f"-iterations={iterations}", "-instruction-info=false", "-resource-pressure=false"],
            input=text, capture_output=True, text=True,
        )  # fmt: skip
        total = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
        if done.returncode or not total:
            raise ValueError(f"llvm-mca failed for {core.model}: {done.stderr.strip()[:500]}")
        return int(total[1])
