"""The fuzz targets without a fuzzer: what was a finding once, and the seeds, which changes are made from."""

import random

import pytest
from distil_corpora import MOST_BYTES, read_archive
from fuzz_readers import TURNS, cases, corpus, in_turn, load, names, read

from edgekit.errors import EdgekitError

WITHOUT_CHECKPOINT = ("awq_config", "completion_request", "conversation", "gptq_config", "recipe", "safetensors")


def test_there_are_targets() -> None:
    assert len(names()) >= 25


def test_each_target_has_more_time_in_one_turn() -> None:
    turns = [in_turn(5000 + number) for number in range(TURNS)]
    assert sorted(name for turn in turns for name in turn) == names()
    assert max(map(len, turns)) <= 5


@pytest.mark.parametrize("name", [name for name in names() if cases(name)])
def test_what_was_a_finding_is_refused(name: str) -> None:
    target = load(name)
    assert {path.name: read(target, path.read_bytes()) for path in cases(name)} == {
        path.name: "" for path in cases(name)
    }


@pytest.mark.parametrize("name", WITHOUT_CHECKPOINT)
def test_seeds_and_changes_of_them_are_read(name: str) -> None:
    target, choose = load(name), random.Random(0)  # noqa: S311
    for seed in target.seeds():
        assert read(target, seed) == ""
        changed = [target.change(choose, seed) for _ in range(20)]
        assert any(each not in (None, seed) for each in changed)
        assert {read(target, each) for each in changed if each is not None} == {""}


@pytest.mark.parametrize("name", [name for name in names() if name != "foreign"])
def test_a_seed_is_valid(name: str) -> None:
    target = load(name)

    def is_valid(seed: bytes) -> bool:
        try:
            target.read(seed)
        except getattr(target, "ALLOWED", (EdgekitError,)):
            return False
        return True

    assert any(map(is_valid, target.seeds()))


@pytest.mark.parametrize("name", names())
def test_what_fuzzing_has_reached_is_read(name: str) -> None:
    target, inputs = load(name), read_archive(corpus(name))
    target.seeds()
    assert inputs
    assert max(map(len, inputs)) <= MOST_BYTES
    assert [(what, data) for data in inputs if (what := read(target, data))] == []


def test_an_error_that_is_not_allowed_is_a_finding() -> None:
    class Target:
        ALLOWED = (KeyError,)

        @staticmethod
        def read(data: bytes) -> None:
            raise ValueError if data else KeyError

    assert read(Target, b"") == ""  # type: ignore[arg-type]
    assert read(Target, b"x") == "ValueError-elsewhere"  # type: ignore[arg-type]
