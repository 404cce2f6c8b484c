"""Generates tokens greedily from an artifact with onnxruntime-genai. Runs in the interop environment.

python genai_greedy.py ARTIFACT PROMPT_IDS_JSON COUNT      prints the new ids as JSON
"""

import json
import sys

import numpy as np
import onnxruntime_genai as og

artifact, ids, count = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
model = og.Model(artifact)
params = og.GeneratorParams(model)
params.set_search_options(do_sample=False, max_length=len(ids) + count)
generator = og.Generator(model, params)
generator.append_tokens(np.array(ids, np.int32))
new: list[int] = []
while not generator.is_done() and len(new) < count:
    generator.generate_next_token()
    new.append(int(generator.get_next_tokens()[0]))
print(json.dumps(new))
