from __future__ import annotations

from edgekit.serve.pace import LEAST, MOST, Pace


def test_a_piece_takes_about_as_long_as_a_step_while_others_read() -> None:
    pace = Pace()
    pace.stepped(0.05)
    pace.read(100, 0.1)  # 1 ms for each token
    assert pace.piece(others_read=True) == 48
    assert pace.piece(others_read=False) == 248


def test_a_piece_has_limits() -> None:
    pace = Pace()
    assert LEAST <= pace.piece(others_read=True) < pace.piece(others_read=False) <= MOST
    pace.read(100, 100.0)
    assert pace.piece(others_read=False) == LEAST
    fast = Pace()
    fast.read(100, 1e-6)
    assert fast.piece(others_read=False) == MOST


def test_few_tokens_say_nothing_about_the_speed() -> None:
    pace = Pace()
    pace.read(LEAST - 1, 100.0)
    assert pace.piece(others_read=False) > LEAST
