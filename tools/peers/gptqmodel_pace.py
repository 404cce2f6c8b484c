"""How long GPTQModel and edgekit take for a layer of the same model and calibration text, by turns.

    python tools/peers/gptqmodel_pace.py CHECKPOINT TEXT --gptqmodel PYTHON [--layers 3] [--turns 2]

Only the first layers are timed, from one's end to the next one's, as all layers have one shape and the whole takes
GPTQModel half an hour on two cores; then both are stopped. Each reads the text's first 32 x 4000 characters, edgekit as
one stretch cut into its own texts. ``--gptqmodel`` is the Python of an environment with gptqmodel and torch.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

TEXTS, CHARACTERS = 32, 4000
GROUP = 64
_POLL_S = 0.1
_MOST_S = 3600
_LAYER = re.compile(r"in layer\s+\[(\d+) of")
_SCRIPT = """
import sys
from gptqmodel import GPTQModel, QuantizeConfig

if __name__ == "__main__":
    text = open(sys.argv[2], encoding="utf-8").read()
    texts, characters = int(sys.argv[3]), int(sys.argv[4])
    config = QuantizeConfig(bits=4, group_size=int(sys.argv[5]), sym=False, format="gptq_v2")
    model = GPTQModel.load(sys.argv[1], config, device="cpu")
    model.quantize([text[i * characters : (i + 1) * characters] for i in range(texts)], batch_size=1)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--gptqmodel", required=True, help="a Python that has it")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--turns", type=int, default=2)
    options = parser.parse_args()
    found: dict[str, list[float]] = {"GPTQModel": [], "edgekit": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        script = folder / "quantize.py"
        script.write_text(_SCRIPT, encoding="utf-8")
        text = folder / "text.txt"
        text.write_text(options.text.read_text(encoding="utf-8")[: TEXTS * CHARACTERS], encoding="utf-8")
        numbers = [str(n) for n in (TEXTS, CHARACTERS, GROUP)]
        other = [options.gptqmodel, str(script), str(options.checkpoint), str(text), *numbers]
        for turn in range(options.turns):
            log = folder / f"gptqmodel.{turn}"
            found["GPTQModel"] += _paced(other, log, lambda log=log: _begun(log), options.layers)
            out = folder / f"out.{turn}"
            own = [
                sys.executable, "-m", "edgekit.cli", "build", "--checkpoint", str(options.checkpoint),
                "--device", "cpu", "--out", str(out), "--method", "gptq",
                "--calibration", str(text), "--calibration-tokens", "32768",
                "--block-size", str(GROUP), "--asymmetric", "--no-rotate", "--no-scale", "--no-gate", "--anyway",
            ]  # fmt: skip
            state = folder / f".out.{turn}.calibration"
            found["edgekit"] += _paced(
                own, folder / "edgekit.log", lambda state=state: _finished(state), options.layers
            )
            for name, seconds in found.items():
                print(f"{name}: {', '.join(f'{s:.1f}' for s in seconds)} s a layer", flush=True)
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    print(", ".join(f"{name} {s:.1f} s a layer" for name, s in medians.items()), end="; ")
    print(f"GPTQModel takes {medians['GPTQModel'] / medians['edgekit']:.1f} times as long")


def _paced(command: list[str], log: Path, layers_done: Callable[[], int], layers: int) -> list[float]:
    """Seconds of each layer after the first mark that ``layers_done`` sees; the command is stopped then."""
    marks: list[float] = []
    environment = {"GPTQMODEL_CPU_WORKERS": str(os.cpu_count()), **os.environ}
    with (
        log.open("wb") as file,
        subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment) as it,
    ):
        try:
            started = time.monotonic()
            while len(marks) <= layers:
                if it.poll() is not None or time.monotonic() - started > _MOST_S:
                    raise SystemExit(f"{command[:3]} got no further: {log.read_text(errors='replace')[-2000:]}")
                if layers_done() > len(marks):
                    marks.append(time.monotonic())
                time.sleep(_POLL_S)
        finally:
            it.terminate()
    return [after - before for before, after in pairwise(marks)]


def _begun(log: Path) -> int:
    """How many layers GPTQModel's display has named."""
    return 1 + max((int(n) for n in _LAYER.findall(log.read_text(encoding="utf-8", errors="replace"))), default=-1)


def _finished(state: Path) -> int:
    """How many layers edgekit has written down."""
    return len(list(state.glob("layer.*.npz")))


if __name__ == "__main__":
    main()
