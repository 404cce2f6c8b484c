from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from open_engine import engine, prompt
from shared_models import SharedModels

from edgekit.errors import EngineError
from edgekit.serve.slots import Slot, Slots


@pytest.fixture
def slots(models: SharedModels) -> Slots:
    return Slots(engine(models.artifact(), "native", context=256, threads=1), 3)


def use(slots: Slots, ids: Sequence[int]) -> tuple[Slot, int]:
    """Take a slot for a prompt, read it, and give the slot back."""
    slot = slots.take(ids)
    assert slot is not None
    held = len(slot.held)
    slot.evaluate(ids[held:])
    slot.busy = False
    return slot, held


def test_the_next_turn_continues_in_the_same_cache(slots: Slots) -> None:
    ids = prompt(60)
    first, held = use(slots, ids[:40])
    assert held == 0
    again, held = use(slots, ids)
    assert again is first
    assert (held, again.engine.position) == (40, 60)
    assert use(slots, ids)[1] == 59, "the last id is evaluated again, for its logits"


def test_another_conversation_copies_the_beginning_and_leaves_the_cache(slots: Slots) -> None:
    ids = prompt(100)
    first, _ = use(slots, ids)
    other = [*ids[:30], 9, 9, 9]
    second, held = use(slots, other)
    assert second is not first
    assert (held, first.held, second.held) == (30, ids, other)
    assert second.engine.tokens() == other
    expected = slots.take(prompt(3))
    assert expected is not None
    row = expected.evaluate([*other, 7])
    second.rewind(33)
    assert row.shape == second.evaluate([7]).shape


def test_a_busy_cache_is_copied_too(slots: Slots) -> None:
    ids = prompt(60)
    busy = slots.take(ids)
    assert busy is not None
    busy.evaluate(ids)
    other = slots.take([*ids[:50], 3])
    assert other is not None
    assert other is not busy
    assert len(other.held) == 50


def test_the_cache_that_was_not_used_for_the_longest_time_is_given_up(slots: Slots) -> None:
    a, b, c, d = ([i] * 20 for i in (1, 2, 3, 4))
    used = [use(slots, ids)[0] for ids in (a, b, c)]
    assert len({id(slot) for slot in used}) == 3
    assert use(slots, a)[1] == 19
    assert use(slots, d)[0] is used[1]


def test_what_a_cache_held_comes_back_from_the_tree(models: SharedModels) -> None:
    slots = Slots(engine(models.artifact(), "native", context=256, threads=1), 2, 1 << 30)
    system = prompt(130)
    chats = [[*system, *([i] * 70)] for i in range(6)]
    first = [use(slots, ids)[1] for ids in chats]
    assert first[0] == 0
    assert min(first[1:]) >= 128, "the beginning is computed once"
    assert all(use(slots, [*ids, 1, 2])[1] >= 192 for ids in chats), "two caches serve six conversations"
    block = slots._tree.held_bytes // (2 + 6)  # two blocks of the beginning, and one of each conversation
    assert slots._tree.held_bytes == 8 * block

    slot = slots.take([*chats[0], 1, 2])
    assert slot is not None
    assert slot.engine.tokens() == slot.held == [*chats[0], 1, 2][: len(slot.held)]


def test_a_cache_from_the_tree_gives_the_same_logits(models: SharedModels) -> None:
    native = engine(models.artifact(), "native", context=256, threads=1)
    slots = Slots(native, 1, 1 << 30)
    ids = prompt(200)
    plain = engine(models.artifact(), "native", context=256, threads=1)
    for part in (ids[:128], ids[128:129]):  # a single token has kernels of its own, which round otherwise
        plain.evaluate(part)
    expected = plain.evaluate(ids[129:150])[-1]
    use(slots, ids[:129])
    use(slots, [1, 2, 3])
    again, held = use(slots, ids[:129])
    assert held == 128
    np.testing.assert_array_equal(again.evaluate(ids[129:150]), expected)


def test_there_is_none_when_all_are_busy(slots: Slots) -> None:
    assert all(slots.take([i, i]) is not None for i in range(3))
    assert slots.take([5]) is None


def test_memory_limits_their_number(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(threads: int) -> object:
        raise EngineError("there is not enough memory")

    first = slots.take([1, 2])
    assert first is not None
    first.evaluate([1, 2])
    monkeypatch.setattr(first.engine, "fork", refuse)
    assert slots.take([3, 4]) is None
    assert slots.most == 1
    first.busy = False
    assert slots.take([3, 4]) is first


def test_an_engine_with_one_sequence_has_one_slot(models: SharedModels) -> None:
    slots = Slots(engine(models.artifact(), "ort", context=64), 4)
    assert slots.most == 1
    ids = prompt(20)
    slot, _ = use(slots, ids)
    assert use(slots, [*ids[:5], 1, 2]) == (slot, 5)
