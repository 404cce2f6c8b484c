"""The gate: an artifact is measured against its float model, and refused where it misses its recipe's thresholds.

    held-out texts  -> both models, layer by layer -> KL, top-1, perplexities; what each layer loses
    three questions -> the artifact's answers     -> does a thought close, do most loop
    chat template   -> one beginning-of-sequence token

A float model that does not predict the texts any better than word counts would (random weights, in tests and
benchmarks) shows nothing by its likeliest token or by what it goes on to say: then only KL and perplexities are judged,
and the result says so.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..artifact.manifest import FILE_NAME, Manifest
from ..errors import EdgekitError, QualityError
from ..models import ModelSpec
from ..recipes.quality import Thresholds
from ..runtime.chat import ChatTemplate
from ..runtime.tokenizer import Tokenizer
from ..weights.checkpoint import WeightSource
from .answers import Answer, ask
from .compare import compare
from .held_out import TEXTS, bos_problem, held_out
from .scores import Figures

# A unigram model of English over a vocabulary of 50 k has a perplexity of about 1000; random weights have at least the
# size of the vocabulary, which for small ones is the lower of the two.
_UNIGRAM_PERPLEXITY = 1000.0
_UNIGRAM_SHARE = 0.25
_NAMED_LAYERS = 3
_DIGITS = 6  # of a figure in the manifest

Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class Check:
    """One question and its answer.

    Args:
        name: The threshold's name.
        passed: None where it was not checked.
        value: What was measured; None where it is no number.
        limit: What is allowed.
        detail: In words; why it was not checked, if so.
    """

    name: str
    passed: bool | None
    value: float | bool | None
    limit: float | bool
    detail: str


def measure(
    folder: Path,
    manifest: Manifest,
    source: WeightSource,
    spec: ModelSpec,
    thresholds: Thresholds,
    data_bytes: int,
    tokens: int,
    threads: int,
    progress: Progress = lambda phase, done, total: None,
) -> dict[str, Any]:
    """Measure an artifact and judge it.

    Args:
        folder: The artifact; its manifest may still be missing.
        manifest: That manifest, as far as it is known.
        source: The float weights.
        spec: The model.
        thresholds: What it must reach.
        data_bytes: Of its weights.
        tokens: How many of the held-out texts' to score at most.
        threads: For everything.
        progress: Called with a phase's name, how much is done, and how much there is.

    Returns:
        The manifest's ``quality``; its fields are described in ``artifact/manifest.py``.

    Raises:
        QualityError: There is nothing to measure against: the float model gives NaN.
        EdgekitError: The weights cannot be read.
    """
    tokenizer = Tokenizer.open(folder, manifest)
    template = ChatTemplate.open(folder, tokenizer)
    passages = held_out(tokenizer, template, manifest.reasoning, manifest.model["context_length"], tokens)
    found = compare(
        folder, manifest, source, spec, passages, threads,
        lambda done, total: progress("measuring the quality", done, total),
    )  # fmt: skip
    progress("measuring the quality", 1, 1)
    fluent = _is_language_model(found.figures, spec.vocab_size)
    answers, why_not = _answers(folder, manifest, data_bytes, threads, fluent, progress)
    checks = [
        *judge_figures(found.figures, thresholds, fluent),
        _bos_check(tokenizer, template, thresholds),
        *judge_answers(answers, why_not, thresholds, manifest.reasoning),
    ]
    return {
        **{key: _finite(value) for key, value in asdict(found.figures).items()},
        "perplexity_ratio": _finite(found.figures.perplexity_ratio),
        "texts_sha256": hashlib.sha256(TEXTS.read_bytes()).hexdigest(),
        "losses": {name: _finite(loss) for name, loss in found.losses.items()},
        "answers": [asdict(a) for a in answers],
        "checks": [asdict(c) for c in checks],
        "passed": not any(c.passed is False for c in checks),
    }


def _answers(
    folder: Path, manifest: Manifest, data_bytes: int, threads: int, fluent: bool, progress: Progress
) -> tuple[list[Answer], str]:
    if not fluent:
        return [], "the float model itself does not predict text"
    if not all(manifest.quantization.get(part) for part in ("linear", "embedding", "lm_head")):
        return [], "the native engine runs quantized artifacts only"
    progress("asking the artifact", 0, 1)
    path = folder / FILE_NAME
    replace(manifest, golden=None).write(folder)  # an engine opens no folder without one
    try:
        return ask(folder, data_bytes, threads)
    finally:
        path.unlink()
        progress("asking the artifact", 1, 1)


def _is_language_model(figures: Figures, vocab_size: int) -> bool:
    return figures.reference_perplexity <= min(_UNIGRAM_PERPLEXITY, _UNIGRAM_SHARE * vocab_size)


def judge_figures(figures: Figures, thresholds: Thresholds, fluent: bool) -> list[Check]:
    """Hold the figures against the thresholds; ``fluent``: the float model predicts text."""
    at_most = {
        "max_mean_kl": (figures.mean_kl, "mean KL"),
        "max_p99_kl": (figures.p99_kl, "99th percentile of KL"),
        "max_perplexity_ratio": (figures.perplexity_ratio, "perplexity ratio"),
    }
    checks = []
    for name, (value, words) in at_most.items():
        limit = getattr(thresholds, name)
        detail = f"{words} {value:.4g}, allowed at most {limit:g}"
        checks.append(Check(name, value <= limit, _finite(value), limit, detail))  # False for NaN too
    top1 = f"same likeliest token {figures.top1:.1%}, allowed at least {thresholds.min_top1:.1%}"
    if not fluent:
        top1 += f" (not judged: the float model itself has a perplexity of {figures.reference_perplexity:.4g})"
    passed = figures.top1 >= thresholds.min_top1 if fluent else None
    return [*checks, Check("min_top1", passed, _finite(figures.top1), thresholds.min_top1, top1)]


def _bos_check(tokenizer: Tokenizer, template: ChatTemplate | None, thresholds: Thresholds) -> Check:
    try:
        problem = bos_problem(tokenizer, template)
    except EdgekitError as error:
        problem = error.message
    passed = problem is None or not thresholds.one_bos
    return Check("one_bos", passed, problem is None, thresholds.one_bos, problem or "as the model wants it")


def judge_answers(answers: list[Answer], why_not: str, thresholds: Thresholds, reasoning: bool) -> list[Check]:
    """Hold the answers against the thresholds; ``why_not`` says why there are none."""
    wanted = {"no_loops": thresholds.no_loops} | ({"thought_closes": thresholds.thought_closes} if reasoning else {})
    if not answers:
        return [Check(name, None, None, limit, f"not checked: {why_not}") for name, limit in wanted.items()]
    looping = [a for a in answers if a.loop_tokens is not None]
    opened = [a for a in answers if a.thought_closed is not None]
    closed = [a for a in opened if a.thought_closed]
    # One answer in three may be the float model's own: small ones repeat themselves now and then.
    found = {"no_loops": 2 * len(looping) <= len(answers), "thought_closes": bool(closed) or not opened}
    words = {
        "no_loops": f"{len(looping)} of {len(answers)} answers loop"
        + "".join(f"; {a.question!r}: the same {a.loop_tokens} tokens again and again" for a in looping),
        "thought_closes": f"{len(closed)} of {len(opened)} thoughts end",
    }
    return [Check(n, found[n] or not limit, found[n], limit, words[n]) for n, limit in wanted.items()]


def check_passed(quality: Mapping[str, Any] | None, name: str, place: Path) -> None:
    """Refuse an artifact whose measured quality falls short.

    Args:
        quality: The manifest's; None: not measured.
        name: The artifact's.
        place: Where it is kept.

    Raises:
        QualityError: It does; the message has the figures, the limits and the layers that lose most.
    """
    if quality is None or quality["passed"]:
        return
    failed = "; ".join(c["detail"] for c in quality["checks"] if c["passed"] is False)
    raise QualityError(
        f"{name} is too far from its float model: {failed}. {worst_layers(quality)}It is kept in {place}",
        hint="edgekit run or eval shows what it does. --method gptq, smaller blocks or 8 bits lose less; "
        "the limits stand in the recipe's [quality]; --no-gate builds without measuring",
    )


def worst_layers(quality: Mapping[str, Any]) -> str:
    """A sentence that names the parts that lose most by themselves."""
    losses = {name: math.inf if loss is None else loss for name, loss in quality["losses"].items()}
    if not losses:
        return ""
    worst = sorted(losses, key=lambda n: -losses[n])[:_NAMED_LAYERS]
    median = sorted(losses.values())[len(losses) // 2]
    named = ", ".join(f"{n} ({losses[n]:.1%})" for n in worst)
    return f"Most is lost in {named}; the median is {median:.1%} of the hidden state. "


def _finite(value: float) -> float | None:
    """A figure as JSON can hold it."""
    if isinstance(value, int):
        return value
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
