"""Generates tokens greedily from a GPTQ checkpoint with AutoGPTQ. Runs in AutoGPTQ's environment, which is of 2024.

python autogptq_greedy.py CHECKPOINT PROMPT_IDS_JSON COUNT      prints the new ids as JSON
"""

import json
import sys

import torch
from auto_gptq import AutoGPTQForCausalLM

checkpoint, ids, count = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
model = AutoGPTQForCausalLM.from_quantized(
    checkpoint, device="cpu", use_triton=False, disable_exllama=True, disable_exllamav2=True
)
prompt = torch.tensor([ids])
new = model.model.float().generate(
    input_ids=prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=count
)
print(json.dumps(new[0, len(ids) :].tolist()))
