"""The public API: every name resolves, and running a model does not import the builder."""

from __future__ import annotations

import subprocess
import sys

import pytest

import edgekit


def test_every_public_name_resolves() -> None:
    for name in edgekit.__all__:
        assert getattr(edgekit, name) is not None
    assert dir(edgekit) == sorted(edgekit.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        edgekit.lode  # noqa: B018


def test_names_and_objects_are_taken_alike() -> None:
    by_name = edgekit.plan("smollm2-135m", "jetson")
    assert by_name.fits
    assert edgekit.plan(edgekit.load_recipe("smollm2-135m"), edgekit.load_device("jetson")) == by_name
    wide = edgekit.plan("smollm2-135m", "jetson", quantization=edgekit.QuantizationOverrides(bits=8))
    assert wide.bits_per_weight > by_name.bits_per_weight


@pytest.mark.parametrize(
    "statement",
    [
        "import edgekit; edgekit.build",
        "import edgekit.build; edgekit.build",
        "from edgekit.build.pipeline import run_build; import edgekit",
        "import edgekit.build.inputs, edgekit",
    ],
)
def test_build_is_the_function_whatever_was_imported_before(statement: str) -> None:
    check = f"{statement}\nprint(callable(edgekit.build), edgekit.build.__name__)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "build"]


def test_importing_changes_nothing_in_the_environment() -> None:
    check = "import os; before = dict(os.environ); import edgekit; edgekit.load; edgekit.build; edgekit.plan\n"
    check += "print(before == dict(os.environ))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_errors_have_one_exit_code_each() -> None:
    def tree(kind: type[edgekit.EdgekitError]) -> list[type[edgekit.EdgekitError]]:
        return [kind, *(c for sub in kind.__subclasses__() for c in tree(sub))]

    # Not those that tests define.
    codes = {c.__name__: c.exit_code for c in tree(edgekit.EdgekitError) if c.__module__ == "edgekit.errors"}
    assert len(set(codes.values())) == len(codes) > 20
    documented = (edgekit.EdgekitError.__module__ and sys.modules["edgekit.errors"].__doc__) or ""
    for name, code in codes.items():
        assert any(name in line and f" {code} " in line for line in documented.splitlines()), name


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        (
            "import edgekit; edgekit.load",
            ("onnx", "gguf", "huggingface_hub", "edgekit.build.pipeline", "edgekit.quantize"),
        ),
        ("import edgekit; edgekit.plan", ("onnx", "onnxruntime", "numpy")),
        ("import edgekit.cli", ("onnx", "onnxruntime", "numpy", "matplotlib", "rich")),
        ("import edgekit; edgekit.build", ("torch", "transformers", "onnx")),
    ],
)
def test_imports_stay_light(statement: str, absent: tuple[str, ...]) -> None:
    check = f"{statement}\nimport sys\nprint([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
