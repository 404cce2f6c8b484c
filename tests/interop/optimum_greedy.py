"""Generates tokens greedily from an artifact with optimum's ORTModelForCausalLM. Runs in the interop environment.

python optimum_greedy.py ARTIFACT PROMPT_IDS_JSON COUNT      prints the new ids as JSON
"""

import json
import sys

import torch
from optimum.onnxruntime import ORTModelForCausalLM

artifact, ids, count = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
model = ORTModelForCausalLM.from_pretrained(artifact)
# optimum-onnx 0.1.0 takes hidden_size / num_attention_heads for the size of a Qwen3 head; docs/runtime.md says so.
if model.config.model_type == "qwen3":
    model.embed_size_per_head = model.config.head_dim
prompt = torch.tensor([ids])
new = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=count)
print(json.dumps(new[0, len(ids) :].tolist()))
