"""The result of a proof, and the file it is kept in, in ``proofs/`` of the cache folder.

There is one file for each GPU, driver, version of the engine and artifact.
"""

from __future__ import annotations

import hashlib
import json
import math
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...artifact.manifest import FILE_NAME
from ...durable import write_file
from ...errors import ArtifactError, EdgekitError
from ...hashing import sha256_file
from ...host import cache_folder
from ...json_file import read_json_object
from ...json_text import json_text
from ...schema.fields import Table, check_table
from ...schema.verdict import VERDICT
from ..provider import Setup

VERSION = 2  # increases when the proof asks for more
_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Subject:
    """What a proof holds for.

    Attributes:
        engine: The engine's name.
        adapter: The GPU.
        driver: Its driver's version.
        versions: Of onnxruntime and its plugin.
        artifact: sha256 of the artifact's manifest, which has those of all files.
        version: Of the proof.
    """

    engine: str
    adapter: str
    driver: str
    versions: str
    artifact: str
    version: int = VERSION

    def path(self) -> Path:
        """The file of the verdict."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return cache_folder() / "proofs" / f"{self.engine}-{digest[:16]}.json"


@dataclass(frozen=True)
class Verdict:
    """The result of a proof.

    Attributes:
        subject: What it holds for.
        name: The artifact's name.
        passed: Whether the engine may answer, with this setup.
        setup: The largest setup that is right.
        detail: What was compared, or what is wrong; one line.
        wrong: The kernels that are wrong, and from how many rows on.
        kernels: How many kernels were compared, and at how many sizes.
        kernel_error: The largest relative error of those that are right.
        logits_error: That of the logits; None if they were not computed.
        mean_kl: Mean KL divergence of the predictions from the processor's, in nats.
        seconds: How long it took.
        sample_ids: The first tokens of the golden prompt.
        sample_logits: The largest logits after them, {"id", "logit"}, as the processor computes them. An engine that
            was opened with a long context has to agree, because WebGPU reports no error when a buffer does not fit.
    """

    subject: Subject
    name: str
    passed: bool
    setup: Setup
    detail: str
    wrong: tuple[str, ...]
    kernels: int
    sizes: int
    kernel_error: float
    logits_error: float | None
    mean_kl: float | None
    seconds: float
    sample_ids: tuple[int, ...] = ()
    sample_logits: tuple[dict[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For JSON; what is not finite is null."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }

    def keep(self) -> None:
        """Write the file. Where that is not allowed, the next process proves again, and says so."""
        path = self.subject.path()
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, (json_text(self.to_json(), indent=2) + "\n").encode())


def find_verdict(subject: Subject) -> Verdict | None:
    """The verdict that was kept; None if there is none, or it cannot be read."""
    return _read(subject.path())


def kept_verdicts() -> list[Verdict]:
    """All verdicts that were kept on this machine."""
    found = map(_read, sorted((cache_folder() / "proofs").glob("*.json")))
    return [verdict for verdict in found if verdict is not None]


def artifact_id(folder: Path) -> str:
    """What tells an artifact from others: sha256 of its manifest, or of its graph if it has none yet."""
    manifest = folder / FILE_NAME
    return sha256_file(manifest if manifest.exists() else folder / "model.onnx")


def _read(path: Path) -> Verdict | None:
    try:
        found = read_json_object(path, limit=_MAX_BYTES)
        check_table(found, Table(VERDICT), str(path), ArtifactError)
        setup = found.pop("setup")
        return Verdict(
            subject=Subject(**found.pop("subject")),
            setup=Setup(setup["prefill_chunk"], tuple(setup["cpu_nodes"]), setup["cache_on_processor"]),
            wrong=tuple(found.pop("wrong")),
            sample_ids=tuple(found.pop("sample_ids")),
            sample_logits=tuple(found.pop("sample_logits")),
            kernel_error=_number(found.pop("kernel_error")),
            **found,
        )
    except (OSError, EdgekitError, KeyError, TypeError, AttributeError):
        return None


def _number(value: float | None) -> float:
    return math.inf if value is None else value
