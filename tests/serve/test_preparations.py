from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgekit.errors import TokenizerError
from edgekit.serve.preparations import Preparations
from edgekit.serve.slots import Slot


class Engine:
    context = 20

    def rewind(self, length: int) -> None:
        self.length = length


def slot(held: list[int]) -> Slot:
    engine: Any = Engine()
    made = Slot(engine)
    made.held = held
    return made


def returns(ids: list[int]) -> Callable[[], list[int]]:
    return lambda: list(ids)


def test_what_a_cache_lacks_is_evaluated_there() -> None:
    found, one = Preparations(), slot([1, 2, 3, 4])
    assert found.next() is None
    found.add(one, returns([1, 2, 8, 9]))
    assert found
    assert found.next() == (one, [8, 9])
    assert one.held == [1, 2], "what the next prompt does not have is forgotten"
    one.held.append(8)
    assert found.next() == (one, [9]), "it goes on where it was given up"
    one.held.append(9)
    assert found.next() is None
    assert not found


def test_a_cache_that_the_next_prompt_continues_is_left_alone() -> None:
    found = Preparations()
    for start in ([1, 2, 3, 4, 5], [1, 2], [1, 2, 3, *range(30)]):  # all of it, less than it, too long
        one = slot([1, 2, 3])
        found.add(one, returns(start))
        assert found.next() is None or start == [1, 2]
        assert one.held == ([1, 2] if start == [1, 2] else [1, 2, 3])


def test_a_cache_that_is_used_again_is_left_alone() -> None:
    found, one, two = Preparations(), slot([1, 2]), slot([1, 2])
    found.add(one, returns([1, 5]))
    found.add(two, returns([1, 6]))
    one.busy = True
    assert found.next() == (two, [6])
    two.last_use += 1
    assert found.next() is None


def test_an_error_leaves_one_out() -> None:
    found, one, two = Preparations(), slot([1, 2]), slot([1, 2])

    def fails() -> list[int]:
        raise TokenizerError("the template refuses")

    found.add(one, fails)
    found.add(two, returns([1, 6]))
    assert found.next() == (two, [6])
    found.give_up()
    assert not found
