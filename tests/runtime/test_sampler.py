"""The native sampler compared with its reference in numpy (``tests/support/sampling_reference.py``).

A seed can be chosen so that the generator draws any given number in [0, 1). So tokens and frequencies can be compared
without statistics: token i must be drawn exactly for the numbers between its two cumulative probabilities.
"""

from __future__ import annotations

import ctypes
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from open_engine import engine
from sampling_reference import candidates, penalized, plain_candidates
from shared_models import SharedModels

from edgekit import native
from edgekit.errors import EngineError
from edgekit.runtime.sampler import Sampler
from edgekit.sampling import Sampling

# The native exponential is float32: exponents up to 40, rounded to 24 bits, give weights with a relative error of 5e-6.
SINGLE = 1e-5


def seed_for(number: float) -> int:
    """The seed whose first draw is a number in [0, 1): splitmix64 backwards."""
    mask = (1 << 64) - 1

    def unshift(z: int, by: int) -> int:
        found = z
        for _ in range(64 // by):
            found = z ^ found >> by
        return found

    z = unshift(int(number * 2**53) << 11, 31)
    z = unshift(z * pow(0x94D049BB133111EB, -1, 1 << 64) & mask, 27)
    z = unshift(z * pow(0xBF58476D1CE4E5B9, -1, 1 << 64) & mask, 30)
    return (z - 0x9E3779B97F4A7C15) & mask


def chosen(logits: NDArray[np.float32], config: Sampling, number: float) -> int:
    """The token that the draw of `number` gives."""
    return Sampler(config, logits.size, seed_for(number)).sample(logits)


def on_an_edge(logits: NDArray[np.float32], config: Sampling) -> bool:
    """Whether rounding decides: a sum of probabilities, or a ratio, is within float32 precision of its limit."""
    nearby = []
    for shift in (-SINGLE, SINGLE):
        moved = Sampling(
            config.temperature,
            min(max(config.top_p + shift, 1e-12), 1.0) if config.top_p < 1 else 1.0,
            config.top_k,
            min(max(config.min_p * (1 + shift), 0.0), 1.0),
        )
        nearby.append(plain_candidates(logits, moved).keys())
    return nearby[0] != nearby[1]


# Logits in steps of 1/1024: closer logits have equal weights, and the native code compares logits.
logit_arrays = hnp.arrays(
    np.float32,
    st.integers(1, 300),
    elements=st.one_of(
        st.integers(-30 << 10, 30 << 10).map(lambda steps: steps / 1024),
        st.sampled_from([0.0, -0.0, 1.0, 2.0, -math.inf]),  # ties, and masked logits
    ),
).filter(lambda logits: bool(np.isfinite(logits.max())))
configs = st.builds(
    Sampling,
    temperature=st.floats(0.0625, 3, width=32),
    top_p=st.one_of(st.just(1.0), st.floats(0.0078125, 0.9990234375, width=32)),
    top_k=st.integers(0, 350),
    min_p=st.one_of(st.just(0.0), st.floats(0, 1, width=32)),
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(logit_arrays, configs)
def test_the_two_references_agree(logits: NDArray[np.float32], config: Sampling) -> None:
    ids, weights = candidates(logits, config)
    expected = plain_candidates(logits, config)
    if on_an_edge(logits, config):
        assert logits.argmax() in ids
        return
    assert ids.tolist() == sorted(expected)
    np.testing.assert_allclose(weights / weights.sum(), [expected[i] for i in ids], rtol=1e-9)


def check_draws(logits: NDArray[np.float32], config: Sampling) -> None:
    """Every token is drawn between its two cumulative probabilities, and no other token is ever drawn."""
    ids, weights = candidates(logits, config)
    ends = np.cumsum(weights) / weights.sum()
    begins = np.concatenate([[0.0], ends[:-1]])
    for token, begin, end in zip(ids, begins, ends, strict=True):
        if end - begin > 4 * SINGLE:
            assert chosen(logits, config, begin + SINGLE) == token
            assert chosen(logits, config, end - SINGLE) == token
    for number in (0.0, 0.5, 1 - 2**-53):
        assert chosen(logits, config, number) in ids


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(logit_arrays, configs)
def test_tokens_and_their_frequencies_match_the_reference(logits: NDArray[np.float32], config: Sampling) -> None:
    if not on_an_edge(logits, config):
        check_draws(logits, config)


@pytest.mark.parametrize(
    "spread", [0.1, 1.0, 4.0]
)  # flat: the nucleus is nearly everything; peaked: the nucleus is small
@pytest.mark.parametrize("settings", [{"top_p": 0.9}, {"top_p": 0.95, "top_k": 40}, {"min_p": 0.05}, {"top_k": 3000}])
def test_tokens_and_frequencies_of_a_large_vocabulary(spread: float, settings: dict[str, Any]) -> None:
    logits = np.random.default_rng(3).normal(scale=spread, size=50_001).astype(np.float32)
    config = Sampling(**settings)
    ids, weights = candidates(logits, config)
    ends = np.cumsum(weights) / weights.sum()
    for number in np.random.default_rng(4).random(200):
        low, high = np.searchsorted(ends, [number - SINGLE, number + SINGLE])
        assert chosen(logits, config, number) in ids[low : high + 1]


def test_the_nucleus_matches_the_reference_exactly() -> None:
    """The logits are sorted, so that the number 0 draws the least likely token of the nucleus."""
    logits = np.sort(np.random.default_rng(5).normal(scale=3, size=20_000)).astype(np.float32)
    for top_p in (0.3, 0.9, 0.99):
        config = Sampling(top_p=top_p)
        assert chosen(logits, config, 0.0) == candidates(logits, config)[0][0]


@settings(max_examples=100, deadline=None)
@given(logit_arrays, st.floats(0.5, 3, width=32), st.floats(0, 0.999), st.data())
def test_the_repetition_penalty_matches_the_reference(
    logits: NDArray[np.float32], penalty: float, number: float, data: st.DataObject
) -> None:
    seen = np.array(data.draw(st.lists(st.booleans(), min_size=logits.size, max_size=logits.size)))
    expected = penalized(logits, seen, penalty)
    before = logits.copy()
    for temperature in (0.0, 1.0):
        plain = Sampling(temperature=temperature)
        sampler = Sampler(Sampling(temperature=temperature, repetition_penalty=penalty), logits.size, seed_for(number))
        sampler.observe(np.nonzero(seen)[0])
        assert sampler.sample(logits) == chosen(expected, plain, number)
    np.testing.assert_array_equal(logits, before)


@settings(max_examples=50, deadline=None)
@given(logit_arrays)
def test_greedy_takes_the_largest_and_the_first_of_equals(logits: NDArray[np.float32]) -> None:
    assert Sampler(Sampling(temperature=0), logits.size).sample(logits) == list(logits).index(max(logits))


def test_draws_follow_the_probabilities() -> None:
    probabilities = np.array([0.5, 0.3, 0.15, 0.05])
    logits = np.log(probabilities).astype(np.float32)
    sampler = Sampler(Sampling(), 4, seed=1)
    draws = 20_000
    counts = Counter(sampler.sample(logits) for _ in range(draws))
    for token, p in enumerate(probabilities):
        # five standard deviations of a binomial count
        assert counts[token] == pytest.approx(draws * p, abs=5 * math.sqrt(draws * p * (1 - p)))


def test_a_seed_repeats_and_another_does_not() -> None:
    logits = np.zeros(1000, np.float32)

    def draw(seed: int | None) -> list[int]:
        sampler = Sampler(Sampling(), 1000, seed)
        return [sampler.sample(logits) for _ in range(20)]

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)
    assert draw(None) != draw(None)


def test_the_same_tokens_on_every_machine() -> None:
    """With a fixed seed; a change of the generator or of the arithmetic fails this test."""
    logits = (np.arange(1000) * 7919 % 1000 / 100).astype(np.float32)
    sampler = Sampler(Sampling(temperature=0.8, top_p=0.95), 1000, seed=42)
    assert [sampler.sample(logits) for _ in range(8)] == [742, 173, 284, 336, 39, 877, 225, 805]


def test_a_token_of_weight_zero_is_never_drawn() -> None:
    logits = np.array([-1e30, 0.0, -1e30], np.float32)
    for number in (0.0, 1 - 2**-53):
        assert chosen(logits, Sampling(), number) == 1


def test_the_penalty_counts_prompt_and_answer() -> None:
    logits = np.array([1.0, 0.9, 0.8], np.float32)
    sampler = Sampler(Sampling(temperature=0, repetition_penalty=2.0), 3)
    sampler.observe([0])
    assert [sampler.sample(logits) for _ in range(3)] == [1, 2, 0]


def test_a_tiny_temperature_is_greedy_and_not_nan() -> None:
    logits = np.array([-1.0, 5.0, 4.9999], np.float32)
    assert Sampler(Sampling(temperature=1e-300, top_p=0.5), 3).sample(logits) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_an_error(value: float) -> None:
    for temperature in (0, 0.6):
        with pytest.raises(EngineError, match="largest logit of the model is"):
            Sampler(Sampling(temperature=temperature), 4).sample(np.full(4, value, np.float32))


@pytest.mark.parametrize("size", [1, 4, 16, 17, 100])
def test_a_single_nan_is_an_error(size: int) -> None:
    logits = np.zeros(size, np.float32)
    for at in range(size):
        logits[at] = np.nan
        with pytest.raises(EngineError, match="largest logit of the model is nan"):
            Sampler(Sampling(), size).sample(logits)
        logits[at] = 0


def test_logits_of_another_vocabulary_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"shape \(5,\) for a vocabulary of 4"):
        Sampler(Sampling(), 4).sample(np.zeros(5, np.float32))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("temperature", -1, "temperature is -1; it must be 0"),
        ("temperature", math.nan, "temperature is nan"),
        ("top_p", 0, "top_p is 0; it must be above 0 and at most 1"),
        ("top_p", 1.5, "top_p is 1.5"),
        ("min_p", -0.5, "min_p is -0.5; it must be between 0 and 1"),
        ("repetition_penalty", 0, "repetition_penalty is 0; it must be 0.01 or more"),
        ("top_k", -1, "top_k is -1; it must be 0"),
    ],
)
def test_the_abi_checks_its_arguments(field: str, value: float, words: str) -> None:
    good = {"temperature": 1, "top_p": 1, "min_p": 0, "repetition_penalty": 1, "top_k": 0}
    logits, state, token = np.zeros(4, np.float32), ctypes.c_uint64(1), ctypes.c_int32(-7)
    call = native.library().ek_sample
    sampling = native.Sampling(**{**good, field: value})
    assert call(logits.ctypes.data, 4, sampling, None, state, token) == native.BAD_ARGUMENT
    assert words in native.last_error()
    for n in (0, -1, 1 << 31):
        assert call(logits.ctypes.data, n, native.Sampling(**good), None, state, token) == native.BAD_ARGUMENT
        assert f"{n} logits" in native.last_error()
    assert call(None, 4, native.Sampling(**good), None, state, token) == native.BAD_ARGUMENT
    assert (state.value, token.value) == (1, -7)
    assert call(logits.ctypes.data, 4, native.Sampling(**good), None, state, token) == native.OK
    assert 0 <= token.value < 4


