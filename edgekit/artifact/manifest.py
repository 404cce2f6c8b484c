"""``edgekit.json``, the manifest: what an artifact is, how it was built, and the hash of each of its files.

This module needs only the standard library. The file is one JSON object:

    format, format_version   "edgekit-artifact", 2
    digest                   the artifact's digest (``digest.py``); null in format version 1
    edgekit_version          version of the edgekit that built the artifact
    created                  time of the build (UTC); two builds from the same inputs differ only in this field and the
                             digest
    name                     the recipe's name
    model                    model_type, parameters, vocab_size, num_layers, context_length (positions in the graph)
                             rope               type, theta, attention_factor (of cos and sin); if scaled, factor and
                                                original_context; with attn_factor, a key that transformers ignores,
                                                also transformers_attention_factor and a note
    source                   kind, origin, revision, sha256 of each file that was read; for a quantized checkpoint
                             also format ("gptq", "awq" or "fp8") and quantize_config (unchanged); adapters [{path,
                             sha256, base_model, r, alpha, use_rslora, use_dora, alpha_pattern, weights, replaced}] if
                             some were merged, in order; their files have the names adapters/0/NAME, adapters/1/NAME
    recipe, device, plan     the inputs of the build, and the planner's results
    quantization             method             rtn, gptq, or imported (codes copied from a GPTQ or AWQ checkpoint)
                             linear, embedding, lm_head
                                                {bits, block_size, symmetric}, or null for float
                             matrices           matrices inside the layers with another format than linear
                             rotate             whether weights and hidden states are in a rotated basis
                                                (``weights/rotated.py``)
                             scale              whether input features were scaled (``weights/scaled.py``)
                             scaling            if scale: tokens, tokens_sha256 (of the ids it was measured on)
                             activation_scale   if activations would overflow float16: residual, values, up (factors by
                                                which they are smaller, ``weights/shrunk.py``), tokens, tokens_sha256
                             calibration        if gptq: source ("own answers" or "file"), texts, tokens,
                                                tokens_sha256 (of the ids), inputs ("quantized" or "float": the state of
                                                the layers before a linear)
                             widths             if the widths were chosen: mean_bits (as requested), tokens, losses
                                                {matrix: KL divergence in nats per token with only this matrix in 4
                                                bits; null means infinite}
    activation_type          "float32" or "float16": float type of the graph and its KV cache
    reasoning                whether the model thinks between <think> and </think> before it answers
    reasoning_signs          why that is assumed, one sentence each
    sampling                 temperature, top_p, top_k, min_p, repetition_penalty: the defaults of ``edgekit run``
    tokens                   bos (id or null), eos (ids), pad, add_bos (whether encoding raw text puts bos first)
    stop_texts               texts that end an answer and are not part of it
    bits_per_weight          mean over all tensors of the model
    quality                  comparison with the float model on held-out texts, or null if it was not measured:
                             mean_kl, p99_kl (nats per token), top1, perplexity, reference_perplexity,
                             perplexity_ratio, tokens (scored), texts_sha256
                             losses             {part: relative error caused by quantizing only this part}
                             answers            [{question, text, tokens, finish_reason, loop_tokens, thought_closed,
                                                room (tokens that it could have had)}]
                             checks             [{name, passed (null if not checked), value, limit, detail}]
                             passed             whether all checks passed
                             Values that are not finite are null.
    notes                    decisions that the build made about its source, one sentence each
    golden                   prompt_ids, continuation_ids (greedy), top_logits [{id, logit}] of the first new token
    files                    {name: {sha256, size_bytes}} for every file except this one
"""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..durable import write_file
from ..errors import ArtifactError, BuildError, nearest
from ..json_file import parse_json_object, read_json_object
from ..json_text import json_text
from ..leftovers import find_replaced
from ..schema.manifest import check_manifest
from .digest import FIRST_VERSION, ZEROS, is_digest, with_digest

FILE_NAME = "edgekit.json"
FORMAT = "edgekit-artifact"
# It grows with every change that an earlier edgekit would not understand, and that includes a new field. All versions
# up to this one are read: a field that an earlier version lacks has a default. tests/artifact/versions holds an
# artifact of each version of edgekit.
FORMAT_VERSION = 2  # version 1 has no digest
_MAX_BYTES = 16 * 1024 * 1024  # a manifest has some kilobytes


