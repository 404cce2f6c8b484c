"""The tree of exceptions: exit codes, names in JSON, and suggestions."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import edgekit.errors
from edgekit.errors import EdgekitError, missing_package, nearest, shown_command

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def every_error() -> list[type[EdgekitError]]:
    return [c for _, c in inspect.getmembers(edgekit.errors, inspect.isclass) if issubclass(c, EdgekitError)]


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """Each class has one line with its exit code, indented below its base class."""
    drawn: dict[str, tuple[str, int]] = {}
    above: list[str] = []
    for line in (edgekit.errors.__doc__ or "").splitlines():
        match = re.fullmatch(r"    ([|+ -]*)([A-Z]\w*Error) +(\d+)   \S.*", line)
        if match is None:
            continue
        depth = len(match[1]) // 4
        del above[depth:]
        drawn[match[2]] = (above[-1] if above else "Exception", int(match[3]))
        above.append(match[2])
    assert drawn == {c.__name__: (c.__bases__[0].__name__, c.exit_code) for c in every_error()}


def test_exit_codes_are_unique_and_valid() -> None:
    codes = [c.exit_code for c in every_error()]
    assert len(set(codes)) == len(codes)
    assert all(0 < code < 256 for code in codes)


def test_kinds_are_unique_snake_case_names() -> None:
    kinds = [c("message").kind for c in every_error()]
    assert len(set(kinds)) == len(kinds)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", kind) for kind in kinds)
    assert edgekit.errors.TruncatedFileError("x").kind == "truncated_file"
    assert edgekit.errors.UnknownNameError("x").kind == "unknown_name"


def test_an_error_carries_its_hint() -> None:
    error = EdgekitError("what happened", hint="what to do")
    assert (str(error), error.message, error.hint) == ("what happened", "what happened", "what to do")
    assert EdgekitError("what happened").hint == ""


def test_similar_names_are_suggested_and_otherwise_all_are_listed() -> None:
    known = ["jetson", "pi", "phone", "cpu"]
    assert nearest("jetsen", known) == "did you mean jetson?"
    assert nearest("phne", iter(known)) == "did you mean phone?"
    assert nearest("zzz", known) == "known: cpu, jetson, phone, pi"
    assert nearest("x", []) == "no names are known"
    assert nearest("aa1", ["aa2", "aa3"]) in ("did you mean aa3 or aa2?", "did you mean aa2 or aa3?")


def test_a_package_of_the_extra_build_is_named_with_the_command_that_installs_it() -> None:
    error = missing_package(ModuleNotFoundError("No module named 'onnx.helper'", name="onnx.helper"))
    assert error is not None
    assert "onnx" in error.message
    assert error.hint == 'install the extra build: pip install "edgekit-llm[build]"'
    assert missing_package(ModuleNotFoundError("No module named 'colour'", name="colour")) is None
    assert missing_package(ModuleNotFoundError("?")) is None


def test_the_packages_of_the_extra_build_are_those_of_pyproject() -> None:
    described = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    extras = described["project"]["optional-dependencies"]
    assert {re.split(r"[<>=]", each)[0] for each in extras["build"]} == set(edgekit.errors._BUILD_PACKAGES)
    core = {re.split(r"[<>=]", each)[0] for each in described["project"]["dependencies"]}
    assert core.isdisjoint(edgekit.errors._BUILD_PACKAGES)


def test_a_command_that_is_shown_has_the_quotes_that_a_shell_needs() -> None:
    assert shown_command("verify", Path("my artifact")) == "edgekit verify 'my artifact'"
    assert shown_command("run", "a", "--prompt", "What?") == "edgekit run a --prompt 'What?'"
