"""The state of a calibration: stored files, resuming, and a full disk."""

from __future__ import annotations

import errno
import json
import os
import time
from contextlib import closing, nullcontext
from pathlib import Path

import numpy as np
import pytest
from array_weights import tiny_weights

from edgekit.calibration import state as module
from edgekit.calibration.state import CalibrationState, HeldRows, Rows, sweep_states
from edgekit.errors import BuildError, DiscardedStateWarning, DiskFullError, UsageError
from edgekit.layout import Matrix, plan_layout
from edgekit.quantize.packing import PackedLinear
from edgekit.quantize.rtn import quantize_rows
from edgekit.scheme import QuantizationConfig, QuantizationScheme

KEY = {"seed": 1}
VALUES = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


def full_disk(*_: object, **__: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def check_rows(rows: Rows | HeldRows) -> None:
    rows.write(3, VALUES[3:])
    rows.write(0, VALUES[:3])
    np.testing.assert_array_equal(rows.read(2, 6), VALUES[2:6])
    np.testing.assert_array_equal(rows.read(0, 7), VALUES)


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    check_rows(HeldRows(np.zeros((7, 5), np.float32)))
    with closing(Rows(tmp_path / "rows", 5)) as rows:
        check_rows(rows)
    with closing(Rows(tmp_path / "rows", 5)) as rows:
        np.testing.assert_array_equal(rows.read(6, 7), VALUES[6:])


def test_rows_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Rows(tmp_path / "rows", 5)) as rows:
        monkeypatch.setattr(os, "pwrite", full_disk)
        with pytest.raises(DiskFullError, match="no space to write"):
            rows.write(0, VALUES)


def anew() -> pytest.WarningsRecorder:
    """Expects to be told that the calibration starts anew."""
    return pytest.warns(DiscardedStateWarning, match="of another calibration or damaged; the calibration starts anew")


def test_another_fingerprint_empties_the_folder(folder: Path) -> None:
    with closing(CalibrationState(folder, KEY)) as state, state.create(0, 5) as rows:
        rows.write(0, VALUES)
    (folder / "draft").mkdir()
    hidden = folder / "hidden.0.f32"
    with closing(CalibrationState(folder, KEY)):
        assert hidden.is_file()
    with anew(), closing(CalibrationState(folder, {"seed": 2})):
        assert [p.name for p in folder.iterdir()] == ["fingerprint.json"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b'{"seed": '])
def test_a_damaged_fingerprint_empties_the_folder(folder: Path, content: bytes) -> None:
    folder.mkdir()
    (folder / "fingerprint.json").write_bytes(content)
    (folder / "texts.json").write_text("[[1]]")
    with anew(), closing(CalibrationState(folder, KEY)):
        assert not (folder / "texts.json").exists()


def test_one_process_at_a_time_uses_a_folder(folder: Path) -> None:
    first = CalibrationState(folder, KEY)
    (folder / "texts.json").write_text("[[1]]")
    for fingerprint in (KEY, {"seed": 2}):
        with pytest.raises(UsageError, match="another build is calibrating"):
            CalibrationState(folder, fingerprint)
    assert (folder / "texts.json").is_file(), "the first one's files are left alone"
    first.close()
    with anew(), closing(CalibrationState(folder, {"seed": 2})):
        assert not (folder / "texts.json").exists()


def test_a_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildError, match="file"):
        CalibrationState(tmp_path / "file" / "state", KEY)


def test_texts_are_made_once(folder: Path) -> None:
    with closing(CalibrationState(folder, KEY)) as state:
        (state.draft / "model.onnx").write_text("a draft")
        assert state.texts(lambda: [[1, 2], [3]]) == [[1, 2], [3]]
        assert not (folder / "draft").exists(), "the draft is not needed any more"
    with closing(CalibrationState(folder, KEY)) as state:
        assert state.texts(_unexpected) == [[1, 2], [3]]


def _unexpected() -> list[list[int]]:
    raise AssertionError("the texts are stored")


def test_an_interruption_while_texts_are_made_stores_none(folder: Path) -> None:
    def interrupted() -> list[list[int]]:
        raise KeyboardInterrupt

    with closing(CalibrationState(folder, KEY)) as state:
        with pytest.raises(KeyboardInterrupt):
            state.texts(interrupted)
        assert state.texts(lambda: [[4]]) == [[4]]


def test_a_draft_starts_empty(folder: Path) -> None:
    with closing(CalibrationState(folder, KEY)) as state:
        (state.draft / "model.onnx.data").write_text("half a draft")
        assert list(state.draft.iterdir()) == []


