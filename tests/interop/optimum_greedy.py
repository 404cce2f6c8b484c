"""Generates tokens greedily from an artifact with optimum's ORTModelForCausalLM. Runs in the interop environment.

python optimum_greedy.py ARTIFACT PROMPT_IDS_JSON COUNT      prints the new ids as JSON
"""

import json
import sys

import torch
from optimum.onnxruntime import ORTModelForCausalLM

artifact, ids, count = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
model = ORTModelForCausalLM.from_pretrained(artifact)
prompt = torch.tensor([ids])
new = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=count)
print(json.dumps(new[0, len(ids) :].tolist()))
