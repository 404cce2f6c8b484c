"""Loads an artifact: opens its engine, tokenizer and chat template, and makes a session of them."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from ..arguments import check_truth
from ..artifact.manifest import Manifest, RuntimeFacts, read_manifest
from ..artifact.verify import refuse_links, verify
from .chat import ChatTemplate
from .draft import attach_draft
from .engine import EngineOptions, open_engine
from .recovery import recovering
from .session import Session
from .tokenizer import Tokenizer


def load(
    artifact: str | PathLike[str],
    engine: str = "auto",
    context: int | None = None,
    threads: int | None = None,
    kv_type: str | None = None,
    prepare: bool = True,
    speculate: bool = True,
    public_key: str | PathLike[str] | None = None,
    draft: str | PathLike[str] | None = None,
) -> Session:
    """Load an artifact.

    Args:
        artifact: A folder that ``edgekit build`` has created.
        engine: ``native``, ``ort`` (onnxruntime), ``cuda``, ``webgpu`` or ``auto``. ``auto`` uses native for quantized
            artifacts and ort for float ones, and a GPU for artifacts that were planned for it, if it is proven here.
        context: The largest number of tokens of prompt and answer together; None: the context planned by the build.
        threads: Number of compute threads; None: one per physical core that this process may use.
        kv_type: Type of the KV cache, ``float16`` or ``int8`` (half the memory; native engine only); None: the one
            that the build planned, which is int8 where float16 would not have fit the device.
        prepare: Whether a session prepares the next turn, in a thread, after an answer of a reasoning model. The
            thought is left out of the next prompt, so what follows it is evaluated again while somebody reads the
            answer. This is given up when the session is used or closed, or the process ends. The next answer does not
            depend on how far it gets, if the next messages contain this answer as ``Completion.text``. If they contain
            something else in its place, rounding depends on it (see ``seed`` of :meth:`Session.generate`).
        speculate: Whether the native engine may guess tokens from what followed the same tokens earlier in the
            conversation, and evaluate them together with the current one. This is faster where an answer repeats
            something, such as a document that it quotes, and changes no answer.
        public_key: Load the artifact only if this key has signed it: a PEM file, or 64 hexadecimal digits. Every byte
            of the artifact is read for that, which takes seconds per gigabyte. The files must not change while the
            session is open.
        draft: A small artifact with the same vocabulary, which also guesses tokens for the native engine. It takes
            memory of its own and reads the prompts, too. Answers stay the same; guesses that do not pay are not made.

    Returns:
        A :class:`Session`; close it, or use it in a ``with`` statement.

    Raises:
        ArtifactError: The folder is not an artifact, or has links that lead out of it.
        VerificationError: A file was changed, or the artifact is not signed by the key.
        TokenizerError: The artifact's tokenizer or chat template cannot be used.
        UnknownNameError: There is no such engine.
        ContextLengthError: The context is longer than the model's.
        EngineError: The engine cannot load the artifact, does not support this ``kv_type`` or a draft model, or the
            draft model has another vocabulary.
        ValueError: The context or the number of threads is below 1, ``kv_type`` is not known, ``prepare`` or
            ``speculate`` is no truth value, or there is a draft model without ``speculate``.
    """
    folder = Path(artifact)
    check_truth("prepare", prepare)
    check_truth("speculate", speculate)
    options = EngineOptions(context=context, threads=threads, kv_type=kv_type, speculate=speculate)
    if draft is not None and not speculate:
        raise ValueError("a draft model guesses tokens, which speculate=False turns off")
    manifest = trusted_manifest(folder, public_key)
    guesses = None if draft is None else (Path(draft), trusted_manifest(Path(draft), public_key))
    return open_session(folder, manifest, options, engine, prepare, guesses)


def trusted_manifest(folder: Path, public_key: str | PathLike[str] | None) -> Manifest:
    """The manifest of an artifact that may be opened; see :func:`load`.

    Args:
        folder: The artifact.
        public_key: As for :func:`load`.
    """
    if public_key is not None:
        return verify(folder, public_key=public_key)
    manifest = read_manifest(folder)
    refuse_links(folder)
    return manifest


def open_session(
    folder: Path,
    facts: RuntimeFacts,
    options: EngineOptions,
    engine: str = "auto",
    prepare: bool = False,
    draft: tuple[Path, Manifest] | None = None,
) -> Session:
    """Open a folder whose manifest may not be written yet, as a build does with the artifact it is making.

    Args:
        folder: Holds the model and the tokenizer.
        facts: What its manifest says, or will say.
        options: Context, threads and KV cache type.
        engine: As for :func:`load`.
        prepare: As for :func:`load`.
        draft: A draft model and its manifest.

    Returns:
        A :class:`Session`; close it, or use it in a ``with`` statement.

    Raises:
        EdgekitError: As for :func:`load`.
    """
    tokenizer = Tokenizer.open(folder, facts.tokens)
    template = ChatTemplate.open(folder, tokenizer, reasoning=facts.reasoning)
    opened = recovering(open_engine(folder, facts, options, engine), folder, facts, options)
    try:
        if draft is not None:
            attach_draft(opened, folder, *draft, options)
        return Session(opened, tokenizer, template, facts, prepare)
    except BaseException:
        opened.close()
        raise
