"""GGUF's tensor types: sizes as in the gguf package, values as their scalar definitions in ggml-common.h say."""

import gguf
import numpy as np
import pytest

from edgekit.checkpoint import gguf_types, open_checkpoint
from edgekit.checkpoint.gguf_types import BLOCK_TYPES, dequantize, type_of, unreadable
from edgekit.errors import CheckpointError

# ggml-common.h: kvalues_iq4nl
IQ4_VALUES = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
# Where a type keeps its half-precision scales in a block; random bits there may be infinite.
HALVES = {
    "Q4_1": (0, 2), "Q5_1": (0, 2), "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,),
    "TQ1_0": (52,), "TQ2_0": (64,), "MXFP4": (), "NVFP4": (), "IQ1_M": (),
}  # fmt: skip


def half(raw):
    return float(np.frombuffer(raw, "<f2")[0])


def signed(byte):
    return byte - 256 if byte > 127 else byte


def q5(block, with_minimum):
    d = half(block[:2])
    m, rest = (half(block[2:4]), block[4:]) if with_minimum else (-16 * d, block[2:])
    high, codes = int.from_bytes(rest[:4], "little"), rest[4:]
    for i in range(32):
        low = codes[i % 16] >> 4 if i >= 16 else codes[i % 16] & 15
        yield d * (low | (high >> i & 1) << 4) + m


def q2_k(block):
    d, dmin = half(block[80:82]), half(block[82:84])
    for i in range(256):
        chunk, j = divmod(i, 128)
        code = block[16 + chunk * 32 + j % 32] >> (2 * (j // 32)) & 3
        scale = block[i // 16]
        yield d * (scale & 15) * code - dmin * (scale >> 4)


def q3_k(block):
    mask, codes, packed, d = block[:32], block[32:96], block[96:108], half(block[108:110])
    for i in range(256):
        chunk, j = divmod(i, 128)
        group = i // 16
        low = packed[group % 8] >> (4 * (group // 8)) & 15
        high = packed[8 + group % 4] >> (2 * (group // 4)) & 3
        code = codes[chunk * 32 + j % 32] >> (2 * (j // 32)) & 3
        lowered = 0 if mask[j % 32] >> (4 * chunk + j // 32) & 1 else 4
        yield d * ((low | high << 4) - 32) * (code - lowered)


def iq4_nl(block):
    d, codes = half(block[:2]), block[2:]
    for i in range(32):
        yield d * IQ4_VALUES[codes[i % 16] >> 4 if i >= 16 else codes[i] & 15]


def iq4_xs(block):
    d, high, low, codes = half(block[:2]), int.from_bytes(block[2:4], "little"), block[4:8], block[8:]
    for i in range(256):
        group, j = divmod(i, 32)
        scale = (low[group // 2] >> (4 * (group % 2)) & 15) | (high >> (2 * group) & 3) << 4
        byte = codes[group * 16 + j % 16]
        yield d * (scale - 32) * IQ4_VALUES[byte >> 4 if j >= 16 else byte & 15]


SCALAR = {
    "Q5_0": lambda block: q5(block, with_minimum=False),
    "Q5_1": lambda block: q5(block, with_minimum=True),
    "Q2_K": q2_k,
    "Q3_K": q3_k,
    "IQ4_NL": iq4_nl,
    "IQ4_XS": iq4_xs,
}


def random_blocks(kind, count):
    """Random codes with finite scales: (count, bytes per block)."""
    rng = np.random.default_rng(3)
    _, _, size = BLOCK_TYPES[kind]
    blocks = rng.integers(0, 256, (count, size), np.uint8)
    for place in HALVES.get(kind, (0,)):
        blocks[:, place : place + 2] = rng.uniform(-0.01, 0.01, count).astype("<f2").view(np.uint8).reshape(-1, 2)
    if kind == "IQ1_M":  # its scale is made of the top four bits of four words
        blocks[:, 49::2] = 0x20
    if kind in ("MXFP4", "NVFP4"):
        blocks[:, : 1 if kind == "MXFP4" else 4] = 0x60
    return blocks


@pytest.mark.parametrize("kind", sorted(SCALAR))
def test_values_are_those_of_the_scalar_definition(kind):
    blocks = random_blocks(kind, 6)
    expected = np.array([list(SCALAR[kind](block.tobytes())) for block in blocks], np.float32)
    found = dequantize(blocks, kind)
    assert found.dtype == np.float32
    # One rounding of a float32 product or difference may fall differently from the scalar order.
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("kind", sorted(BLOCK_TYPES))
def test_a_file_of_every_type_is_read_in_pieces(tmp_path, write_gguf, tiny_metadata, monkeypatch, kind):
    """Rows of one block each, so most are not a multiple of 256; a piece holds three of the 20 rows."""
    number, elements, size = BLOCK_TYPES[kind]
    monkeypatch.setattr("edgekit.checkpoint.gguf.PIECE_ELEMENTS", 3 * elements)
    if elements == 1:
        raw = np.arange(20).astype(gguf_types._PLAIN.get(kind, "<u2")).view(np.uint8).reshape(20, size)
    else:
        raw = random_blocks(kind, 20)
    tensors = {"w": (kind, (20, elements), raw.tobytes())}
    with open_checkpoint(write_gguf(tmp_path / "x.gguf", tiny_metadata, tensors)) as checkpoint:
        found = checkpoint.rows("w", 0, 20)
        np.testing.assert_array_equal(checkpoint.rows("w", 5, 12), found[5:12])
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    if number in (24, 25, 26, 27, 28):  # the package does not convert plain numbers
        np.testing.assert_array_equal(found[:, 0], np.arange(20))
    else:
        np.testing.assert_array_equal(found, gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(number)))


def test_the_sizes_agree_with_the_gguf_package():
    for name, (number, elements, size) in BLOCK_TYPES.items():
        kind = gguf.GGMLQuantizationType[name]
        assert (kind.value, *gguf.GGML_QUANT_SIZES[kind]) == (number, elements, size)


def test_every_type_that_the_package_dequantizes_is_read():
    for kind, (_, size) in gguf.GGML_QUANT_SIZES.items():
        try:
            gguf.quants.dequantize(np.zeros((1, size), np.uint8), kind)
        except NotImplementedError:
            continue
        assert not unreadable(kind.name)


def test_types_that_are_not_read_are_named():
    assert type_of(15, "here") == ("Q8_K", 256, 292)
    assert unreadable("Q8_K").startswith("has type Q8_K; supported: F32, F16, ")
    with pytest.raises(CheckpointError, match=r"here has type Q4_0_8_8, which llama\.cpp no longer supports"):
        type_of(33, "here")
    with pytest.raises(CheckpointError, match="here has the unknown type 999; supported: F32") as caught:
        type_of(999, "here")
    assert "Q4_K_M" in caught.value.hint


def test_a_type_that_only_a_newer_package_knows(monkeypatch):
    monkeypatch.setitem(BLOCK_TYPES, "NEW_1", (77, 32, 18))
    assert "pip install --upgrade gguf" in unreadable("NEW_1")
