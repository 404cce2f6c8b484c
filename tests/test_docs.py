"""The README and docs/ are up to date: commands parse, sample output is current, links resolve, examples run."""

from __future__ import annotations

import csv
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path

import click
import pytest
from command_reference import parts, reference
from latency_fit import fit as fitting
from latency_fit.report import print_report
from latency_fit.rows import read_rows
from pages import PAGES, README, ROOT, TOP, Command, anchors, blocks, commands, inline_code, links, mentions

import edgekit
from edgekit import errors
from edgekit.cli import cli
from edgekit.devices.registry import LIBRARY as DEVICES
from edgekit.recipes.quality import Thresholds
from edgekit.recipes.registry import LIBRARY as RECIPES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LANGUAGES = {"sh", "bash", "console", "python", "toml", "text", "c", "json"}
PLACEHOLDER = re.compile(r"[A-Z][A-Z0-9_-]*")  # a word for the reader to replace: ARTIFACT, NAME
CHECKED_PROGRAMS = {"edgekit", "python", "python3", "pytest"}
OTHER_PROGRAMS = {
    "edgekit-run",
    "openssl",
    "sed",
    "sha256sum",
    "hf",
    "cc",
    "cd",
    "cmake",
    "ctest",
    "pip",
    "export",
    "coverage",
    "ruff",
    "mypy",
    "lint-imports",
    "run",
    "mkdir",
    "cp",
    "adb",
    "apt-get",
    "cat",
    "grep",
    "ssh",
    "sudo",
    "uv",
    "vulkaninfo",
    "gradle",
    "swift",
}
COMMANDS = [command for page in PAGES for command in commands(page)]
OF_EDGEKIT = [command for command in COMMANDS if command.program == "edgekit"]
MENTIONED = [command for page in PAGES for command in mentions(page)]
OF_PYTHON = [command for command in COMMANDS if command.program in ("python", "python3", "pytest")]


def of_page(page: Path) -> str:
    return page.name


# ---- form


def test_the_readme_is_one_page() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 130


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_every_block_says_how_it_is_checked(page: Path) -> None:
    assert [block.place for block in blocks(page) if block.language not in LANGUAGES] == []


def test_every_page_is_in_the_index_and_in_the_readme() -> None:
    index = links(ROOT / "docs" / "README.md")
    for page in PAGES:
        if page.name != "README.md":
            assert page.name in index
            assert f"docs/{page.name}" in links(README)


def test_the_command_reference_is_fresh() -> None:
    assert parts()[1] == reference(), "run: python tools/command_reference.py"


def test_the_python_page_lists_the_public_names() -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`.*?`) \| ", text, re.MULTILINE)
    assert sorted(name for cell in cells for name in re.findall(r"`(\w+)`", cell)) == sorted(edgekit.__all__)


def test_the_changelog_has_the_version() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert version is not None
    assert f"## {version[1]}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_exit_codes_are_those_of_the_errors() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    listed = {name: int(code) for code, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.MULTILINE)}
    defined = {
        name: error.exit_code
        for name, error in vars(errors).items()
        if isinstance(error, type) and issubclass(error, errors.EdgekitError) and error is not errors.EdgekitError
    }
    assert listed == defined


def test_the_limits_of_the_gate_are_the_defaults() -> None:
    text = (ROOT / "docs" / "quality.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+)` \| .* \| ([\w.]+) \|$", text, re.MULTILINE))
    assert listed == {name: str(value).lower() for name, value in asdict(Thresholds()).items()}


def test_the_architecture_names_every_package_and_layer() -> None:
    page = ROOT / "docs" / "architecture.md"
    code = inline_code(page)
    for path in (ROOT / "edgekit").iterdir():
        if (path / "__init__.py").is_file():
            assert f"edgekit/{path.name}/" in code
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    assert [block.text.splitlines() for block in blocks(page, "text")] == [layers]


