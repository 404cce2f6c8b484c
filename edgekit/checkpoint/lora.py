"""A LoRA adapter in PEFT's format: ``adapter_config.json`` and ``adapter_model.safetensors``, read a tensor at a time.

For a linear with K inputs and N outputs, and an adapter of rank r:

    base_model.model.MODULE.lora_A.weight            (r, K)
    base_model.model.MODULE.lora_B.weight            (N, r)
    base_model.model.MODULE.lora_magnitude_vector    (N)          only DoRA
    base_model.model.MODULE.lora_embedding_A         (r, V)       an embedding with V rows
    base_model.model.MODULE.lora_embedding_B         (H, r)
    base_model.model.MODULE.weight, MODULE.bias      the whole tensor: modules_to_save, or a bias that was trained

    W' = W + scale B A                               W' = W + scale (B A)^T for an embedding
    W' = m (W + scale B A) / |W + scale B A|         row by row, with the magnitudes m of DoRA
    scale = alpha / r, or alpha / sqrt(r) with use_rslora

Names may hold the adapter's name (``lora_A.default.weight``) and ``base_layer``. ``fan_in_fan_out`` describes how
layers of another kind store W; linears store it as (N, K), so it has no effect here, as in PEFT.

W is the base model's weight only if the adapter's initialization left it alone. PiSSA, OLoRA, CorDA, LoRA-GA and LoftQ
begin with a product B A that is not zero, and PEFT changes W by it whenever it loads such an adapter
(``init_lora_weights``). edgekit does not repeat these initializations and refuses the adapters.

Source: PEFT (https://github.com/huggingface/peft), ``tuners/lora/layer.py``, ``update_layer``, ``get_delta_weight``
and ``merge``, ``tuners/lora/dora.py``, ``tuners/lora/config.py``; rsLoRA https://arxiv.org/abs/2312.03732; DoRA
https://arxiv.org/abs/2402.09353; PiSSA https://arxiv.org/abs/2404.02948.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError, CorruptFileError, TensorMismatchError, UnsupportedModelError
from ..hashing import sha256_file
from ..json_file import read_bounded, read_json_object
from ..schema.adapter import ADAPTER
from ..schema.fields import check_table, shown
from .base import TensorInfo
from .damaged import refuse_link
from .files import WeightFile
from .huggingface import read_float
from .module_pattern import check_patterns, matches_start
from .safetensors import read_header

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_PART = re.compile(
    r"(?P<module>.+?)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)"
    r"(?:\.(?!weight$|bias$)[^.]+)?(?P<kind>\.weight|\.bias)?"
)
_WHOLE = re.compile(r"(?P<module>.+?)(?:\.base_layer|\.modules_to_save(?:\.(?!weight$|bias$)[^.]+)?)?\.(weight|bias)")
# Options that change the function in another way. The value is the one that changes nothing.
_WITHOUT_EFFECT: dict[str, Any] = {
    "layer_replication": None, "alora_invocation_tokens": None, "trainable_token_indices": None,
    "target_parameters": None, "use_qalora": False, "arrow_config": None, "use_bdlora": None, "lora_bias": False,
}  # fmt: skip
# PEFT switches a variant of LoRA on with a key of its own, use_... or ..._config. Those that leave the merged weights
# as they are, or that are read; another one, which PEFT may add any day, is refused if it is set.
_UNRELATED = ("quantization_config", "bnb_config", "use_gradient_checkpointing", "use_cache")  # of other programs
_VARIANT = re.compile(r"use_.+|.+_config")
_KNOWN = {
    "use_rslora", "use_dora", "eva_config", "loftq_config", "corda_config", "lora_ga_config", "megatron_config",
    "runtime_config", "velora_config", *_UNRELATED, *_WITHOUT_EFFECT,
}  # fmt: skip
# Initializations (init_lora_weights), in lower case: the base model stays as it is, or its weights are changed.
_BASE_KEPT = ("gaussian", "eva", "orthogonal", "mica")
_BASE_CHANGED = re.compile(r"(pissa|corda)(_.*)?|olora|lora_ga|loftq")
_MERGE = "merge it with PEFT: model.merge_and_unload(), then model.save_pretrained(FOLDER)"
_DEFAULTS: dict[str, Any] = {
    "lora_alpha": 8, "use_rslora": False, "use_dora": False, "rank_pattern": {}, "alpha_pattern": {},
}  # fmt: skip


@dataclass(frozen=True)
class LowRank:
    """The low-rank change of one weight.

    Args:
        a, b: The factors.
        scale: Factor of their product.
        embedding: Whether the product is transposed.
        magnitude: The lengths of the new weight's rows; None without DoRA.
    """

    a: TensorInfo
    b: TensorInfo
    scale: float
    embedding: bool = False
    magnitude: TensorInfo | None = None

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the weight that it fits."""
        return (self.a.shape[1], self.b.shape[0]) if self.embedding else (self.b.shape[0], self.a.shape[1])


