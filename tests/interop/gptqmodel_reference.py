"""Quantizes a tiny checkpoint with GPTQModel and saves GPTQModel's logits. Runs in GPTQModel's environment.

    python gptqmodel_reference.py SOURCE OUT_DIR CONFIG_JSON IDS_JSON

Writes OUT_DIR/checkpoint in GPTQModel's format, and OUT_DIR/logits.npy, float32 (1, tokens, vocabulary), computed from
that checkpoint by GPTQModel's torch kernel.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from gptqmodel import BACKEND, GPTQModel, QuantizeConfig

source, out = sys.argv[1], Path(sys.argv[2])
config, ids = QuantizeConfig(**json.loads(sys.argv[3])), json.loads(sys.argv[4])
words = ["The", "capital", "of", "France", "is", "Paris", "What", "Italy", "Rome"]
texts = [" ".join(words[i * j % len(words)] for j in range(200)) for i in range(1, 9)]
model = GPTQModel.load(source, config, device="cpu")
model.quantize(texts, batch_size=1)
model.save(str(out / "checkpoint"))
# In bfloat16, the default here, loading would round the float16 scales.
loaded = GPTQModel.load(str(out / "checkpoint"), device="cpu", backend=BACKEND.TORCH, dtype=torch.float16)
with torch.no_grad():
    logits = loaded.model.float()(torch.tensor([ids])).logits
np.save(out / "logits.npy", logits.float().numpy())
