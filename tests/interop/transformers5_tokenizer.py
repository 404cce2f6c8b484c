"""Saves a folder's tokenizer again as transformers 5 writes it. Runs in GPTQModel's environment.

    python transformers5_tokenizer.py FOLDER EXTRA_JSON

EXTRA_JSON: keyword arguments for from_pretrained, such as {"extra_special_tokens": ["<|user|>"]}.
"""

import json
import sys

import transformers
from transformers import AutoTokenizer

assert int(transformers.__version__.split(".")[0]) >= 5, transformers.__version__
folder, extra = sys.argv[1], json.loads(sys.argv[2])
AutoTokenizer.from_pretrained(folder, **extra).save_pretrained(folder)