@pytest.mark.parametrize("seed", [-1, 1 << 64, 1.5, True])
def test_an_invalid_seed_is_an_error(seed: Any) -> None:
    with pytest.raises(ValueError, match=rf"^seed is {seed}; it must be a whole number, 0 or more and below 2\^64"):
        Sampler(Sampling(), 4, seed)


def test_samplers_choose_together_what_they_choose_alone(models: SharedModels) -> None:
    native_engine = engine(models.artifact(), "native", context=16, threads=2)
    settings_of = [
        Sampling(0.0),
        Sampling(0.8, 0.9, repetition_penalty=1.3),
        Sampling(1.5, top_k=5),
        Sampling(1.0, min_p=0.1),
    ]
    size = native_engine.vocab_size
    together = [Sampler(each, size, 7) for each in settings_of]
    alone = [Sampler(each, size, 7) for each in settings_of]
    rng = np.random.default_rng(1)
    for _ in range(20):
        logits = rng.normal(0, 3, (4, size)).astype(np.float32)
        expected = [sampler.sample(row) for sampler, row in zip(alone, logits, strict=True)]
        assert native_engine.sample(together, logits) == expected
    logits[2, 5] = np.nan
    with pytest.raises(EngineError, match="its arithmetic overflowed"):
        native_engine.sample(together, logits)
    logits[2, 5] = 0.0
    assert native_engine.sample(together, logits) == [each.sample(row) for each, row in zip(alone, logits, strict=True)]
    with pytest.raises(ValueError, match="for 4 samplers"):
        native_engine.sample(together, logits[:3])
