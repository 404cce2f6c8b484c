"""Packs AWQ weights with GPTQModel. Runs in GPTQModel's environment.

python awq_pack.py FILE.npz      adds qweight and qzeros to codes (in, out) and zeros (groups, out)
"""

import sys

import numpy as np
import torch
from gptqmodel.quantization.awq.utils.packing_utils import pack_awq

content = dict(np.load(sys.argv[1]))
codes, zeros = (torch.tensor(content[name].astype(np.int32)) for name in ("codes", "zeros"))
qweight, qzeros = pack_awq(codes, zeros, 4)
np.savez(sys.argv[1], **content, qweight=qweight.numpy(), qzeros=qzeros.numpy())
