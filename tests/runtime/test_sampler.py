from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from edgekit.errors import ArtifactError, EngineError
from edgekit.runtime.sampler import Sampler, SamplingConfig, candidates, penalized


def plain_candidates(logits: NDArray[np.float32], config: SamplingConfig) -> dict[int, float]:
    """The definition: sort everything, apply one filter after another. Token -> probability."""
    scaled = [(float(x) - float(logits.max())) / config.temperature for x in logits]
    tokens = sorted(range(len(scaled)), key=lambda i: -logits[i])
    if config.top_k:
        tokens = [t for t in tokens if logits[t] >= logits[tokens[min(config.top_k, len(tokens)) - 1]]]
    total = math.fsum(math.exp(scaled[t]) for t in tokens)
    probability = {t: math.exp(scaled[t]) / total for t in tokens}
    if config.top_p < 1:
        mass, last = 0.0, tokens[-1]
        for t in tokens:
            mass += probability[t]
            if mass >= config.top_p:
                last = t
                break
        tokens = [t for t in tokens if probability[t] >= probability[last]]
    tokens = [t for t in tokens if probability[t] >= config.min_p * probability[tokens[0]]]
    total = math.fsum(probability[t] for t in tokens)
    return {t: probability[t] / total for t in tokens}


def on_an_edge(logits: NDArray[np.float32], config: SamplingConfig) -> bool:
    """Whether rounding decides: a sum of probabilities, or a ratio, within 1e-9 of its limit."""
    nearby = []
    for shift in (-1e-9, 1e-9):
        moved = SamplingConfig(
            config.temperature,
            min(max(config.top_p + shift, 1e-12), 1.0) if config.top_p < 1 else 1.0,
            config.top_k,
            min(max(config.min_p * (1 + shift), 0.0), 1.0),
        )
        nearby.append(plain_candidates(logits, moved).keys())
    return nearby[0] != nearby[1]


logit_arrays = hnp.arrays(
    np.float32,
    st.integers(1, 700),
    elements=st.one_of(st.floats(-30, 30, width=32), st.sampled_from([0.0, 1.0, 2.0])),  # the latter make ties
)
configs = st.builds(
    SamplingConfig,
    temperature=st.floats(0.05, 3),
    top_p=st.one_of(st.just(1.0), st.floats(0.01, 0.999)),
    top_k=st.integers(0, 800),
    min_p=st.one_of(st.just(0.0), st.floats(0, 1)),
)


@settings(max_examples=300, deadline=None)
@given(logit_arrays, configs)
def test_the_thresholds_keep_what_the_definition_keeps(logits: NDArray[np.float32], config: SamplingConfig) -> None:
    ids, weights = candidates(logits, config)
    expected = plain_candidates(logits, config)
    if on_an_edge(logits, config):
        assert logits.argmax() in ids
        return
    assert ids.tolist() == sorted(expected)
    np.testing.assert_allclose(weights / weights.sum(), [expected[i] for i in ids], rtol=1e-9)


def test_a_real_vocabularys_nucleus_is_the_definitions() -> None:
    rng = np.random.default_rng(3)
    for spread in (0.1, 1.0, 4.0):  # flat: nearly all of it is the nucleus; peaked: a handful
        logits = rng.normal(scale=spread, size=50_000).astype(np.float32)
        config = SamplingConfig(temperature=1.0, top_p=0.9)
        assert candidates(logits, config)[0].tolist() == sorted(plain_candidates(logits, config))


@settings(max_examples=100, deadline=None)
@given(logit_arrays, st.floats(0.5, 3), st.data())
def test_the_penalty_is_the_definitions(logits: NDArray[np.float32], penalty: float, data: Any) -> None:
    seen = np.array(data.draw(st.lists(st.booleans(), min_size=logits.size, max_size=logits.size)))
    before = logits.copy()
    found = penalized(logits, seen, penalty)
    for i, value in enumerate(before):
        expected = value if not seen[i] else value / penalty if value > 0 else value * penalty
        assert found[i] == pytest.approx(expected, rel=1e-6)
    np.testing.assert_array_equal(logits, before)


@settings(max_examples=50, deadline=None)
@given(logit_arrays)
def test_greedy_takes_the_largest_and_the_first_of_equals(logits: NDArray[np.float32]) -> None:
    assert Sampler(SamplingConfig(temperature=0), logits.size).sample(logits) == list(logits).index(max(logits))


def test_draws_follow_the_probabilities() -> None:
    probabilities = np.array([0.5, 0.3, 0.15, 0.05])
    logits = np.log(probabilities).astype(np.float32)
    sampler = Sampler(SamplingConfig(temperature=1.0, top_p=1.0, seed=1), 4)
    draws = 20_000
    counts = Counter(sampler.sample(logits) for _ in range(draws))
    for token, p in enumerate(probabilities):
        # five standard deviations of a binomial count
        assert counts[token] == pytest.approx(draws * p, abs=5 * math.sqrt(draws * p * (1 - p)))


def test_a_seed_repeats_and_another_does_not() -> None:
    logits = np.zeros(1000, np.float32)

    def draw(seed: int | None) -> list[int]:
        sampler = Sampler(SamplingConfig(temperature=1.0, seed=seed), 1000)
        return [sampler.sample(logits) for _ in range(20)]

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)
    assert draw(None) != draw(None)


def test_a_token_of_weight_zero_is_never_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    class Zero:
        def random(self) -> float:
            return 0.0

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Zero())
    logits = np.array([-1e30, 0.0, -1e30], np.float32)
    assert Sampler(SamplingConfig(temperature=1.0, top_p=1.0), 3).sample(logits) == 1


def test_the_penalty_counts_prompt_and_answer() -> None:
    logits = np.array([1.0, 0.9, 0.8], np.float32)
    sampler = Sampler(SamplingConfig(temperature=0, repetition_penalty=2.0), 3)
    sampler.observe([0])
    assert [sampler.sample(logits) for _ in range(3)] == [1, 2, 0]


def test_a_tiny_temperature_is_greedy_and_not_nan() -> None:
    logits = np.array([-1.0, 5.0, 4.9999], np.float32)
    assert Sampler(SamplingConfig(temperature=1e-300, top_p=0.5), 3).sample(logits) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_that_are_no_numbers_are_an_error(value: float) -> None:
    for temperature in (0, 0.6):
        with pytest.raises(EngineError, match="best logit is"):
            Sampler(SamplingConfig(temperature=temperature), 4).sample(np.full(4, value, np.float32))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", "hot"),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("top_k", -1),
        ("top_k", 2.5),
        ("top_k", True),
        ("min_p", -0.01),
        ("min_p", 1.01),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", math.inf),
        ("seed", -1),
    ],
)
def test_values_outside_their_range_are_named(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{field} is {str(value)!s}|^{field} is '{value}'"):
        SamplingConfig(**{field: value})


def test_an_artifacts_defaults() -> None:
    found = SamplingConfig.from_manifest({"temperature": 0.7, "top_k": None, "top_p": 0.9})
    assert found == SamplingConfig(temperature=0.7, top_p=0.9)
    with pytest.raises(ArtifactError, match="'topp'") as caught:
        SamplingConfig.from_manifest({"topp": 0.9})
    assert "top_p" in caught.value.hint
    with pytest.raises(ArtifactError, match=r"top_p is 7"):
        SamplingConfig.from_manifest({"top_p": 7})
