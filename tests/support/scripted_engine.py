"""An engine that generates a given script, and sessions with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tiny_artifact import EOS

from edgekit.artifact.manifest import read_manifest
from edgekit.runtime.chat import ChatTemplate
from edgekit.runtime.session import Session
from edgekit.runtime.tokenizer import Tokenizer
from edgekit.sampling import Sampling

GREEDY = Sampling(temperature=0)
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


class ScriptedEngine:
    """An engine that generates a given script and records the ids that it is asked to evaluate."""

    name, kernel, threads, cache_bytes = "scripted", "none", 1, 0

    def __init__(self, vocab_size: int, context: int, script: Sequence[int]) -> None:
        self.vocab_size, self.context, self.position = vocab_size, context, 0
        self.script = list(script)
        self.evaluated: list[list[int]] = []

    def evaluate(self, ids: Sequence[int]) -> NDArray[np.float32]:
        self.evaluated.append(list(ids))
        self.position += len(ids)
        assert self.position <= self.context
        logits = np.zeros((1, self.vocab_size), np.float32)
        logits[0, self.script.pop(0)] = 1.0
        return logits

    def rewind(self, length: int) -> None:
        assert 0 <= length <= self.position
        self.position = length

    def close(self) -> None:
        self.position = 0


def scripted(
    folder: Path, output: str, context: int = 256, end: Sequence[int] = (EOS,)
) -> tuple[Session, ScriptedEngine]:
    manifest = read_manifest(folder)
    tokenizer = Tokenizer.open(folder, manifest.tokens)
    script = [*tokenizer.encode(output, add_bos=False), *end]
    engine = ScriptedEngine(int(manifest.model["vocab_size"]), context, script)
    return Session(engine, tokenizer, ChatTemplate.open(folder, tokenizer), manifest), engine
