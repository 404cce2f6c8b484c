"""A draft model: a small artifact with the same vocabulary, which guesses tokens for a session of the native engine.

The guesses are evaluated together with the current token. Those that do not follow are dropped, so no answer changes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..artifact.manifest import Manifest, read_manifest
from ..errors import EngineError, TokenizerError
from ..json_file import read_json_object
from .engine import Engine, EngineOptions
from .native_engine import NativeEngine
from .tokenizer import TOKENIZER_FILE


def attach_draft(engine: Engine, folder: Path, draft: Path, manifest: Manifest, options: EngineOptions) -> None:
    """Let a small artifact guess tokens for an engine, which closes it with itself.

    Args:
        engine: The engine of ``folder``, which must be ``native``.
        folder: The artifact that answers.
        draft: The artifact that guesses.
        manifest: Its manifest.
        options: Those of the engine; the draft model has the same number of threads.

    Raises:
        EngineError: The engine is another one, the vocabularies differ, or the draft model cannot be loaded.
    """
    if not isinstance(engine, NativeEngine):
        raise EngineError(f"a draft model needs the engine native, not {engine.name}", hint="leave out the draft model")
    check_vocabulary(folder, draft)
    context = min(engine.context, int(manifest.model["context_length"]))
    small = NativeEngine.open(draft, manifest, EngineOptions(context=context, threads=options.threads))
    try:
        engine.use_draft(small)
    except BaseException:
        small.close()
        raise


def check_vocabulary(folder: Path, draft: Path) -> None:
    """Check that token ids mean the same in two artifacts. Added tokens, such as control tokens, may differ.

    Raises:
        EngineError: They do not; names the first id that differs.
        TokenizerError: A tokenizer cannot be read.
    """
    ours, theirs = read_manifest(folder).files, read_manifest(draft).files
    hashes = [files.get(TOKENIZER_FILE, {}).get("sha256") for files in (ours, theirs)]
    if hashes[0] is not None and hashes[0] == hashes[1]:
        return
    own, other = (_vocabulary(path) for path in (folder, draft))
    different = sorted(i for i in own.keys() | other.keys() if own.get(i) != other.get(i))
    if different:
        at = different[0]
        shown = " and ".join(repr(each[at]) if at in each else "no token" for each in (own, other))
        raise EngineError(
            f"{draft.name} cannot guess for {folder.name}: the vocabularies differ in {len(different)} token ids; "
            f"{at} is {shown}",
            hint="a draft model needs the same vocabulary: a smaller model of the same family",
        )


def _vocabulary(folder: Path) -> dict[int, str]:
    """The tokens of a tokenizer by their ids, without the added ones."""
    path = folder / TOKENIZER_FILE
    model: Any = read_json_object(path, error=TokenizerError).get("model")
    tokens = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(tokens, dict):
        return {i: token for token, i in tokens.items() if isinstance(i, int)}
    if isinstance(tokens, list):  # unigram models: pairs of a token and its score
        return dict(enumerate(str(entry[0]) for entry in tokens if isinstance(entry, list) and entry))
    raise TokenizerError(f"{path} has no vocabulary")