def matrices(scheme: QuantizationScheme) -> list[tuple[Matrix, PackedLinear]]:
    """The matrices of a tiny layer, with random codes."""
    _, spec = tiny_weights("llama")
    layout = plan_layout(spec, QuantizationConfig(scheme, scheme, scheme), "float32", 8)
    rng = np.random.default_rng(1)
    return [
        (m, quantize_rows(rng.standard_normal((m.out_features, m.in_features)).astype(np.float32), scheme, "float16"))
        for m in layout.layers[0].matrices
    ]


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_finished_layer_is_read_back(folder: Path, symmetric: bool) -> None:
    made = matrices(QuantizationScheme(4, 32, symmetric))
    with closing(CalibrationState(folder, KEY)) as state:
        assert not state.is_finished(3)
        state.write_layer(3, [packed for _, packed in made])
        assert state.is_finished(3)
        found = state.read_layer(3, [matrix for matrix, _ in made])
    for (_, packed), read in zip(made, found, strict=True):
        assert (read.scheme, read.scales.dtype) == (packed.scheme, packed.scales.dtype)
        np.testing.assert_array_equal(read.codes, packed.codes)
        np.testing.assert_array_equal(read.scales, packed.scales)
        np.testing.assert_array_equal(read.dequantize(), packed.dequantize())


