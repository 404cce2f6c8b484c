"""What builds leave: the files of an artifact, and folders beside the checkpoint."""

from __future__ import annotations

from pathlib import Path

FILES = {
    "model.onnx", "model.onnx.data", "genai_config.json", "config.json", "generation_config.json", "tokenizer.json",
    "tokenizer_config.json", "chat_template.jinja", "edgekit.json", "edgekit_text.bin",
}  # fmt: skip


def leftovers(folder: Path) -> list[str]:
    """Everything in a folder except the checkpoint."""
    return sorted(p.name for p in folder.iterdir() if p.name != "checkpoint")