def test_the_steps_of_a_build_are_functions_of_the_modules_named() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    steps = re.findall(r"^\| `(\w+)` \| .* \| `(edgekit/[\w/]+)\.py` \|$", text, re.MULTILINE)
    assert len(steps) > 10
    for name, module in steps:
        assert callable(getattr(importlib.import_module(module.replace("/", ".")), name)), name


def test_the_readme_counts_the_published_speeds() -> None:
    text = README.read_text(encoding="utf-8")
    with (ROOT / "tools" / "latency_fit" / "measured.csv").open(encoding="utf-8", newline="") as file:
        fitted = [row for row in csv.DictReader(file) if row["use"] in fitting.USES and row["decode_tok_s"]]
    assert f"{len(fitted)} published decode speeds" in text


FitTable = dict[str, list[float]]


def printed_tables(text: str) -> dict[str, FitTable]:
    """The tables that tools/latency_fit/report.py prints: title -> class -> its figures."""
    tables: dict[str, FitTable] = {}
    for block in text.strip().split("\n\n"):
        title, _, *rows = block.splitlines()
        figures = (re.fullmatch(r"(.{28}) (.*)", row) for row in rows)
        tables[title] = {f[1].strip(): [float(x.rstrip("%")) for x in f[2].split()] for f in figures if f is not None}
    return tables


@pytest.mark.slow
def test_the_errors_of_the_speed_model_are_those_its_script_prints(capsys: pytest.CaptureFixture[str]) -> None:
    expected: FitTable = {}
    models = (
        ("decode", fitting.decode_target, fitting.DECODE_PRIORS),
        ("first token", fitting.prefill_target, fitting.PREFILL_PRIORS),
    )
    for title, target, priors in models:
        rows = [row for row in read_rows() if row.use in fitting.USES and target(row) is not None]
        targets = [value for value in map(target, rows) if value is not None]
        for by, what in (
            ("source", "sources"),
            ("publisher", "publishers"),
            ("device", "devices"),
            ("class_key", "classes"),
        ):
            print_report("table", rows, targets, fitting.left_out(rows, targets, priors, by))
            printed = printed_tables(capsys.readouterr().out)["table"]
            expected |= {
                **(printed if (title, by) == ("decode", "source") else {}),
                f"{title}, {what} left out": printed["all"],
            }
        aside = [row for row in read_rows() if row.use == "test" and target(row) is not None]
        print_report("table", *fitting.predicted(read_rows(), aside, target, priors))
        expected[f"{title}, rows set aside"] = printed_tables(capsys.readouterr().out)["table"]["all"]
    page = (ROOT / "docs" / "planning.md").read_text(encoding="utf-8")
    lines = re.findall(
        r"^\| ([\w, -]+) \| (\d+) \| (\d+) \| ([\d.]+) % \| ([\d.]+) % \| (\d+) % \|$", page, re.MULTILINE
    )
    assert len(lines) > 15
    for name, *figures in lines:
        found = expected[name]
        assert list(map(float, figures)) == pytest.approx(found, abs=0.2), name  # the last digit is the processor's


# ---- links and names


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_links_resolve(page: Path) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"


def words_of(page: Path) -> Iterator[tuple[str, str]]:
    for code in inline_code(page):
        for word in code.split():
            yield page.name, word.strip(",;:()")
    for block in blocks(page):
        for word in block.text.split():
            yield block.place, word.strip(",;:()\"'")


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_paths_of_the_repository_exist(page: Path) -> None:
    for place, word in words_of(page):
        if not re.match(rf"(?:{'|'.join(TOP)})/[\w./*-]+$", word):
            continue
        known = [part for part in word.split("/") if part]
        for i, part in enumerate(known):
            if PLACEHOLDER.search(part) and part not in ("README.md", "CMakeLists.txt"):
                known = known[:i]
                break
        pattern = "/".join(known)
        assert list(ROOT.glob(pattern)), f"{place}: {word}"


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_options_in_the_text_exist(page: Path) -> None:
    for code in inline_code(page):
        if not code.startswith("--"):
            continue
        option = code.split()[0].partition("=")[0]
        assert option in all_options(), f"{page.name}: {code}"


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_names_of_the_api_exist(page: Path) -> None:
    for code in inline_code(page):
        found = re.match(r"edgekit\.([A-Za-z_]+)(?:\(|$)", code)
        if found and found[1] not in ("json", "h", "hpp", "sig"):
            assert hasattr(edgekit, found[1]), f"{page.name}: {code}"


