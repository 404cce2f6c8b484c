"""The prompts of one command share processor time."""

from __future__ import annotations

import itertools
import threading

import pytest

from edgekit.runtime.template_budget import current_budget, shared_budget
from edgekit.runtime.template_meter import SharedLimitError
from edgekit.runtime.template_sandbox import TemplateSandbox

LOOP = "{% for i in range(50) %}{{ i }}{% endfor %}"


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of a second passes between two readings, so a rendering takes about a second."""
    reads = itertools.count()
    monkeypatch.setattr("time.thread_time", lambda: next(reads) / 10)


def rendered(times: int) -> int:
    """How many of these renderings succeed before one exceeds the budget."""
    template = TemplateSandbox(LOOP)
    for number in range(times):
        try:
            template.render({}, 0)
        except SharedLimitError:
            return number
    return times


def test_renderings_in_a_block_share_their_time() -> None:
    with shared_budget():
        assert rendered(5) == 5
        with shared_budget():  # shares with the outer one
            assert 5 < rendered(100) < 40
        assert rendered(1) == 0
    with shared_budget():
        assert rendered(5) == 5


def test_renderings_outside_of_a_block_have_only_their_own_limit() -> None:
    assert rendered(100) == 100
    with shared_budget():
        rendered(100)
    assert rendered(100) == 100


def test_another_thread_has_only_its_own_limit() -> None:
    found: list[float] = []
    with shared_budget():
        thread = threading.Thread(target=lambda: found.append(current_budget().left))
        thread.start()
        thread.join()
    assert found == [float("inf")]
