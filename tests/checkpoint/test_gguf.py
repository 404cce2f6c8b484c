"""Reading GGUF files: values of every type compared with scalar definitions, truncated files, two real models."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import gguf
import ml_dtypes
import numpy as np
import pytest

from edgekit.checkpoint import open_checkpoint
from edgekit.checkpoint.gguf_config import config_from_metadata
from edgekit.checkpoint.gguf_tokenizer import tokenizer_from_metadata
from edgekit.checkpoint.gguf_types import BLOCK_TYPES
from edgekit.errors import CheckpointError, TruncatedFileError


def half(raw):
    return np.float32(np.frombuffer(raw, "<f2")[0])


def scales_and_mins(packed):
    """The eight 6-bit scales and minima of Q4_K and Q5_K in 12 bytes (ggml-quants.c: get_scale_min_k4)."""
    for j in range(8):
        if j < 4:
            yield packed[j] & 63, packed[j + 4] & 63
        else:
            low, high = packed[j + 4], packed[j - 4]
            yield (low & 15) | (high >> 6 << 4), (low >> 4) | (packed[j] >> 6 << 4)


def scalar_block(kind, block):
    """One block, value by value, as ggml-common.h and ggml-quants.c lay it out."""
    d = half(block[:2])
    if kind == "Q8_0":
        return [d * np.float32(np.int8(b)) for b in np.frombuffer(block[2:], np.int8)]
    if kind in ("Q4_0", "Q4_1"):
        m, codes = (half(block[2:4]), block[4:]) if kind == "Q4_1" else (np.float32(-8) * d, block[2:])
        return [d * np.float32(c & 15) + m for c in codes] + [d * np.float32(c >> 4) + m for c in codes]
    if kind == "Q6_K":
        low, high, scales, d = block[:128], block[128:192], np.frombuffer(block[192:208], np.int8), half(block[208:210])
        values = []
        for i in range(256):
            chunk, j = divmod(i, 128)
            nibble = low[chunk * 64 + j % 64] >> (4 if j >= 64 else 0) & 15
            bits = high[chunk * 32 + j % 32] >> (2 * (j // 32)) & 3
            values.append(d * np.float32(scales[i // 16]) * np.float32((nibble | bits << 4) - 32))
        return values
    minimum, pairs = half(block[2:4]), list(scales_and_mins(block[4:16]))
    high, codes = (block[16:48], block[48:]) if kind == "Q5_K" else (None, block[16:])
    values = []
    for i in range(256):
        group, j = divmod(i, 32)
        q = codes[group // 2 * 32 + j] >> (4 * (group % 2)) & 15
        if high is not None:
            q |= (high[j] >> group & 1) << 4
        scale, least = pairs[group]
        values.append(d * np.float32(scale) * np.float32(q) - minimum * np.float32(least))
    return values


def random_blocks(kind, rows, columns, rng):
    """Random codes with finite half-precision scales in the places where a type keeps them."""
    _, elements, size = BLOCK_TYPES[kind]
    blocks = rng.integers(0, 256, (rows * columns // elements, size), np.uint8)
    places = {"Q4_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}.get(kind, (0,))
    for place in places:
        scale = rng.uniform(-0.01, 0.01, len(blocks)).astype("<f2")
        blocks[:, place : place + 2] = scale.view(np.uint8).reshape(-1, 2)
    return blocks


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q5_K", "Q6_K"])
def test_block_types_against_their_scalar_definition(tmp_path, write_gguf, tiny_metadata, kind):
    rows, columns = 5, 512
    blocks = random_blocks(kind, rows, columns, np.random.default_rng(1))
    expected = np.array([scalar_block(kind, b.tobytes()) for b in blocks], np.float32).reshape(rows, columns)
    path = write_gguf(tmp_path / "x.gguf", tiny_metadata, {"w": (kind, (rows, columns), blocks.tobytes())})
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.tensors["w"].dtype == kind
        found = checkpoint.rows("w", 0, rows)
        assert found.dtype == np.float32
        # One rounding of a float32 product or difference may fall differently from the scalar order.
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)
        np.testing.assert_array_equal(checkpoint.rows("w", 2, 4), found[2:4])


@pytest.mark.parametrize(("kind", "dtype"), [("F32", np.float32), ("F16", np.float16), ("BF16", ml_dtypes.bfloat16)])
def test_float_types_come_as_float32(tmp_path, write_gguf, tiny_metadata, kind, dtype):
    values = np.random.default_rng(2).standard_normal((3, 7)).astype(dtype)
    tensors = {"w": (kind, (3, 7), values.tobytes()), "v": (kind, (7,), values[0].tobytes())}
    with open_checkpoint(write_gguf(tmp_path / "x.gguf", tiny_metadata, tensors)) as checkpoint:
        assert checkpoint.tensors["w"].dtype == np.dtype(dtype).name
        found = checkpoint.rows("w", 1, 3)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, values[1:].astype(np.float32))
        np.testing.assert_array_equal(checkpoint.rows("v", 2, 6), values[0, 2:6].astype(np.float32))


def test_a_matrix_larger_than_a_piece(tmp_path, write_gguf, tiny_metadata, monkeypatch):
    monkeypatch.setattr("edgekit.checkpoint.gguf.PIECE_ELEMENTS", 96)
    values = np.arange(11 * 32, dtype="<f4").reshape(11, 32)
    path = write_gguf(tmp_path / "x.gguf", tiny_metadata, {"w": ("F32", (11, 32), values.tobytes())})
    with open_checkpoint(path) as checkpoint:
        np.testing.assert_array_equal(checkpoint.rows("w", 1, 11), values[1:])
        assert checkpoint.rows("w", 3, 3).shape == (0, 32)


def test_threads_read_at_the_same_time(tmp_path, write_gguf, tiny_metadata):
    values = np.arange(64 * 32, dtype="<f4").reshape(64, 32)
    path = write_gguf(tmp_path / "x.gguf", tiny_metadata, {"w": ("F32", (64, 32), values.tobytes())})
    with open_checkpoint(path) as checkpoint, ThreadPoolExecutor(4) as pool:
        starts = [i % 60 for i in range(400)]
        for start, rows in zip(starts, pool.map(lambda s: checkpoint.rows("w", s, s + 4), starts), strict=True):
            np.testing.assert_array_equal(rows, values[start : start + 4])


def test_unsupported_types_are_listed_but_cannot_be_read(tmp_path, write_gguf, tiny_metadata):
    tensors = {"w": (15, (1, 256), bytes(292)), "e": ("F32", (2, 4, 8), bytes(256))}  # 15 is Q8_K
    with open_checkpoint(write_gguf(tmp_path / "x.gguf", tiny_metadata, tensors)) as checkpoint:
        assert checkpoint.tensors["w"].dtype == "Q8_K"
        with pytest.raises(CheckpointError, match="tensor 'w' has type Q8_K; supported: F32, F16, Q4_0, Q4_1"):
            checkpoint.rows("w", 0, 1)
        with pytest.raises(CheckpointError, match=r"'e' has shape \(2, 4, 8\); only matrices"):
            checkpoint.rows("e", 0, 1)
    with pytest.raises(CheckpointError, match="tensor 'w' has the unknown type 999"):
        open_checkpoint(write_gguf(tmp_path / "y.gguf", tiny_metadata, {"w": (999, (1, 256), bytes(84))}))


def test_truncated_data_names_the_first_tensor_beyond_the_end(tiny_gguf, read_header):
    with open_checkpoint(tiny_gguf) as checkpoint:
        info = checkpoint.tensors["blk.0.attn_q.weight"]
    size = info.offset + 10
    tiny_gguf.write_bytes(tiny_gguf.read_bytes()[:size])
    with pytest.raises(TruncatedFileError) as caught:
        open_checkpoint(tiny_gguf)
    for part in (
        str(tiny_gguf),
        "'blk.0.attn_q.weight'",
        f"byte {info.offset}",
        f"{info.offset + 2048} bytes",
        f"{size}",
    ):
        assert part in caught.value.message
    header = read_header(tiny_gguf)  # the header is complete
    config = config_from_metadata(header, factors=None)
    assert config["hidden_size"] == 32
    assert tokenizer_from_metadata(header.metadata, config, "tiny").special.bos_id == 257


@pytest.mark.slow
def test_smollm2_agrees_with_the_gguf_package(smollm2_gguf):
    reader = {t.name: t for t in gguf.GGUFReader(smollm2_gguf).tensors}
    with open_checkpoint(smollm2_gguf) as checkpoint:
        assert set(checkpoint.tensors) == set(reader)
        assert checkpoint.config["model_type"] == "llama"
        for name in ("token_embd.weight", "blk.0.attn_q.weight", "blk.17.ffn_down.weight", "output_norm.weight"):
            info, theirs = checkpoint.tensors[name], reader[name]
            assert info.offset == theirs.data_offset
            assert info.shape == tuple(theirs.shape.tolist()[::-1])
            stop = min(info.shape[0], 300)
            expected = gguf.quants.dequantize(theirs.data, theirs.tensor_type)[:stop]
            np.testing.assert_array_equal(checkpoint.rows(name, 0, stop), expected)


def test_smollm2_config(smollm2_gguf):
    with open_checkpoint(smollm2_gguf) as checkpoint:
        config = checkpoint.config
    assert (config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"]) == (30, 576, 1536)
    assert (config["num_attention_heads"], config["num_key_value_heads"], config["vocab_size"]) == (9, 3, 49152)
    assert (config["rope_theta"], config["rms_norm_eps"]) == (100000.0, 1e-5)
    assert config["tie_word_embeddings"] is True
    assert config["attention_bias"] is False


def test_reading_needs_memory_only_for_the_requested_rows(smollm2_gguf):
    with open_checkpoint(smollm2_gguf) as checkpoint:
        checkpoint.rows("output_norm.weight", 0, 1)  # imports gguf
        tracemalloc.start()
        checkpoint.rows("token_embd.weight", 1000, 1512)  # 1.2 MB of the table's 113 MB of float32
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # The result, the raw rows and the dequantizer's scratch memory need far less than the table.
    assert peak < 8_000_000


def test_r1s_header_is_read_although_its_tensors_are_cut_off(r1_qwen_7b_gguf, read_header):
    assert config_from_metadata(read_header(r1_qwen_7b_gguf), factors=None) == {
        "model_type": "qwen2",
        "num_hidden_layers": 28,
        "max_position_embeddings": 131072,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "vocab_size": 152064,
        "tie_word_embeddings": False,
        "attention_bias": True,
        "mlp_bias": False,
        "bos_token_id": 151646,
        "eos_token_id": 151643,
        "pad_token_id": 151654,
    }
    with pytest.raises(TruncatedFileError, match=r"tensor 'output\.weight' at byte 5953248 .* it has 99614720"):
        open_checkpoint(r1_qwen_7b_gguf)
