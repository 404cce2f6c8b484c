"""Efficiencies: what was never seen leans on its kind and widens the interval; the fit keeps what it promises."""

from __future__ import annotations

import math

import pytest
from latency_fit import fit as fitting
from latency_fit.report import covered, errors, percentile
from latency_fit.rows import Row, read_rows, read_shapes
from latency_fit.write import FITTED, format_fitted

from edgekit.devices import all_devices
from edgekit.planning.efficiency import Interval, Levels
from edgekit.planning.fitted import DECODE, PREFILL

# The bounds on figures of sources that the fit has not seen.
MEDIAN_ERROR, MOST_ERROR, COVERAGE = 0.12, 0.35, (0.75, 0.90)
# The first token's: publishers' builds differ by three times on one board, so this is what there is to reach.
PREFILL_MEDIAN_ERROR = 0.42


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [row for row in read_rows() if row.use == "fit"]


def _decode_targets(rows: list[Row]) -> list[float]:
    return [value for value in map(fitting.decode_target, rows) if value is not None]


def test_with_whole_sources_left_out_the_errors_are_within_bounds(rows: list[Row]) -> None:
    targets = _decode_targets(rows)
    estimates = fitting.left_out(rows, targets, fitting.DECODE_PRIORS, "source")
    sizes = [abs(error) for error in errors(targets, estimates)]
    assert percentile(sizes, 0.5) <= MEDIAN_ERROR
    assert percentile(sizes, 0.9) <= MOST_ERROR
    inside = covered(targets, estimates)
    assert COVERAGE[0] <= sum(inside) / len(inside) <= COVERAGE[1]


def test_first_token_times_of_sources_left_out(rows: list[Row]) -> None:
    known = [row for row in rows if fitting.prefill_target(row) is not None]
    targets = [value for value in map(fitting.prefill_target, known) if value is not None]
    estimates = fitting.left_out(known, targets, fitting.PREFILL_PRIORS, "source")
    assert percentile([abs(error) for error in errors(targets, estimates)], 0.5) <= PREFILL_MEDIAN_ERROR
    inside = covered(targets, estimates)
    assert COVERAGE[0] <= sum(inside) / len(inside) <= COVERAGE[1]


def test_the_constants_are_what_the_script_writes(rows: list[Row]) -> None:
    decode = fitting.fit(rows, _decode_targets(rows), fitting.DECODE_PRIORS)
    known = [row for row in rows if fitting.prefill_target(row) is not None]
    targets = [value for value in map(fitting.prefill_target, known) if value is not None]
    prefill = fitting.fit(known, targets, fitting.PREFILL_PRIORS)
    assert FITTED.read_text(encoding="utf-8") == format_fitted(decode, prefill)


def test_every_row_names_its_source_and_a_level_that_can_be(rows: list[Row]) -> None:
    processors = {"cpu", "gpu", "shared-gpu", "mobile-gpu", "npu"}
    for row in read_rows():
        assert len(row.source) > 5
        assert row.use in ("fit", "weak", "memory")
        assert row.levels.processor in processors
        assert 0.02 < math.exp(fitting.decode_target(row) or 0.0) < 1.3, row
    assert len({row.source for row in rows}) > 25


def test_shapes_add_up() -> None:
    """The matrices of the models' tables are less than the model, and the rest is what a prompt computes."""
    for name, shape in read_shapes().items():
        assert 0.4 * shape.parameters < shape.multiply_adds < shape.parameters, name


def test_the_devices_classes_are_those_of_the_fit() -> None:
    unknown = {"", "iphone-cpu", "apple-cpu", "jetson-volta", "rk3588-npu"}  # nothing was published of these
    for device in all_devices():
        for fitted_as in (device.cpu.fitted_as, device.accelerator.fitted_as if device.accelerator else ""):
            assert fitted_as in DECODE.effects["class"] or fitted_as in unknown, device.name


def test_an_unseen_class_leans_on_its_kind_and_is_less_certain() -> None:
    seen = DECODE.estimate(Levels("cpu", "laptop", "native", "4bit"))
    unseen = DECODE.estimate(Levels("cpu", "toaster", "native", "4bit"))
    assert (seen.calibrated, unseen.calibrated) == (True, False)
    assert unseen.log_deviation > seen.log_deviation
    assert unseen.log_mean == pytest.approx(seen.log_mean - DECODE.effects["class"]["laptop"].mean)


def test_an_engine_may_do_well_on_one_kind_of_device_alone() -> None:
    """Both share the system's memory: on one effect for both llama.cpp was planned twice too fast on a Jetson."""
    apple, jetson = (
        DECODE.estimate(Levels("shared-gpu", name, "ggml", "4bit-k")) for name in ("apple-metal", "jetson")
    )
    assert jetson.value < 0.8 * apple.value
    others = (DECODE.estimate(Levels("shared-gpu", "jetson", name, "4bit")).value for name in ("mlc", "tensorrt"))
    assert min(others) > DECODE.estimate(Levels("shared-gpu", "jetson", "ggml", "4bit")).value


def test_a_publisher_is_whose_site_it_is(rows: list[Row]) -> None:
    sources = {row.publisher: {r.source for r in rows if r.publisher == row.publisher} for row in rows}
    assert len(sources["geerlingguy"]) > 3
    assert "justine.lol" in sources
    assert 25 < len(sources) < len({row.source for row in rows})


def test_more_rows_make_a_class_more_certain() -> None:
    classes = DECODE.effects["class"]
    assert classes["raspberry-pi-5"].rows > 20 > classes["mini-pc"].rows
    assert classes["raspberry-pi-5"].variance < classes["mini-pc"].variance < DECODE.prior_variances["class"]


@pytest.mark.parametrize("model", [DECODE, PREFILL])
def test_no_engine_is_expected_to_beat_the_limit_by_much(model: object) -> None:
    for fitted_as in DECODE.effects["class"]:
        for processor in ("cpu", "shared-gpu", "gpu"):
            assert DECODE.estimate(Levels(processor, fitted_as, "native", "4bit")).value < 1.2


def test_intervals() -> None:
    interval = Interval.of_log(10.0, 0.1)
    assert interval.low < 10.0 < interval.high
    assert interval.low * interval.high == pytest.approx(100.0)
    assert interval.scaled(2.0).mid == 20.0
    assert Interval(0.123456, 1.23456, 12345.6).to_json() == {"low": 0.1235, "mid": 1.235, "high": 12350.0}
    with pytest.raises(ValueError, match="an interval from 3"):
        Interval(3.0, 2.0, 4.0)
