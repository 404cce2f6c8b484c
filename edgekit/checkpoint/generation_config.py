"""Reads how a model's authors want its tokens chosen: ``generation_config.json``, or the same keys of ``config.json``.

Keys: https://huggingface.co/docs/transformers/main_classes/text_generation, ``GenerationConfig``. Old folders have no
``generation_config.json``; then transformers reads these keys from ``config.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..sampling import SamplingOverrides

FILE_NAME = "generation_config.json"
SAMPLING_KEYS = tuple(field.name for field in fields(SamplingOverrides))
# Keys that change which tokens are generated, and the values with which they change nothing. The others either change
# beam search alone, as length_penalty does, which num_beams turns on; or only how fast the same tokens come, as
# prompt_lookup_num_tokens does; or limit length and time, which is left to the caller.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "bad_words_ids": (None, []),
    "begin_suppress_tokens": (None, []),
    "constraints": (None, []),
    "diversity_penalty": (None, 0, 0.0),
    "dola_layers": (None, []),
    "encoder_no_repeat_ngram_size": (None, 0),
    "encoder_repetition_penalty": (None, 1, 1.0),
    "epsilon_cutoff": (None, 0, 0.0),
    "eta_cutoff": (None, 0, 0.0),
    "exponential_decay_length_penalty": (None, []),
    "force_words_ids": (None, []),
    "forced_bos_token_id": (None,),
    "forced_decoder_ids": (None, []),
    "forced_eos_token_id": (None,),
    "frequency_penalty": (None, 0, 0.0),
    "guidance_scale": (None, 1, 1.0),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "no_repeat_ngram_size": (None, 0),
    "num_beam_groups": (None, 1),
    "num_beams": (None, 1),
    "penalty_alpha": (None, 0, 0.0),
    "presence_penalty": (None, 0, 0.0),
    "sequence_bias": (None, [], {}),
    "suppress_tokens": (None, []),
    "token_healing": (None, False),
    "top_h": (None, 1, 1.0),
    "typical_p": (None, 1, 1.0),
    "watermarking_config": (None, {}),
}
GENERATION_KEYS = (*SAMPLING_KEYS, *_UNSUPPORTED, "do_sample", "max_length", "max_new_tokens")


@dataclass(frozen=True)
class GenerationDefaults:
    """What a source says about generation.

    Args:
        sampling: Its sampling settings; None where it says nothing.
        stop_texts: Texts that end an answer.
        notes: Settings that are not valid or not supported, one sentence each.
    """

    sampling: SamplingOverrides = field(default_factory=SamplingOverrides)
    stop_texts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


NO_DEFAULTS = GenerationDefaults()


def generation_defaults(content: Mapping[str, Any], what: str) -> GenerationDefaults:
    """Translate the keys of ``generation_config.json``.

    ``do_sample: false`` is greedy. If it is missing, a temperature or another setting means that the authors sample,
    although transformers would not.

    Args:
        content: The file's keys and values.
        what: The file, for notes.
    """
    notes = []
    values: dict[str, Any] = {}
    for name in SAMPLING_KEYS:
        value = content.get(name)
        if name == "top_k" and value == -1:  # as vLLM says "off"
            value = 0
        if value is None:
            continue
        try:
            SamplingOverrides(**{name: value})
        except ValueError as error:
            notes.append(f"{what}: {error}; it is ignored")
            continue
        values[name] = value
    if content.get("do_sample") is False:
        values = {key: value for key, value in values.items() if key == "repetition_penalty"} | {"temperature": 0.0}
    ignored = [key for key, neutral in _UNSUPPORTED.items() if content.get(key) not in neutral]
    if ignored:
        notes.append(f"{what} sets {', '.join(ignored)}, which edgekit does not support")
    stops = content.get("stop_strings") or ()
    texts = tuple(dict.fromkeys([stops] if isinstance(stops, str) else [t for t in stops if isinstance(t, str) and t]))
    return GenerationDefaults(SamplingOverrides(**values), texts, tuple(notes))
