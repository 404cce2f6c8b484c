"""Generates tokens greedily from a GPTQ checkpoint with GPTQModel and transformers. Runs in GPTQModel's environment.

python gptqmodel_greedy.py CHECKPOINT PROMPT_IDS_JSON COUNT      prints {"gptqmodel": [ids], "transformers": [ids]}

The optional fourth argument "alone" leaves transformers out.
"""

import json
import sys

import torch
from gptqmodel import BACKEND, GPTQModel
from transformers import AutoModelForCausalLM

checkpoint, ids, count = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])


def greedy(model: torch.nn.Module) -> list[int]:
    prompt = torch.tensor([ids])
    new = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=count)
    return new[0, len(ids) :].tolist()


found = {
    "gptqmodel": greedy(
        GPTQModel.load(checkpoint, device="cpu", backend=BACKEND.TORCH, dtype=torch.float16).model.float()
    )
}
if "alone" not in sys.argv[4:]:
    reader = AutoModelForCausalLM.from_pretrained(checkpoint, device_map="cpu", dtype=torch.float32)
    found["transformers"] = greedy(reader)
print(json.dumps(found))
