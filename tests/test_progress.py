"""Reports of progress."""

from __future__ import annotations

from edgekit.progress import no_progress, no_share, phase


def test_a_phase_adds_its_name_to_each_report() -> None:
    reports: list[tuple[str, float, float]] = []

    def progress(name: str, done: float, total: float) -> None:
        reports.append((name, done, total))

    quantizing, hashing = phase(progress, "quantizing"), phase(progress, "hashing")
    quantizing(0, 10)
    hashing(1.5, 3)
    quantizing(10, 10)
    assert reports == [("quantizing", 0, 10), ("hashing", 1.5, 3), ("quantizing", 10, 10)]


def test_reports_can_be_ignored() -> None:
    phase(no_progress, "quantizing")(1, 2)
    no_share(1, 2)