class LoraAdapter:
    """An open adapter. Only its header is read.

    Args:
        folder: Holds ``adapter_config.json`` and ``adapter_model.safetensors``.
        name: What the user called it; None for the folder.

    Raises:
        CheckpointError: A file is missing or cannot be read.
        UnsupportedModelError: It is an adapter of another kind, or has options that edgekit does not support.
        TensorMismatchError: The configuration and the tensors contradict each other.

    Attributes:
        low_rank: The changed weights by their names in the model, such as ``model.layers.0.self_attn.q_proj.weight``.
        replaced: Tensors that replace the model's.
        base: The model that it was trained on, as its configuration says; empty if it does not.
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
        self.folder, self.name = folder, name or str(folder)
        for each in (CONFIG_FILE, WEIGHTS_FILE, "chat_template.jinja", "tokenizer_config.json"):
            refuse_link(folder / each, folder)
        self.config = _read_config(folder)
        self.base: str = self.config.get("base_model_name_or_path", "")
        path = folder / WEIGHTS_FILE
        if not path.is_file():
            raise _without_weights(folder)
        self._file = WeightFile(path)
        try:
            tensors = read_header(self._file)
            self.low_rank, self.replaced = _sorted_tensors(tensors, self.config, str(folder))
        except BaseException:
            self.close()
            raise

    @property
    def chat_template(self) -> str | None:
        """The chat template in the adapter's folder; None if there is none."""
        path, settings = self.folder / "chat_template.jinja", self.folder / "tokenizer_config.json"
        if path.is_file():
            return read_bounded(path).decode("utf-8", "replace")
        template = read_json_object(settings).get("chat_template") if settings.is_file() else None
        return template if isinstance(template, str) else None

    def rows(self, info: TensorInfo, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Read rows of one of the adapter's tensors, by default all."""
        return read_float(self._file, info, start, info.shape[0] if stop is None else stop).astype(np.float32)

    @property
    def path(self) -> Path:
        """The file of the weights."""
        return self._file.path

    def described(self) -> dict[str, Any]:
        """The adapter as the manifest records it."""
        ranks = sorted({pair.rank for pair in self.low_rank.values()})
        return {
            "path": self.name,
            "sha256": sha256_file(self.path),
            "base_model": self.base or None,
            "r": ranks[0] if len(ranks) == 1 else ranks,
            "alpha": self.config["lora_alpha"],
            "use_rslora": self.config["use_rslora"],
            "use_dora": self.config["use_dora"],
            "alpha_pattern": self.config["alpha_pattern"],
            "weights": len(self.low_rank),
            "replaced": sorted(self.replaced),
        }

    def close(self) -> None:
        self._file.close()


def _read_config(folder: Path) -> dict[str, Any]:
    """Read ``adapter_config.json`` and check the options that edgekit does not support."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        known = folder / "config.json"
        hint = "it holds a model: --lora takes an adapter, and MODEL the model" if known.is_file() else ""
        raise CheckpointError(f"{folder} is not a LoRA adapter: it has no {CONFIG_FILE}", hint=hint)
    config = read_json_object(path)
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise UnsupportedModelError(
            f"{path}: peft_type is {kind!r}; supported: 'LORA'",
            hint=f"{_MERGE}; an adapter that adds prompts or scales activations has no merged form",
        )
    for key, nothing in _WITHOUT_EFFECT.items():
        if config.get(key, nothing) not in (nothing, None, False, [], {}):
            raise UnsupportedModelError(f"{path}: {key} is {config[key]!r}; edgekit does not support this option")
    for key, value in config.items():
        if key not in _KNOWN and _VARIANT.fullmatch(key) and value not in (None, False, [], {}):
            raise UnsupportedModelError(
                f"{path}: {key} is {shown(value)}; edgekit does not know this variant of LoRA", hint=_MERGE
            )
    check_table(config, ADAPTER, str(path), CorruptFileError)
    _check_initialization(config.get("init_lora_weights"), path)
    config = _DEFAULTS | {key: value for key, value in config.items() if value is not None}
    for key in ("rank_pattern", "alpha_pattern"):
        check_patterns(config[key], f"{path}: {key}")
    return config


def _check_initialization(found: bool | str | None, path: Path) -> None:
    """Refuse an adapter that belongs to other base weights than the base model's."""
    if not isinstance(found, str) or found.lower() in _BASE_KEPT:
        return
    if _BASE_CHANGED.fullmatch(found.lower()):
        raise UnsupportedModelError(
            f"{path}: init_lora_weights is {shown(found)}; with this initialization, PEFT changes the base model's "
            "weights when it loads the adapter, and edgekit does not repeat that",
            hint="save the adapter for the unchanged base model: save_pretrained(FOLDER, "
            f"path_initial_model_for_weight_conversion=...), where PEFT offers it; or {_MERGE}",
        )
    raise UnsupportedModelError(
        f"{path}: init_lora_weights is {shown(found)}; supported: true, false, {', '.join(map(repr, _BASE_KEPT))}. "
        "Another initialization may have changed the base model's weights",
        hint=_MERGE,
    )


def _without_weights(folder: Path) -> CheckpointError:
    parts = sorted(folder.glob("adapter_model*.safetensors*"))
    pickled = next((p for p in sorted(folder.glob("adapter_model.*")) if p not in parts), None)
    if parts:
        return CheckpointError(
            f"{folder} has {', '.join(part.name for part in parts[:3])} but no {WEIGHTS_FILE}; edgekit reads adapters "
            "of one file",
            hint="save it with PEFT: PeftModel.from_pretrained(model, FOLDER).save_pretrained(NEW_FOLDER)",
        )
    if pickled is None:
        return CheckpointError(f"{folder} has {CONFIG_FILE} but no {WEIGHTS_FILE}")
    return CheckpointError(
        f"{folder} has {pickled.name} but no {WEIGHTS_FILE}; edgekit reads no pickled weights, because loading them "
        "runs code",
        hint="save it as safetensors with PEFT: PeftModel.from_pretrained(model, FOLDER).save_pretrained(NEW_FOLDER)",
    )


def _two_adapters(where: str, *tensors: TensorInfo) -> TensorMismatchError:
    names = " and ".join(info.name for info in tensors)
    return TensorMismatchError(
        f"{where} holds {names}, which are of two adapters", hint="save each adapter into a folder of its own"
    )


def _sorted_tensors(
    tensors: Mapping[str, TensorInfo], config: Mapping[str, Any], where: str
) -> tuple[dict[str, LowRank], dict[str, TensorInfo]]:
    """Sort the tensors into low-rank changes and whole tensors."""
    parts: dict[str, dict[str, TensorInfo]] = {}
    whole: dict[str, TensorInfo] = {}
    for name, info in tensors.items():
        inside = name.removeprefix(_PREFIX)
        found = _PART.fullmatch(inside)
        if found is not None and found["kind"] != ".bias":
            module = parts.setdefault(found["module"].removesuffix(".base_layer"), {})
            if module.setdefault(found["part"], info) is not info:
                raise _two_adapters(where, module[found["part"]], info)
        elif found is None and (match := _WHOLE.fullmatch(inside)) and ".lora_" not in inside:
            if re.search(r"\.(hada_|lokr_|ia3_|oft_|token_adapter|trainable_tokens)", f".{inside}"):
                raise _unknown_tensor(where, name)
            if not match["module"].endswith(".original_module"):  # older versions also save what was replaced
                plain = f"{match['module']}.{match[2]}"
                chosen = tensors.get(f"{_PREFIX}{plain}", info)
                if whole.setdefault(plain, chosen) is not chosen:
                    raise _two_adapters(where, whole[plain], chosen)
        else:
            raise _unknown_tensor(where, name)
    if not parts and not whole:
        raise CheckpointError(f"{where} holds no tensors")
    return {f"{module}.weight": _low_rank(module, found, config, where) for module, found in parts.items()}, whole


def _unknown_tensor(where: str, name: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{where} holds {name}, which is not part of a LoRA adapter that edgekit can merge: supported are lora_A and "
        "lora_B, their embedding forms, lora_magnitude_vector, and whole tensors",
        hint=_MERGE,
    )


def _low_rank(module: str, parts: Mapping[str, TensorInfo], config: Mapping[str, Any], where: str) -> LowRank:
    """Check the tensors of one module and compute its scale."""
    embedding = "lora_embedding_A" in parts or "lora_embedding_B" in parts
    names = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A", "lora_B")
    missing = [name for name in names if name not in parts]
    if missing or (embedding and len(parts) > 2):
        found = ", ".join(sorted(parts))
        raise TensorMismatchError(f"{where}: {module} has {found}; expected {names[0]} and {names[1]}")
    a, b = (parts[name] for name in names)
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1] or a.shape[0] < 1:
        raise TensorMismatchError(
            f"{where}: {a.name} has shape {list(a.shape)} and {b.name} {list(b.shape)}; expected (r, in) and (out, r)"
        )
    rank = _by_pattern(module, config["rank_pattern"], config.get("r"))
    if rank is not None and rank != a.shape[0]:
        raise TensorMismatchError(
            f"{where}: {CONFIG_FILE} gives {module} the rank {rank}, but its tensors have {a.shape[0]}"
        )
    alpha = _by_pattern(module, config["alpha_pattern"], config["lora_alpha"])
    magnitude = parts.get("lora_magnitude_vector")
    if (magnitude is not None) != config["use_dora"]:
        raise TensorMismatchError(
            f"{where}: {CONFIG_FILE} says use_dora = {str(config['use_dora']).lower()}, but {module} has "
            f"{'a' if magnitude is not None else 'no'} lora_magnitude_vector"
        )
    if magnitude is not None and math.prod(magnitude.shape) != b.shape[0]:
        raise TensorMismatchError(
            f"{where}: {magnitude.name} has shape {list(magnitude.shape)}; {module} has {b.shape[0]} outputs"
        )
    scale = float(alpha) / (math.sqrt(a.shape[0]) if config["use_rslora"] else a.shape[0])
    return LowRank(a, b, scale, embedding, magnitude)


def _by_pattern(module: str, pattern: Mapping[str, float], default: Any) -> Any:
    """A module's value: of the first pattern that matches the end of its name (PEFT's ``get_pattern_key``)."""
    return next((value for key, value in pattern.items() if matches_start(rf"(.*\.)?({key})$", module)), default)