def test_a_layer_on_a_full_disk_is_not_finished(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(CalibrationState(folder, KEY)) as state:
        monkeypatch.setattr(np, "savez", full_disk)
        with pytest.raises(DiskFullError):
            state.write_layer(0, [])
        assert not state.is_finished(0)


def finish(state: CalibrationState, layer: int) -> None:
    state.write_layer(layer, [])


def enter(state: CalibrationState, layer: int) -> None:
    with state.create(layer, 5) as rows:
        rows.write(0, VALUES)


def test_finished_layers(folder: Path) -> None:
    with closing(CalibrationState(folder, KEY)) as state:
        assert state.finished_layers(3) == 0
        enter(state, 0)
        finish(state, 0)
        assert state.finished_layers(3) == 0, "the hidden states after it are missing, so it is repeated"
        enter(state, 1)
        assert state.finished_layers(3) == 1
        finish(state, 2)
        assert state.finished_layers(3) == 1, "one layer is missing before it"
        finish(state, 1)
        enter(state, 2)
        assert state.finished_layers(3) == 3, "nothing needs the hidden states after the last layer"


@pytest.mark.parametrize(
    ("name", "size", "finished"),
    [
        ("layer.0.npz", 0, 0), ("layer.0.npz", 100, 0), ("layer.1.npz", 100, 0), ("layer.1.npz", None, 0),
        ("hidden.2.f32", 100, 0), ("hidden.2.f32", 0, 0), ("layer.0.npz", -1, 0), ("layer.1.npz", -1, 0),
        ("none", 0, 2),
    ],
)  # fmt: skip
def test_damaged_files_are_made_again(folder: Path, name: str, size: int | None, finished: int) -> None:
    """As a power failure leaves them: shorter, of the right size with other content, or missing."""
    with closing(CalibrationState(folder, KEY)) as state:
        for layer in range(2):
            enter(state, layer)
            state.write_layer(layer, [packed for _, packed in matrices(QuantizationScheme(4, 32, True))])
        enter(state, 2)
        path = folder / name
        if size is None:
            path.unlink()
        elif size < 0:
            path.write_bytes(path.read_bytes()[:-4000] + bytes(100) + path.read_bytes()[-3900:])
        elif path.is_file():
            path.write_bytes(path.read_bytes()[:size])
    with closing(CalibrationState(folder, KEY)) as state:
        told = size is not None and name != "none"
        with pytest.warns(DiscardedStateWarning, match=f"{name} is damaged") if told else nullcontext():
            assert state.finished_layers(3, VALUES.nbytes) == finished


def test_an_edit_that_keeps_a_file_valid_is_found(folder: Path) -> None:
    with closing(CalibrationState(folder, KEY)) as state:
        state.texts(lambda: [[1, 2]])
    (folder / "texts.json").write_text("[[1, 3]]")
    with closing(CalibrationState(folder, KEY)) as state, pytest.warns(DiscardedStateWarning, match=r"texts\.json"):
        assert state.texts(lambda: [[4]]) == [[4]]


def test_digests_of_other_names_are_dropped(folder: Path) -> None:
    with closing(CalibrationState(folder, KEY)) as state:
        state.texts(lambda: [[1, 2]])
    digests = json.loads((folder / "digests.json").read_text())
    (folder / "digests.json").write_text(json.dumps({**digests, "x" * 300: "0", "../a": "0"}))
    with closing(CalibrationState(folder, KEY)) as state:
        assert state.texts(list) == [[1, 2]]
        with state.create(1, 1) as rows:
            rows.write(0, np.zeros((1, 1), np.float32))
    assert set(json.loads((folder / "digests.json").read_text())) == {"texts.json", "hidden.1.f32"}


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_damaged_digests_repeat_everything(folder: Path, content: str) -> None:
    with closing(CalibrationState(folder, KEY)) as state:
        state.texts(lambda: [[1, 2]])
    (folder / "digests.json").write_text(content)
    with closing(CalibrationState(folder, KEY)) as state, pytest.warns(DiscardedStateWarning, match=r"texts\.json"):
        assert state.texts(lambda: [[4]]) == [[4]]


@pytest.mark.parametrize("content", ["", "[[1, 2", "\0\0\0"])
def test_damaged_texts_are_made_again(folder: Path, content: str) -> None:
    with closing(CalibrationState(folder, KEY)) as state:
        state.texts(lambda: [[1, 2]])
    (folder / "texts.json").write_text(content)
    with closing(CalibrationState(folder, KEY)) as state:
        with pytest.warns(DiscardedStateWarning, match=r"texts\.json is damaged"):
            assert state.texts(lambda: [[3]]) == [[3]]
        assert state.texts(lambda: [[4]]) == [[3]]


def test_hidden_states_replace_those_before_them(folder: Path) -> None:
    with closing(CalibrationState(folder, KEY)) as state:
        enter(state, 0)
        with state.open(0, 5) as rows, state.create(1, 5) as following:
            following.write(0, rows.read(0, 7) + 1)
            assert (folder / "hidden.0.f32").is_file(), "until the next ones are complete"
        assert not (folder / "hidden.0.f32").exists()
        with state.open(1, 5) as rows:
            np.testing.assert_array_equal(rows.read(0, 7), VALUES + 1)


def test_incomplete_hidden_states_replace_nothing(folder: Path) -> None:
    with closing(CalibrationState(folder, KEY)) as state:
        enter(state, 0)
        with pytest.raises(KeyboardInterrupt), state.create(1, 5):
            raise KeyboardInterrupt
        assert sorted(p.name for p in folder.glob("hidden.*.f32")) == ["hidden.0.f32"]


@pytest.mark.parametrize(("memory_bytes", "in_file"), [(4 * 35, False), (4 * 35 - 1, True)])
def test_rows_passed_on_within_a_layer(
    folder: Path, monkeypatch: pytest.MonkeyPatch, memory_bytes: int, in_file: bool
) -> None:
    monkeypatch.setattr(module, "MEMORY_BYTES", memory_bytes)
    with closing(CalibrationState(folder, KEY)) as state:
        with state.scratch("attended", 7, 5) as rows:
            rows.write(0, VALUES)
        with state.scratch("attended", 7, 5) as rows:
            np.testing.assert_array_equal(rows.read(0, 7), VALUES)
        with state.scratch("residual", 7, 5) as rows:  # the limit is for all of them together
            rows.write(0, VALUES)
        assert (folder / "attended.scratch").is_file() is in_file
        assert (folder / "residual.scratch").is_file()


def test_a_removed_state_leaves_nothing_and_unlocks_the_folder(folder: Path) -> None:
    state = CalibrationState(folder, KEY)
    enter(state, 0)
    state.remove()
    assert not folder.exists()
    with closing(CalibrationState(folder, KEY)) as again:
        assert again.finished_layers(3) == 0


def unfinished(parent: Path, name: str, age_s: float = 0) -> Path:
    """A state as a killed calibration leaves it."""
    folder = parent / f".{name}.calibration"
    with closing(CalibrationState(folder, KEY)) as state:
        (state.draft / "model.onnx.data").write_text("large")
    (folder / "layer.0.npz").write_text("valuable")
    (folder / "down.scratch").write_text("large")
    (parent / f".{name}.widths").write_text("{}")
    for path in (*folder.iterdir(), folder, parent / f".{name}.widths"):
        os.utime(path, (time.time() - age_s,) * 2)
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_state_that_can_be_resumed_is_kept_without_what_it_does_not_need(tmp_path: Path) -> None:
    folder = unfinished(tmp_path, "x")
    sweep_states(tmp_path, finished="y")
    assert names(tmp_path) == {".x.calibration", ".x.widths"}
    assert names(folder) == {"fingerprint.json", "layer.0.npz"}


def test_the_state_of_a_finished_artifact_and_an_old_one_are_removed(tmp_path: Path) -> None:
    unfinished(tmp_path, "x")
    unfinished(tmp_path, "old", age_s=8 * 24 * 3600)
    sweep_states(tmp_path, finished="x")
    assert names(tmp_path) == set()


def test_a_state_in_use_and_other_folders_are_left_alone(tmp_path: Path) -> None:
    folder = unfinished(tmp_path, "x")
    (tmp_path / ".z.calibration").mkdir()
    (tmp_path / ".z.calibration" / "photographs").write_text("")
    with closing(CalibrationState(folder, KEY)):
        before = names(folder)
        sweep_states(tmp_path, finished="x")
        assert names(folder) == before
    sweep_states(tmp_path, finished="z")
    assert names(tmp_path / ".z.calibration") == {"photographs"}
    sweep_states(tmp_path / "missing", finished="x")


def test_a_state_is_left_alone_where_no_lock_tells_whether_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = unfinished(tmp_path, "x")
    monkeypatch.setattr(module, "_locked", lambda folder: None)
    sweep_states(tmp_path, finished="x")
    assert "down.scratch" in names(folder)
