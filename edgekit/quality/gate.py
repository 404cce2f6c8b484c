"""The quality gate: measures an artifact against its float model and rejects it if it misses the recipe's thresholds.

    held-out texts  -> both models, layer by layer -> KL, top-1, perplexities; the loss of each layer
    three questions -> the artifact's answers      -> do thoughts and answers end, do answers loop
    chat template   -> exactly one beginning-of-sequence token

If the float model predicts the texts no better than word frequencies would (random weights, in tests and benchmarks),
its most likely token and the artifact's answers mean nothing. Then only KL and perplexities are judged, and the result
says so.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..artifact.manifest import RuntimeFacts
from ..errors import EdgekitError, QualityError
from ..models import ModelSpec
from ..progress import Progress, no_progress, phase
from ..recipes.quality import Thresholds
from ..runtime.chat import ChatTemplate
from ..runtime.tokenizer import Tokenizer
from ..weights.source import WeightSource
from .answers import Answer, ask, ended_in_time, room_for
from .compare import compare
from .held_out import TEXTS, bos_problem, held_out
from .scores import Figures

# A unigram model of English with a vocabulary of 50,000 has a perplexity of about 1000. Random weights have at least
# the size of the vocabulary, which is the smaller of the two for small vocabularies.
_UNIGRAM_PERPLEXITY = 1000.0
_UNIGRAM_SHARE = 0.25
_NAMED_LAYERS = 3
_DIGITS = 6  # significant digits of a figure in the manifest


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Args:
        name: Name of the threshold.
        passed: None if it was not checked.
        value: The measured value; None if it is not finite.
        limit: The threshold.
        detail: The result as a sentence, or why it was not checked.
    """

    name: str
    passed: bool | None
    value: float | bool | None
    limit: float | bool
    detail: str


