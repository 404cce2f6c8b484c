"""The settings for choosing the next token: their ranges, and how an artifact's manifest stores them."""

from __future__ import annotations

import math
import re
from dataclasses import asdict
from typing import Any

import pytest

from edgekit.errors import ArtifactError
from edgekit.sampling import Sampling


def test_the_defaults_keep_the_models_distribution() -> None:
    assert asdict(Sampling()) == {
        "temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0
    }  # fmt: skip


def test_the_limits_of_each_range_are_allowed() -> None:
    Sampling(temperature=0, top_p=1, top_k=0, min_p=0, repetition_penalty=0.01)
    Sampling(temperature=3e38, top_p=1e-30, top_k=1 << 40, min_p=1, repetition_penalty=3e38)


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
        ("repetition_penalty", 0.0099),
        ("repetition_penalty", math.inf),
        ("temperature", 1e39),
    ],
)
def test_values_outside_their_range_are_named(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{field} is '?{re.escape(str(value))}"):
        Sampling(**{field: value})


def test_an_artifacts_defaults_are_read_from_its_manifest() -> None:
    found = Sampling.from_manifest({"temperature": 0.7, "top_k": None, "top_p": 0.9})
    assert found == Sampling(temperature=0.7, top_p=0.9)
    assert Sampling.from_manifest({}) == Sampling()
    with pytest.raises(ArtifactError, match="'topp'") as caught:
        Sampling.from_manifest({"topp": 0.9})
    assert "top_p" in caught.value.hint
    with pytest.raises(ArtifactError, match=r"top_p is 7"):
        Sampling.from_manifest({"top_p": 7})


def test_settings_survive_a_manifest() -> None:
    sampling = Sampling(0.6, 0.95, 40, 0.05, 1.1)
    assert Sampling.from_manifest(asdict(sampling)) == sampling
