from __future__ import annotations

from edgekit.serve.pace import Pace


def test_a_step_with_a_piece_takes_less_than_twice_as_long() -> None:
    pace = Pace()
    assert pace.beside(3, 1, 13) == 1, "nothing is known"
    pace.stepped(3, 0.030)
    assert pace.beside(3, 1, 13) == 2, "5 tokens take at most 5/3 as long as 3, and 6 may take twice as long"
    for tokens, seconds in ((4, 0.032), (5, 0.034), (6, 0.037), (8, 0.041), (10, 0.06)):
        pace.stepped(tokens, seconds)
    assert pace.beside(3, 1, 13) == 6, "8 tokens take 0.041 s, 9 at most 0.0461 s, and 10 take too long"
    assert pace.beside(3, 1, 4) == 4
    assert pace.beside(4, 1, 12) == 5


def test_numbers_of_tokens_are_tried_beside_a_single_reader() -> None:
    pace = Pace()
    pace.stepped(1, 0.030)
    pace.stepped(2, 0.031)
    assert pace.beside(1, 1, 15) == 2, "3 tokens may take 0.0465 s, more than a known number is allowed"
    pace.stepped(3, 0.0465)
    assert pace.beside(1, 1, 15) == 1, "now that is known"
    pace.stepped(3, 0.033)
    pace.stepped(3, 0.033)
    pace.stepped(3, 0.033)
    assert pace.beside(1, 1, 15) == 3


def test_several_prompts_may_take_what_their_readers_will_take() -> None:
    pace = Pace()
    for tokens, seconds in ((1, 0.025), (2, 0.026), (4, 0.038), (8, 0.05), (12, 0.058), (16, 0.064)):
        pace.stepped(tokens, seconds)
    assert pace.beside(1, 1, 15) == 2, (
        "3 tokens take at most 0.039 s, and 4 take too long beside one that takes 0.026 s"
    )
    assert pace.beside(1, 7, 15) == 15, "eight will read, which takes 0.05 s a step; 16 take 0.064 s"


def test_a_piece_takes_a_fraction_of_a_second_if_nobody_reads() -> None:
    pace = Pace()
    assert pace.piece() == 128
    pace.read(128, 0.1)
    assert pace.piece() == 256
    pace.read(256, 0.19)
    assert pace.piece() == 256
    pace.read(77, 100.0)
    assert pace.piece() == 256, "only some lengths are measured"


def test_a_piece_has_limits() -> None:
    slow, fast = Pace(), Pace()
    slow.read(4, 100.0)
    assert slow.piece() == 4
    fast.read(128, 1e-6)
    assert fast.piece() == 512


def test_a_disturbed_measurement_is_corrected() -> None:
    pace = Pace()
    pace.read(256, 10.0)
    assert pace.piece() == 4
    pace.read(4, 0.001)
    assert pace.piece() == 512
    pace.stepped(4, 1.0)
    pace.stepped(5, 1.0)
    pace.stepped(3, 0.03)
    assert pace.beside(3, 1, 13) == 3, "4 tokens take at most 0.04 s, and 6 at most 0.06 s"