def measure(
    folder: Path,
    facts: RuntimeFacts,
    source: WeightSource,
    spec: ModelSpec,
    thresholds: Thresholds,
    data_bytes: int,
    tokens: int,
    threads: int,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Measure an artifact and compare the result with its recipe's thresholds.

    Args:
        folder: The artifact, which needs no manifest yet.
        facts: What its manifest will say.
        source: The float weights.
        spec: The model.
        thresholds: The recipe's thresholds.
        data_bytes: Size of the artifact's weights.
        tokens: Tokens of the held-out texts to score at most.
        threads: Threads of the engines.
        progress: Receives the progress of each phase.

    Returns:
        The manifest's ``quality``; its fields are described in ``artifact/manifest.py``.

    Raises:
        QualityError: The float model produces NaN or infinity, so there is no reference.
        EdgekitError: The weights cannot be read.
    """
    tokenizer = Tokenizer.open(folder, facts.tokens)
    template = ChatTemplate.open(folder, tokenizer, reasoning=facts.reasoning)
    passages = held_out(tokenizer, template, facts.reasoning, facts.model["context_length"], tokens)
    found = compare(folder, facts, source, spec, passages, threads, phase(progress, "measuring quality"))
    progress("measuring quality", 1, 1)
    fluent = predicts_text(found.figures, spec.vocab_size)
    answers, why_not = _answers(folder, facts, data_bytes, threads, fluent, progress)
    checks = [
        *judge_figures(found.figures, thresholds, fluent),
        _bos_check(tokenizer, template, thresholds),
        *judge_answers(answers, why_not, thresholds, facts.reasoning),
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
    folder: Path, facts: RuntimeFacts, data_bytes: int, threads: int, fluent: bool, progress: Progress
) -> tuple[list[Answer], str]:
    """The artifact's answers, or none and the reason."""
    if not fluent:
        return [], "the float model itself does not predict text"
    if not facts.quantized:
        return [], "the native engine runs quantized artifacts only"
    progress("asking test questions", 0, 1)
    found = ask(folder, facts, data_bytes, threads)
    progress("asking test questions", 1, 1)
    return found


def predicts_text(figures: Figures, vocab_size: int) -> bool:
    """Whether the float model predicts text better than word frequencies would."""
    return figures.reference_perplexity <= min(_UNIGRAM_PERPLEXITY, _UNIGRAM_SHARE * vocab_size)


def judge_figures(figures: Figures, thresholds: Thresholds, fluent: bool) -> list[Check]:
    """Compare the figures with the thresholds. ``fluent`` tells whether the float model predicts text."""
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
    return Check(
        "one_bos",
        passed,
        problem is None,
        thresholds.one_bos,
        problem or "one beginning-of-sequence token, as the model expects",
    )


def judge_answers(answers: list[Answer], why_not: str, thresholds: Thresholds, reasoning: bool) -> list[Check]:
    """Check that answers and thoughts end, and for loops; ``why_not`` is the reason if there are no answers."""
    wanted = {"answers_end": thresholds.answers_end, "no_loops": thresholds.no_loops} | (
        {"thought_closes": thresholds.thought_closes} if reasoning else {}
    )
    if not answers:
        return [Check(name, None, None, limit, f"not checked: {why_not}") for name, limit in wanted.items()]
    looping = [a for a in answers if a.loop_tokens is not None]
    opened = [a for a in answers if a.thought_closed is not None]
    closed = [a for a in opened if a.thought_closed]
    # One loop in three answers may be the float model's own: small models repeat themselves now and then.
    found: dict[str, bool | None] = {
        "answers_end": ended_in_time(answers, reasoning),
        "no_loops": 2 * len(looping) <= len(answers),
        "thought_closes": bool(closed) or not opened,
    }
    endless = [a for a in answers if not a.ended]
    short = "" if found["answers_end"] is not None else f"; not judged: an answer needs room for {room_for(reasoning)}"
    words = {
        "answers_end": f"{len(answers) - len(endless)} of {len(answers)} answers end"
        + "".join(f"; {a.question!r}: no end in {a.tokens} tokens" for a in endless)
        + short,
        "no_loops": f"{len(looping)} of {len(answers)} answers loop"
        + "".join(f"; {a.question!r}: repeats {a.loop_tokens} tokens" for a in looping),
        "thought_closes": f"{len(closed)} of {len(opened)} thoughts are finished",
    }
    return [Check(n, _passed(found[n], limit), found[n], limit, words[n]) for n, limit in wanted.items()]


def _passed(found: bool | None, limit: bool) -> bool | None:
    """A check's result: None if it could not be judged, and passed if the recipe does not ask for it."""
    return None if found is None else found or not limit


def check_passed(quality: Mapping[str, Any] | None, name: str, place: Path) -> None:
    """Reject an artifact that misses a threshold.

    Args:
        quality: The manifest's ``quality``; None if it was not measured.
        name: The artifact's name.
        place: The folder in which a rejected artifact is kept.

    Raises:
        QualityError: It misses a threshold. The message has the figures, the limits and the layers with the largest
            loss.
    """
    if quality is None or quality["passed"]:
        return
    failed = "; ".join(c["detail"] for c in quality["checks"] if c["passed"] is False)
    raise QualityError(
        f"{name} is too far from its float model: {failed}. {worst_layers(quality)}It is kept in {place}",
        hint="try edgekit run or edgekit eval on it. --method gptq, smaller blocks or 8 bits lose less. "
        "The limits are in the recipe's [quality] table; --no-gate builds without measuring",
    )


def worst_layers(quality: Mapping[str, Any]) -> str:
    """A sentence that names the parts with the largest loss, or an empty string."""
    losses = {name: math.inf if loss is None else loss for name, loss in quality["losses"].items()}
    if not losses:
        return ""
    worst = sorted(losses, key=lambda n: -losses[n])[:_NAMED_LAYERS]
    median = sorted(losses.values())[len(losses) // 2]
    named = ", ".join(f"{n} ({losses[n]:.1%})" for n in worst)
    return f"The largest losses are in {named}; the median is {median:.1%} of the hidden state. "


def _finite(value: float) -> float | None:
    """A figure rounded for JSON; None if it is not finite."""
    if isinstance(value, int):
        return value
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
