"""The ``edgekit`` command itself: lazy imports, unknown commands, locales, and output that nobody reads."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from invoke import Invoke

from edgekit.cli import cli, main

ROOT = Path(__file__).parents[2]
HEAVY = ("numpy", "onnx", "onnxruntime", "tokenizers", "huggingface_hub", "gguf", "matplotlib")


def _edgekit(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "edgekit.cli", *arguments],
        cwd=ROOT, capture_output=True, timeout=60, env={**os.environ, **environment},
    )  # fmt: skip


def _imported(*arguments: str) -> set[str]:
    """The packages that a command imports."""
    program = (
        f"import sys\nsys.argv = ['edgekit', *{arguments!r}]\nfrom edgekit.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('imported:', *sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    return set(done.stderr.splitlines()[-1].removeprefix("imported: ").split())


def test_help_of_every_command_has_examples_and_links(invoke: Invoke) -> None:
    overview = invoke("--help").text
    for name in cli.list_commands(None):  # type: ignore[arg-type]
        assert f"\n  {name} " in overview
        shown = invoke(name, "--help").text
        assert f"Usage: edgekit {name} " in shown
        assert f"  edgekit {name}" in shown.partition("Example")[2]
        assert "See also: edgekit " in shown


def test_the_paragraphs_of_a_help_text_are_indented_alike(invoke: Invoke) -> None:
    for name in cli.list_commands(None):  # type: ignore[arg-type]
        words = invoke(name, "--help").text.partition("Options:")[0].partition("Targets:")[0]
        assert "\n    " not in words, name
        assert not re.search(r"\S {2,}\S", words), name


def test_help_imports_nothing_heavy() -> None:
    assert not _imported("--help") & {*HEAVY, "rich"}, "the overview imports every command"


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "--device", "cpu"],
        ["plan", "smollm2-135m", "--all-devices"],
        ["plan", "nothing", "--device", "pi"],
        ["devices", "jetson"],
        ["recipes"],
        ["verify", "nowhere"],
    ],
)
def test_planning_and_errors_import_nothing_heavy(arguments: list[str]) -> None:
    imported = _imported(*arguments)
    assert not imported & set(HEAVY)
    assert "rich" in imported


def test_json_imports_no_rich() -> None:
    assert "rich" not in _imported("plan", "deepseek-r1-671b", "--device", "jetson", "--json")


def test_an_unknown_command_names_the_nearest(invoke: Invoke) -> None:
    outcome = invoke("plant")
    assert outcome.exit_code == 2
    assert "there is no command 'plant'; did you mean plan?" in outcome.stderr


def test_a_name_that_is_not_utf_8_is_written_as_escapes(tmp_path: Path) -> None:
    done = _edgekit("keygen", str(tmp_path / "key-\udcff"), PYTHONIOENCODING="utf-8:strict")
    assert (done.returncode, b"key-\\udcff: the private key" in done.stdout) == (0, True)


def test_an_option_where_a_command_is_expected(invoke: Invoke) -> None:
    outcome = invoke("--", "--threads")
    assert outcome.exit_code == 2
    assert "there is no command '--threads'" in outcome.stderr


def test_a_locale_without_lines_and_blocks_gets_others() -> None:
    done = _edgekit("plan", "smollm2-135m", "--device", "jetson", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert b"-----" in done.stdout
    assert done.stdout.isascii()
    assert _edgekit("devices", "jetson", PYTHONIOENCODING="ascii").returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("command", ["devices", "recipes", "plan --device jetson", "plan smollm2-135m --device pi"])
def test_tables_keep_to_the_columns_told(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, command: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = invoke(*command.split()).text.splitlines()
    tables = [line for line in lines if "  " in line and not line.startswith("  edgekit")]
    assert max(map(len, tables)) <= width


@pytest.mark.parametrize(
    "arguments",
    [
        ["recipes"],
        ["recipes", "--json"],
        ["--help"],
        ["plan", "--help"],
        ["plan", "nothing", "--device", "pi", "--json"],
    ],
)
def test_a_reader_that_left_is_no_failure_to_report(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "edgekit.cli", *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, timeout=60, env=environment)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("arguments", [["--help"], ["recipes"], ["devices", "--json"]])
def test_an_output_that_takes_nothing_is_an_error_and_no_traceback(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edgekit.cli", *arguments], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert done.returncode == 52
    assert done.stderr == b"error: cannot write the output: No space left on device\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["devices", "verify /nowhere"])
def test_closed_streams_are_no_problem(closed: str, command: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" -m edgekit.cli {command} {closed}'], capture_output=True, text=True
    )
    assert done.returncode == (0 if command == "devices" else 60)
    assert "Traceback" not in done.stderr
    assert bool(done.stdout) == (command == "devices" and " >&-" not in f" {closed}")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize(("arguments", "status"), [(["verify", "/nowhere"], 60), (["recipes"], 0), (["nothing"], 2)])
def test_messages_that_cannot_be_written_are_dropped(arguments: list[str], status: int) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edgekit.cli", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=full, timeout=60
        )
    assert done.returncode == status
    assert bool(done.stdout) == (status == 0)


@pytest.mark.parametrize("arguments", [["run"], ["inspect"], ["build", "--device", "cpu", "--checkpoint"], ["devices"]])
def test_a_name_that_is_too_long(arguments: list[str]) -> None:
    done = _edgekit(*arguments, "a" * 300)
    assert done.returncode in (2, 10, 30, 60)
    assert b"Traceback" not in done.stderr
    assert done.stderr.startswith(b"error: ")


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes of Unix")
@pytest.mark.parametrize(
    "arguments",
    [
        ["smoke", "artifact", "--out"],
        ["probe", "--limits-only", "--out"],
        ["devices", "jetson", "--from-receipt", "receipt.json", "--out"],
        ["plan", "smollm2-135m", "--device", "jetson", "--plot"],
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path, arguments: list[str]) -> None:
    pipe = tmp_path / "pipe.toml"
    os.mkfifo(pipe)
    done = _edgekit(*arguments, str(pipe))
    assert done.returncode == 2
    expected = f"Error: Invalid value for '{arguments[-1]}': cannot write {pipe}: it is a named pipe"
    assert expected in " ".join(done.stderr.decode().split())
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_path_that_may_not_be_opened_is_an_error_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("edgekit.cli.cli.make_context", lambda name, arguments: refused(arguments[0]))
    for path, shown in (("folder/file", "folder/file"), ("a" * 300, "a" * 100 + "...")):
        monkeypatch.setattr(sys, "argv", ["edgekit", path])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert capsys.readouterr().err.replace("\n", "") == f"error: cannot open {shown}: Permission denied"
