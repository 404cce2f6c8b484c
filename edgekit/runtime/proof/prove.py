"""Proves that a GPU computes an artifact right, and looks for a way out where a kernel does not.

    1. each distinct kernel against the processor (``kernels.py``)
    2. the ways to run the artifact without the kernels that are wrong, best first: smaller chunks of the prompt, or
       those operators on the processor
    3. for each of these ways, until one is right: the logits of the golden prompt and its continuation, against the
       processor's (both with float products) and against the artifact's record (``runtime/replay.py``)

The verdict is kept in a file, so this happens once for each GPU, driver, version of the engine and artifact.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...artifact.manifest import Manifest, RuntimeFacts
from ...errors import AcceleratorError, EngineProofNotice
from ...host import available_memory, physical_cores
from ..engine import EngineOptions
from ..io_binding import BoundEngine
from ..native_engine import NativeEngine
from ..ort_engine import OrtEngine
from ..provider import MODEL_FILE, Provider, Setup, load_onnxruntime, open_model
from ..replay import check_logits, check_tokens
from .adapter import Adapter
from .graph import FLOAT, FLOAT16, read_graph, with_float_products
from .kernels import ROWS, Bench, Comparison, Kernel, compare_kernel, distinct_kernels
from .verdict import Subject, Verdict, artifact_id, find_verdict

# The largest allowed error of a row of logits, relative to its spread. Right kernels differ by 1e-5 in float32.
LOGITS_TOLERANCE = {FLOAT: 1e-3, FLOAT16: 5e-2}
# Against the native engine, which rounds activations to int8: it differs from float products by 0.03 to 0.06
# (SmolLM2-135M, R1-1.5B's shape, tiny models), onnxruntime's int8 products by as much.
INT8_TOLERANCE = 0.15
# onnxruntime repacks weights: with R1-1.5B's shape in float16, 1.07 GB, its peak is 2.2 GB.
_REFERENCE_BYTES = 2.3  # for each byte of weights
_SMALL_CHUNK = 16  # with smaller ones a prompt is read too slowly: the operator is faster on the processor
_SAMPLE = 4  # tokens
_ENDED = 2  # processes in succession, after which a comparison is not tried again


class _Reference(OrtEngine):
    """The processor with float products."""

    provider = replace(OrtEngine.provider, float_products=True)


@dataclass(frozen=True)
class _Test:
    """Token ids to evaluate: a prompt, then single tokens; and the record of the artifact, if it has one."""

    prompt: list[int]
    continuation: list[int]
    top_logits: list[dict[str, Any]]


def prove(
    engine: type[BoundEngine],
    folder: Path,
    manifest: RuntimeFacts,
    options: EngineOptions,
    adapter: Adapter,
    versions: str,
) -> tuple[Verdict, bool]:
    """The verdict on an engine for an artifact on this machine, and whether it is new or one that was kept.

    A new proof is announced as an :class:`~edgekit.errors.EngineProofNotice`, because it takes a while.

    Args:
        engine: The engine.
        folder: The artifact.
        manifest: Its manifest.
        options: Threads of the processor.
        adapter: The GPU.
        versions: Those of what runs on it.

    Raises:
        EngineError: The artifact cannot be loaded.
        AcceleratorError: An earlier proof has crashed.
    """
    subject = Subject(engine.name, adapter.name, adapter.driver, versions, artifact_id(folder))
    kept = find_verdict(subject)
    if kept is not None:
        return kept, False
    warnings.warn(
        f"{engine.provider.title} on {adapter} has not run {manifest.name} before; "
        "its results are compared with the processor's first",
        EngineProofNotice,
        stacklevel=2,
    )
    with _unless_it_crashed(subject, f"{engine.provider.title} on {adapter}"):
        verdict = new_verdict(engine, folder, manifest, options, subject)
    verdict.keep()
    return verdict, True


@contextmanager
def _unless_it_crashed(subject: Subject, what: str) -> Iterator[None]:
    """Refuse if the block has ended its process twice in succession, as drivers can.

    Once is tried again: something else may have ended the process. The file that tells has two numbers, the process's
    and that of the attempts before it.
    """
    marker = subject.path().with_suffix(".unfinished")
    ended = 0
    with suppress(OSError, ValueError):
        process, before = (int(word) for word in marker.read_text(encoding="utf-8").split())
        ended = before if _runs(process) else before + 1
    if ended >= _ENDED:
        raise AcceleratorError(
            f"the last {ended} comparisons of {what} ended their process, perhaps by a fault of the driver",
            hint=f"update the GPU's driver and remove {marker}, or use the processor: --engine native",
        )
    with suppress(OSError):  # as for the verdict itself
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text(f"{os.getpid()} {ended}", encoding="utf-8")
    try:
        yield
    finally:
        with suppress(OSError):
            marker.unlink()


def _runs(process: int) -> bool:
    """Whether a process runs; true on systems that do not tell."""
    if not Path("/proc/self").exists():
        return True
    return Path("/proc", f"{process}").exists()


def new_verdict(
    engine: type[BoundEngine], folder: Path, manifest: RuntimeFacts, options: EngineOptions, subject: Subject
) -> Verdict:
    """Prove, whatever has been kept; see :func:`prove`."""
    started = time.perf_counter()
    threads = options.threads or physical_cores()
    bench = _bench(folder, threads)
    kernels = distinct_kernels(bench.graph)
    rows = [each for each in ROWS if each <= engine.provider.prefill_chunk]
    found = [each for kernel in kernels for each in compare_kernel(bench, kernel, engine.provider, rows)]
    wrong = describe_wrong(found)
    right = [each.error for each in found if each.passed]
    test = _test_of(manifest)
    checks = replace(
        options, context=len(test.prompt) + len(test.continuation), all_logits=False, kv_type=None, threads=threads
    )
    reference, allowed = _open_reference(folder, manifest, checks)
    sample = reference.evaluate(test.prompt[:_SAMPLE])[-1]
    reference.rewind(0)
    expected = _rows(reference, test)
    setup, error, kl, reason = Setup(0), math.inf, math.inf, "; ".join(wrong) or "no kernel is right"
    for setup in ways_out(engine.provider, kernels, found):
        still = _wrong_in_chunks(bench, engine.provider, kernels, [each for each in found if not each.passed], setup)
        if still:
            reason = f"also in chunks of {setup.prefill_chunk} rows, {'; '.join(still)}"
            continue
        try:
            logits = _rows(engine.open_with(folder, manifest, checks, setup), test)
        except AcceleratorError as failure:
            reason = failure.message
            continue
        error, kl = logits_error(logits, expected), mean_kl(logits, expected)
        reason = _complaint(logits, test, error, allowed)
        if not reason:
            break
    return Verdict(
        subject=subject,
        name=manifest.name,
        passed=not reason,
        setup=setup,
        detail=reason or _passed(len(kernels), len(found), len(test.continuation), wrong, setup),
        wrong=wrong,
        kernels=len(kernels),
        sizes=len(found),
        kernel_error=max(right, default=math.inf),
        logits_error=error if math.isfinite(error) else None,
        mean_kl=kl if math.isfinite(kl) else None,
        seconds=time.perf_counter() - started,
        sample_ids=tuple(test.prompt[:_SAMPLE]),
        sample_logits=tuple({"id": int(i), "logit": float(sample[i])} for i in np.argsort(-sample)[:10]),
    )


def _open_reference(
    folder: Path, manifest: RuntimeFacts, options: EngineOptions, available: Callable[[], int | None] = available_memory
) -> tuple[BoundEngine | NativeEngine, float]:
    """The engine whose logits are the right ones, and how far others may be from them.

    That is onnxruntime with float products or, where memory is too short for it, the native engine, which maps the
    file.
    """
    needed = _REFERENCE_BYTES * (folder / f"{MODEL_FILE}.data").stat().st_size
    if manifest.quantized and (available() or math.inf) < needed:
        return NativeEngine.open(folder, manifest, options), INT8_TOLERANCE
    tolerance = LOGITS_TOLERANCE[FLOAT16 if manifest.activation_type == "float16" else FLOAT]
    chunk = _Reference.provider.prefill_chunk
    return _Reference.open_with(folder, manifest, options, Setup(chunk)), tolerance


def ways_out(provider: Provider, kernels: Sequence[Kernel], found: Sequence[Comparison]) -> list[Setup]:
    """How to run an artifact without the sizes and operators that are wrong, best first."""
    wrong = [each for each in found if not each.passed]
    whole, setups = provider.prefill_chunk, []
    for never in (1, _SMALL_CHUNK + 1, whole + 1):  # kernels that are wrong from fewer rows on run on the processor
        placed = {each.kernel for each in wrong if each.rows < never}
        if placed and not provider.places_nodes:
            break
        first = min((each.rows for each in wrong if each.kernel not in placed), default=whole + 1)
        right = max((rows for rows in (*ROWS, whole) if rows < first and rows <= whole), default=0)
        nodes = tuple(name for kernel in kernels if kernel.title in placed for name in kernel.names)
        cache_on_processor = any(each.kernel in placed and each.op == "GroupQueryAttention" for each in wrong)
        chunks = [chunk for chunk in (right, min(right, _SMALL_CHUNK)) if chunk >= _SMALL_CHUNK]
        setups += [Setup(chunk, nodes, cache_on_processor) for chunk in chunks]
    return list(dict.fromkeys(setups))


def describe_wrong(found: Sequence[Comparison]) -> tuple[str, ...]:
    """The kernels that are wrong: ``GroupQueryAttention 9/3 heads of 64 is wrong from 32 rows on (by 38 %)``."""
    texts = []
    for title in dict.fromkeys(each.kernel for each in found if not each.passed):
        failed = [each for each in found if each.kernel == title and not each.passed]
        worst, least = max(each.error for each in failed), min(each.rows for each in failed)
        size = "it fails" if math.isinf(worst) else f"by {100 * worst:.2g} %"
        texts.append(f"{title} is wrong from {least} row{'s' if least > 1 else ''} on ({size})")
    return tuple(texts)


def logits_error(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest error of a row of logits (rows, vocab_size), relative to the spread of the expected ones."""
    if not np.isfinite(found).all():
        return math.inf
    a, b = (each - each.mean(axis=1, keepdims=True) for each in (found.astype(np.float64), expected.astype(np.float64)))
    return float((np.sqrt(((a - b) ** 2).mean(axis=1)) / np.sqrt((b**2).mean(axis=1))).max())


