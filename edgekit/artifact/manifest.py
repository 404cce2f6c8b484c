"""``edgekit.json``: what an artifact is, where it comes from, and how to tell that it is whole. Standard library only.

The file is one JSON object:

    format, format_version   "edgekit-artifact", 1
    edgekit_version, created the builder's version; the build's time (UTC), the one field two equal builds differ in
    name                     the recipe's name
    model                    model_type, parameters, vocab_size, num_layers, context_length (positions the graph holds)
    source                   kind, where from, revision, sha256 of each file read; of a GPTQ checkpoint also
                             format ("gptq") and quantize_config as it was
    recipe, device, plan     the inputs of the build and what the planner said
    quantization             method: rtn, gptq, or imported when codes were taken over from a GPTQ checkpoint; linear,
                             embedding, lm_head as {bits, block_size, symmetric} or null (float); matrices: those inside
                             the layers whose format is another than linear; rotate: whether weights and hidden states
                             are in another basis than the checkpoint's (``weights/rotated.py``); scale: whether input
                             features were scaled (``weights/scaled.py``), scaling then: tokens, tokens_sha256 (of the
                             ids they were measured on); calibration (gptq): source ("own answers" or "file"), texts,
                             tokens, tokens_sha256 (of the ids), inputs ("quantized" or "float": what the layers before
                             a linear were); widths (where they were chosen): mean_bits asked for, tokens, losses
                             {matrix: KL of it alone in 4 bits, nats per token; null: infinite}
    activation_type          "float32" or "float16": the graph's float type and that of its KV cache
    reasoning                the model thinks between <think> and </think> before it answers
    sampling                 temperature, top_p, top_k, min_p, repetition_penalty: the defaults of ``run``
    tokens                   bos (id or null), eos (ids), pad, add_bos (encoding raw text puts bos first)
    bits_per_weight          mean over all tensors of the model
    quality                  against the float model on the held-out texts, or null where it was not measured: mean_kl,
                             p99_kl (nats per token), top1, perplexity, reference_perplexity, perplexity_ratio, tokens
                             (scored), texts_sha256; losses {part: relative error its quantization alone makes};
                             answers [{question, text, tokens, finish_reason, loop_tokens, thought_closed}]; checks
                             [{name, passed (null: not checked), value, limit, detail}]; passed. A figure that is no
                             finite number is null
    golden                   prompt_ids, continuation_ids (greedy), top_logits [{id, logit}] of the first new token
    files                    {name: {sha256, size_bytes}} for every file but this one
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import ArtifactError

FILE_NAME = "edgekit.json"
FORMAT = "edgekit-artifact"
FORMAT_VERSION = 1
_MAX_BYTES = 16 * 1024 * 1024  # a manifest is some kilobytes; more is not one


@dataclass(frozen=True)
class Manifest:
    """The content of ``edgekit.json``; the fields are described at the top of this module."""

    name: str
    edgekit_version: str
    created: str
    model: dict[str, Any]
    source: dict[str, Any]
    recipe: dict[str, Any]
    device: dict[str, Any]
    plan: dict[str, Any]
    quantization: dict[str, Any]
    activation_type: str
    reasoning: bool
    sampling: dict[str, Any]
    tokens: dict[str, Any]
    bits_per_weight: float
    quality: dict[str, Any] | None
    golden: dict[str, Any] | None
    files: dict[str, dict[str, Any]]
    format: str = FORMAT
    format_version: int = FORMAT_VERSION

    def write(self, folder: Path) -> None:
        """Write ``edgekit.json`` into ``folder``."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False, sort_keys=True)
        (folder / FILE_NAME).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read ``edgekit.json`` of an artifact.

    Args:
        folder: The artifact.

    Raises:
        ArtifactError: No such folder or file, not JSON, another format, or a field is missing or unknown.
    """
    path = folder / FILE_NAME
    if not folder.is_dir():
        raise ArtifactError(f"there is no folder {folder}", hint="edgekit build MODEL --device NAME makes one")
    if not path.is_file():
        raise ArtifactError(f"{folder} is no edgekit artifact: it has no {FILE_NAME}")
    if path.stat().st_size > _MAX_BYTES:
        raise ArtifactError(f"{path} is {path.stat().st_size} bytes; a manifest is at most {_MAX_BYTES}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ArtifactError(f'{path} does not say "format": "{FORMAT}"')
    if content.get("format_version") != FORMAT_VERSION:
        raise ArtifactError(
            f"{path} has format_version {content.get('format_version')!r}; this edgekit reads {FORMAT_VERSION}",
            hint="build the artifact again with this version, or install the version that built it",
        )
    try:
        return Manifest(**content)
    except TypeError as error:
        raise ArtifactError(f"{path}: {str(error).removeprefix('Manifest.__init__() ')}") from None
