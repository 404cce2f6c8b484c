from __future__ import annotations

from edgekit.serve.pace import Pace


def test_a_step_with_a_piece_takes_less_than_twice_as_long() -> None:
    pace = Pace()
    assert pace.beside(3, 13) == 1, "nothing is known"
    pace.stepped(3, 0.030)
    assert pace.beside(3, 13) == 1, "5 tokens may take 5/3 as long as 3"
    for tokens, seconds in ((4, 0.032), (5, 0.034), (6, 0.037), (8, 0.045), (10, 0.06)):
        pace.stepped(tokens, seconds)
    assert pace.beside(3, 13) == 5, "8 tokens take 0.045 s, 9 at most 0.0507 s, and 0.048 s are allowed"
    assert pace.beside(3, 4) == 4
    assert pace.beside(4, 12) == 5


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
    pace.stepped(3, 0.03)
    assert pace.beside(3, 13) == 1
    pace.stepped(4, 0.03)
    assert pace.beside(3, 13) == 2
