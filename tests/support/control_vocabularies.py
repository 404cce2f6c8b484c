"""Byte-level vocabularies with the control tokens of public models, by their facts.

Llama-3 has 256 tokens between ``<|`` and ``|>``. DeepSeek-R1's turn markers and both models' tool tags are added tokens
that are not special.
"""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from edgekit.runtime.tokenizer import Tokenizer as EdgekitTokenizer

SMOLLM2 = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>", "<filename>",
    "<gh_stars>",
    "<issue_start>", "<issue_comment>", "<issue_closed>", "<jupyter_start>", "<jupyter_text>", "<jupyter_code>",
    "<jupyter_output>", "<jupyter_script>", "<empty_output>",
)  # fmt: skip
R1_SPECIAL = ("<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
              "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")  # fmt: skip
R1_ADDED = ("<｜User｜>", "<｜Assistant｜>", "<|EOT|>", "<think>", "</think>", "<tool_call>", "</tool_call>",
            "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>",
            "<|file_sep|>")  # fmt: skip
_NAMED = {0: "begin_of_text", 1: "end_of_text", 4: "finetune_right_pad_id", 6: "start_header_id", 7: "end_header_id",
          8: "eom_id", 9: "eot_id", 10: "python_tag"}  # fmt: skip
_RESERVED = [n for n in range(256) if n not in _NAMED]
LLAMA3 = tuple(
    f"<|{_NAMED[n]}|>" if n in _NAMED else f"<|reserved_special_token_{_RESERVED.index(n)}|>" for n in range(256)
)
MERGES = ["< |", "| >", "i m", "e n", "en d", "Ġ t", "Ġt h", "Ġth e", "u s", "us er", "e r", "Ċ Ċ", "h e", "l l", "< t"]


def byte_level(
    special: tuple[str, ...], added: tuple[str, ...] = (), *, normalized: bool = False, strip: bool = False
) -> Tokenizer:
    """A byte-level BPE tokenizer with a few merges.

    Args:
        special: Special tokens.
        added: Added tokens that are not special.
        normalized: Whether these are looked for in normalized text (NFC), as DeepSeek's are.
        strip: Whether they take in the white space behind them, as Phi-3's do.
    """
    vocabulary = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES)]
    ids = {token: i for i, token in enumerate(dict.fromkeys(vocabulary))}
    merges = [tuple(merge.split()) for merge in MERGES]
    merges = [(a, b) for a, b in merges if a in ids and b in ids]
    found = Tokenizer(models.BPE(vocab=ids, merges=merges))
    found.normalizer = normalizers.NFC()
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    found.add_special_tokens([AddedToken(t, normalized=normalized, rstrip=strip) for t in special])
    found.add_tokens([AddedToken(t, normalized=normalized, rstrip=strip) for t in added])
    return found


VOCABULARIES = {
    "SmolLM2": byte_level(SMOLLM2),
    "R1-Qwen": byte_level(R1_SPECIAL, R1_ADDED, normalized=True),
    "Llama-3": byte_level(LLAMA3),
    "Phi-3": byte_level(("<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"), strip=True),
}


def opened(name: str, bos: str | None = None) -> EdgekitTokenizer:
    """One of the vocabularies as edgekit opens it."""
    backend = VOCABULARIES[name]
    return EdgekitTokenizer(backend, bos=None if bos is None else backend.token_to_id(bos), add_bos=False)
