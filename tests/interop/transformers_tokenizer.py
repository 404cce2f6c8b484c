"""Opens a folder with AutoTokenizer and prints what it makes of texts and of a conversation. Any transformers.

    python transformers_tokenizer.py FOLDER TEXTS_JSON

Prints one JSON object: ids (of each text, without special tokens added), prompt, special (ids of the tokenizer),
generation (ids of generation_config.json, if there is one), vocabulary (its size).
"""

import json
import sys
from pathlib import Path

from transformers import AutoTokenizer, GenerationConfig

folder, texts = sys.argv[1], json.loads(sys.argv[2])
tokenizer = AutoTokenizer.from_pretrained(folder)
generation = GenerationConfig.from_pretrained(folder) if Path(folder, "generation_config.json").exists() else None
print(
    json.dumps(
        {
            "ids": [tokenizer(text, add_special_tokens=False).input_ids for text in texts],
            "prompt": tokenizer.apply_chat_template(
                [{"role": "user", "content": texts[0]}], tokenize=False, add_generation_prompt=True
            ),
            "special": {role: getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "pad")},
            "generation": {role: getattr(generation, f"{role}_token_id", None) for role in ("bos", "eos", "pad")},
            "vocabulary": len(tokenizer),
        }
    )
)
