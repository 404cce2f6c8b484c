"""Write a checkpoint with a model's exact shapes and random weights, to measure builds and engines at full size.

    python examples/random_checkpoint.py deepseek-r1-distill-qwen-1.5b FOLDER [--layers N]

The shapes come from the recipe. The weights are bfloat16, drawn from a normal distribution with standard deviation
0.02, and are streamed to disk. The tokenizer has one token for each byte. The model's text is meaningless; its speed
and memory are those of the real model.
"""

from __future__ import annotations

import argparse
import json
import math
import struct
from pathlib import Path

import ml_dtypes
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from edgekit.models import ModelSpec, spec_from_config
from edgekit.recipes import load_recipe

POOL = 1 << 24  # numbers drawn once and reused from random offsets: fast, and no two rows are alike


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipe", help="recipe to take the shapes from")
    parser.add_argument("folder", type=Path, help="folder to write the checkpoint to")
    parser.add_argument("--layers", type=int, help="number of layers to write (default: all of the model's)")
    options = parser.parse_args()
    config = dict(load_recipe(options.recipe).config)
    if options.layers:
        config["num_hidden_layers"] = options.layers
    config |= {"bos_token_id": 0, "eos_token_id": 1}
    options.folder.mkdir(parents=True)
    (options.folder / "config.json").write_text(json.dumps(config, indent=2))
    write_tokenizer(options.folder)
    write_weights(options.folder / "model.safetensors", spec_from_config(config))


def write_tokenizer(folder: Path) -> None:
    """A byte-level vocabulary: two special tokens, then one token per byte."""
    tokens = ["<|bos|>", "<|eos|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(tokens[:2])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"bos_token": tokens[0], "eos_token": tokens[1], "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def write_weights(path: Path, spec: ModelSpec) -> None:
    """One safetensors file, tensor after tensor (https://github.com/huggingface/safetensors#format)."""
    header, end = {}, 0
    for ref in spec.tensors():
        size = 2 * math.prod(ref.shape)
        header[ref.name] = {"dtype": "BF16", "shape": list(ref.shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    rng = np.random.default_rng(0)
    pool = (rng.standard_normal(POOL, np.float32) * 0.02).astype(ml_dtypes.bfloat16)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for ref in spec.tensors():
            left = math.prod(ref.shape)
            if "norm" in ref.name:
                file.write(np.ones(left, ml_dtypes.bfloat16).tobytes())
                continue
            while left:
                start = int(rng.integers(0, POOL // 2))
                count = min(left, POOL - start)
                file.write(pool[start : start + count].tobytes())
                left -= count


if __name__ == "__main__":
    main()