@dataclass(frozen=True, kw_only=True)
class RuntimeFacts:
    """The part of a manifest that engines and sessions need, known before the artifact is finished.

    The fields are described at the top of this module. ``plan`` needs ``context``, ``engine`` and
    ``kv_type`` only.
    """

    name: str
    model: dict[str, Any]
    plan: dict[str, Any]
    quantization: dict[str, Any]
    activation_type: str
    reasoning: bool
    reasoning_signs: list[str] = field(default_factory=list)
    sampling: dict[str, Any]
    tokens: dict[str, Any]
    stop_texts: list[str] = field(default_factory=list)

    def facts_json(self) -> dict[str, Any]:
        """These fields alone, as JSON can hold them; ``RuntimeFacts(**json)`` reads them back."""
        return {field.name: getattr(self, field.name) for field in fields(RuntimeFacts)}

    @property
    def quantized(self) -> bool:
        """Whether the layers, the embedding and the lm_head are all quantized."""
        return all(self.quantization.get(part) for part in ("linear", "embedding", "lm_head"))


@dataclass(frozen=True, kw_only=True)
class Manifest(RuntimeFacts):
    """The content of ``edgekit.json``; the fields are described at the top of this module."""

    edgekit_version: str
    created: str
    source: dict[str, Any]
    recipe: dict[str, Any]
    device: dict[str, Any]
    bits_per_weight: float
    quality: dict[str, Any] | None
    golden: dict[str, Any] | None
    files: dict[str, dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    format: str = FORMAT
    format_version: int = FORMAT_VERSION
    digest: str | None = None

    def write(self, folder: Path) -> Manifest:
        """Write ``edgekit.json`` into ``folder``, in this edgekit's format version.

        Returns:
            The manifest with its digest, which is computed anew.

        Raises:
            BuildError: A number is NaN or infinite, or :func:`read_manifest` would refuse the file.
        """
        fields = asdict(self) | {"format_version": FORMAT_VERSION, "digest": ZEROS}
        try:
            text, digest = with_digest(json_text(fields, indent=2, sort_keys=True) + "\n")
        except ValueError as error:
            raise BuildError(f"{FILE_NAME} cannot be written as JSON: {error}") from None
        if len(text.encode()) > _MAX_BYTES:
            raise BuildError(f"{FILE_NAME} would be larger than {_MAX_BYTES} bytes")
        check_manifest(parse_json_object(text.encode(), FILE_NAME, BuildError), FILE_NAME, BuildError)
        write_file(folder / FILE_NAME, text.encode())
        return replace(self, format_version=FORMAT_VERSION, digest=digest)


def read_manifest(folder: Path) -> Manifest:
    """Read an artifact's ``edgekit.json``.

    Args:
        folder: The artifact.

    Raises:
        ArtifactError: The folder or file does not exist, the file is not JSON or has another format, or a field is
            missing, unknown, of the wrong type or out of range.
    """
    path = folder / FILE_NAME
    is_folder, has_manifest = _looked_at(folder)
    if not is_folder and (replaced := find_replaced(folder)) is not None:
        raise ArtifactError(
            f"{folder} was being replaced when a build with --force was killed",
            hint=f"the artifact is in {replaced}; the next build in {folder.parent} gives it its name back, as does mv",
        )
    if not is_folder:
        raise ArtifactError(f"{folder} is not a folder", hint="edgekit build MODEL --device NAME builds an artifact")
    if not has_manifest:
        raise ArtifactError(f"{folder} is not an edgekit artifact: it has no {FILE_NAME}")
    content = read_json_object(path, _MAX_BYTES, ArtifactError)
    if content.get("format") != FORMAT:
        raise ArtifactError(f'{path} is not a manifest: it lacks "format": "{FORMAT}"')
    version = content.get("format_version")
    if type(version) is not int or version < 1:
        raise ArtifactError(f"{path}: format_version is {json_text(version)[:40]}, not a whole number from 1 on")
    if version > FORMAT_VERSION:
        builder = content.get("edgekit_version", "(unknown)")
        raise ArtifactError(
            f"{path} has format_version {version} and was built by edgekit {builder}; this "
            f"edgekit reads format versions up to {FORMAT_VERSION}",
            hint="install that edgekit or a later one, or build the artifact again with this one",
        )
    known = {field.name: field for field in fields(Manifest)}
    if unknown := sorted(content.keys() - known.keys()):
        raise ArtifactError(f"{path} has an unknown field {unknown[0]!r}; {nearest(unknown[0], known)}")
    required = {name for name, field in known.items() if field.default is field.default_factory is MISSING}
    if missing := sorted(required - content.keys()):
        raise ArtifactError(f"{path} lacks the field {', '.join(missing)}")
    check_manifest(content, str(path))
    if version >= FIRST_VERSION and not is_digest(content.get("digest")):
        raise ArtifactError(f"{path}: digest must be 64 hexadecimal digits in lower case")
    return Manifest(**content)


def _looked_at(folder: Path) -> tuple[bool, bool]:
    """Whether there is such a folder, and whether it has a manifest.

    Raises:
        ArtifactError: The system does not say.
    """
    try:
        return folder.is_dir(), (folder / FILE_NAME).is_file()
    except OSError as error:
        raise ArtifactError(f"{folder} cannot be opened: {error.strerror}") from None
