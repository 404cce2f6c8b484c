from __future__ import annotations

from edgekit.serve.pace import LEAST, MOST, Pace


def test_a_piece_takes_less_time_than_a_step_while_others_read() -> None:
    pace = Pace()
    pace.stepped(0.05)
    assert pace.piece(others_read=True) == LEAST, "nothing is known of short pieces"
    pace.read(128, 0.2)
    assert pace.piece(others_read=True) == LEAST
    pace.read(LEAST, 0.02)
    assert pace.piece(others_read=True) == 2 * LEAST, "a longer one takes at most proportionally longer"
    pace.read(2 * LEAST, 0.03)
    assert pace.piece(others_read=True) == 2 * LEAST
    pace.read(2 * LEAST, 0.01)
    pace.read(2 * LEAST, 0.01)
    assert pace.piece(others_read=True) == 4 * LEAST
    pace.read(4 * LEAST, 0.1)
    assert pace.piece(others_read=True) == 2 * LEAST


def test_a_piece_takes_a_fraction_of_a_second_if_nobody_waits() -> None:
    pace = Pace()
    assert pace.piece(others_read=False) == 128
    pace.read(128, 0.1)
    assert pace.piece(others_read=False) == 256
    pace.read(256, 0.19)
    assert pace.piece(others_read=False) == 256


def test_a_piece_has_limits() -> None:
    slow, fast = Pace(), Pace()
    slow.read(LEAST, 100.0)
    assert slow.piece(others_read=False) == LEAST
    fast.read(128, 1e-6)
    assert fast.piece(others_read=False) == MOST


def test_a_disturbed_measurement_is_corrected() -> None:
    pace = Pace()
    pace.read(256, 10.0)
    assert pace.piece(others_read=False) == LEAST
    pace.read(LEAST, 0.001)
    assert pace.piece(others_read=False) == MOST
