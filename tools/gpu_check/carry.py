"""Pack what ``check.py`` needs on a machine without a network: wheels, graphs and the script, 64 MB in all.

    python tools/gpu_check/carry.py OUT [--python 3.11] [--platform manylinux_2_28_x86_64]

The graphs are those of SmolLM2-135M and R1-Distill-Qwen-1.5B in their recipes' formats, each for float16 and SmolLM2
for float32 as well. Their weights are made up on the machine: no speed and no placement depends on their values. It
needs an installed checkout with the extra build, pip, and the network.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from edgekit.artifact.manifest import RuntimeFacts
from edgekit.export.decoder import build_decoder
from edgekit.layout import plan_layout
from edgekit.models import spec_from_config
from edgekit.recipes import load_recipe

ROOT = Path(__file__).parents[2]
LIMIT_BYTES = 64_000_000
SHAPES = (("smollm2-135m", "float32"), ("smollm2-135m", "float16"), ("deepseek-r1-distill-qwen-1.5b", "float16"))
CONTEXT = 2048
WHEELS = ("onnxruntime>=1.24.4", "onnxruntime-ep-webgpu>=0.4")


def write_graph(folder: Path, recipe_name: str, activation_type: str) -> None:
    """Write an artifact without its weights: ``model.onnx`` and ``facts.json``."""
    recipe = load_recipe(recipe_name)
    spec = spec_from_config(recipe.config)
    layout = plan_layout(spec, recipe.quantization, activation_type, CONTEXT)
    folder.mkdir(parents=True)
    model = build_decoder(spec, layout, version("edgekit-llm"))
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    facts = RuntimeFacts(
        name=folder.name,
        model={"vocab_size": spec.vocab_size, "num_layers": spec.num_layers, "context_length": CONTEXT},
        plan={"context": CONTEXT},
        quantization=asdict(recipe.quantization),
        activation_type=activation_type,
        reasoning=False,
        sampling={},
        tokens={},
    )
    (folder / "facts.json").write_text(json.dumps(facts.facts_json()), encoding="utf-8")


def download_wheels(folder: Path, python: str, platform: str) -> None:
    """Build edgekit's wheel, and download those of what it needs to run a model."""
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    wheel = next(folder.glob("edgekit_llm-*.whl"))
    only = ["--only-binary=:all:", "--python-version", python, "--platform", platform]
    subprocess.run([*pip, "download", "-q", "--dest", folder, *only, wheel, *WHEELS], check=True)


def main() -> None:
    """Pack, and say how large it is."""
    parser = argparse.ArgumentParser(description="Pack what check.py needs on a machine without a network.")
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--python", default="3.11", help="the machine's Python; the plugin needs 3.11 or later")
    parser.add_argument("--platform", default="manylinux_2_28_x86_64", help="as pip download names it")
    parser.add_argument("--no-wheels", action="store_true", help="for a machine that has edgekit and the plugin")
    options = parser.parse_args()
    for recipe, activation_type in SHAPES:
        write_graph(options.out / "models" / f"{recipe}-{activation_type}", recipe, activation_type)
    if not options.no_wheels:
        download_wheels(options.out / "wheels", options.python, options.platform)
    for script in ("check.py", "check.sh"):
        shutil.copy(Path(__file__).with_name(script), options.out)
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print(f"{options.out}: {size / 1e6:.1f} MB; there, run: bash check.sh")
    if size > LIMIT_BYTES:
        sys.exit(f"that is more than {LIMIT_BYTES / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