# ---- commands


def is_placeholder(word: str) -> bool:
    return PLACEHOLDER.fullmatch(word.partition(".")[0]) is not None


@cache
def command_of(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None, name
    return command


@cache
def help_of(script: str) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / script, "--help"],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        check=False,
    )
    assert done.returncode == 0, f"{script} --help: {done.stderr}"
    return done.stdout


@cache
def all_options() -> set[str]:
    """The options of all commands, of edgekit-run, and of every script that a page names."""
    context = click.Context(cli)
    program = ROOT / "edgekit" / "native" / "run" / "options.cpp"
    found = {
        "--help",
        "--version",
        *re.findall(r'^    {"(--[a-z-]+)"', program.read_text(encoding="utf-8"), re.MULTILINE),
    }
    for name in cli.list_commands(context):
        for parameter in command_of(name).params:
            found.update(parameter.opts, parameter.secondary_opts)
    for command in OF_PYTHON:
        if len(command.words) > 1 and command.words[1].startswith(("tools/", "examples/")):
            found.update(re.findall(r"--[a-z][a-z-]*", help_of(command.words[1])))
    return found


def test_there_are_commands_to_check() -> None:
    assert len(OF_EDGEKIT) > 30
    assert len(OF_PYTHON) > 5


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_programs_are_known(command: Command) -> None:
    assert command.program in CHECKED_PROGRAMS | OTHER_PROGRAMS


@pytest.mark.parametrize("command", [*OF_EDGEKIT, *MENTIONED], ids=str)
def test_edgekit_takes_the_command(command: Command) -> None:
    name, *arguments = command.words[1:]
    if is_placeholder(name):
        return
    checked = command_of(name)
    context = click.Context(checked, info_name=name)
    if not arguments and command in MENTIONED:  # the name alone
        return
    values, rest, _ = checked.make_parser(context).parse_args(arguments)
    assert rest == []
    for parameter in checked.params:
        value = values.get(parameter.name or "")
        if parameter.required and command not in MENTIONED:
            assert value is not None, parameter.name
        # Files need not exist and placeholders are the reader's; everything else must be a value the option takes.
        if (
            value is None
            or isinstance(parameter.type, click.Path)
            or (isinstance(value, str) and is_placeholder(value))
        ):
            continue
        parameter.type_cast_value(context, value)
    if isinstance(device := values.get("device"), str) and not device.endswith(".toml") and not is_placeholder(device):
        assert device in {*DEVICES.names(), *DEVICES.alias_names()}
    if isinstance(model := values.get("model"), str) and not model.endswith(".toml") and not is_placeholder(model):
        assert model in {*RECIPES.names(), *RECIPES.alias_names()}


@pytest.mark.parametrize("command", OF_PYTHON, ids=str)
def test_scripts_exist_and_take_the_options(command: Command) -> None:
    words = command.words[1:]
    if command.program == "pytest":
        for word in words:
            assert word.startswith("-") or (ROOT / word.partition("::")[0]).exists()
        return
    if words[0].startswith("-"):
        assert words[0] in ("-m", "-c")
        return
    assert (ROOT / words[0]).is_file()
    text = help_of(words[0])
    for word in words[1:]:
        if word.startswith("-"):
            assert re.search(rf"{re.escape(word)}\b", text), word