def mean_kl(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Mean KL divergence of predictions from the expected ones, in nats; of logits (rows, vocab_size)."""
    if not np.isfinite(found).all():
        return math.inf
    a, b = (_log_softmax(each.astype(np.float64)) for each in (found, expected))
    return float((np.exp(b) * (b - a)).sum(axis=1).mean())


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def _bench(folder: Path, threads: int) -> Bench:
    ort = load_onnxruntime()
    graph = read_graph(with_float_products((folder / MODEL_FILE).read_bytes()))
    return Bench(
        ort, graph, OrtEngine.provider, lambda provider, model: open_model(ort, folder, provider, threads, model)
    )


def _wrong_in_chunks(
    bench: Bench, provider: Provider, kernels: Sequence[Kernel], wrong: Sequence[Comparison], setup: Setup
) -> tuple[str, ...]:
    """Which of the wrong kernels are also wrong when they get as few rows at once as in this setup."""
    if setup.cpu_nodes or setup.prefill_chunk == provider.prefill_chunk:
        return ()
    titles = {each.kernel for each in wrong}
    rows, chunk = [provider.prefill_chunk], setup.prefill_chunk
    return describe_wrong(
        [
            comparison
            for kernel in kernels
            if kernel.title in titles
            for comparison in compare_kernel(bench, kernel, provider, rows, chunk)
        ]
    )


def _test_of(manifest: RuntimeFacts) -> _Test:
    golden = manifest.golden if isinstance(manifest, Manifest) else None
    if golden and golden.get("continuation_ids"):
        return _Test(golden["prompt_ids"], golden["continuation_ids"], golden.get("top_logits") or [])
    ids = np.random.default_rng(0).integers(0, int(manifest.model["vocab_size"]), 48).tolist()
    return _Test(ids[:40], ids[40:], [])


def _rows(engine: BoundEngine | NativeEngine, test: _Test) -> NDArray[np.float32]:
    """The logits (len(continuation), vocab_size) before each token of the continuation."""
    try:
        rows = [engine.evaluate(test.prompt)[-1]]
        rows += [engine.evaluate([token])[-1] for token in test.continuation[:-1]]
    finally:
        engine.close()
    return np.stack(rows)


def _complaint(rows: NDArray[np.float32], test: _Test, error: float, allowed: float) -> str:
    """What is wrong with logits; empty if nothing is."""
    if not error <= allowed:
        return f"the logits differ from the processor's by {error:.2g} of their spread; allowed: {allowed:g}"
    if test.top_logits:
        for check in (check_logits(rows[0], test.top_logits), check_tokens(list(rows), test.continuation)):
            if not check.passed:
                return f"the artifact's record of the golden prompt: {check.detail}"
    return ""


def _passed(kernels: int, sizes: int, tokens: int, wrong: Sequence[str], setup: Setup) -> str:
    text = f"{kernels} kernels at {sizes} sizes and the logits of {tokens} tokens agree with the processor's"
    if not wrong:
        return text
    ways = [f"prompts are read in chunks of {setup.prefill_chunk}"]
    if setup.cpu_nodes:
        ways.append(f"the processor runs {len(setup.cpu_nodes)} of the nodes")
    return f"{text}, except that {'; '.join(wrong)}; so {' and '.join(ways)}"
