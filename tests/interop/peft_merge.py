"""Makes random LoRA adapters with PEFT and merges them. Runs in AutoGPTQ's environment, which has PEFT 0.10.

python peft_merge.py CHECKPOINT FOLDER CASES_JSON   writes adapters FOLDER/NAME and merged models FOLDER/NAME.npz
"""

import json
import sys

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

checkpoint, folder, cases = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])


def base():
    return AutoModelForCausalLM.from_pretrained(checkpoint, torch_dtype=torch.float32)


torch.manual_seed(0)
for name, config in cases.items():
    model = get_peft_model(base(), LoraConfig(task_type="CAUSAL_LM", **config))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn_like(parameter)
    model.save_pretrained(f"{folder}/{name}")
    merged = PeftModel.from_pretrained(base(), f"{folder}/{name}").merge_and_unload()
    np.savez(f"{folder}/{name}.npz", **{key: value.numpy() for key, value in merged.state_dict().items()})
