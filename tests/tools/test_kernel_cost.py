"""The tool that estimates the NEON kernels finds loops in assembly and counts what is in them."""

from __future__ import annotations

import shutil

import pytest
from kernel_cost.kernels import COMPILERS, FORMATS, TABLES, compile_kernels, find_attention, find_loops
from kernel_cost.loops import all_loops, busiest, functions, instructions_of, loops, multiply_adds, vector_instructions

# As gcc writes it: a loop over blocks with one over steps inside, and a loop that does not multiply.
NESTED = """
\t.type\t_Z4tilev, %function
_Z4tilev:
.LFB1:
\tmovi\tv0.4s, 0
.L2:
\tldr\tq7, [x5]
\tadd\tx3, x1, 64
.L3:
\tldp\tq1, q2, [x1]            // two registers
\tadd\tx1, x1, 32
\tsdot\tv0.4s, v1.16b, v2.16b
\tsdot\tv3.4s, v1.16b, v2.4b[1]
\tcmp\tx1, x3
\tbne\t.L3
\tfmla\tv4.4s, v0.4s, v7.4s
\tsubs\tx4, x4, #1
\tb.ne\t.L2
.L4:
\tstr\tq4, [x0], 16
\tcbnz\tx2, .L4
\tret
\t.size\t_Z4tilev, .-_Z4tilev
"""


def lines_of(assembly: str) -> list[str]:
    return dict(functions(assembly))["_Z4tilev"]


def test_loops_and_the_loops_inside_them() -> None:
    outer, last = loops(lines_of(NESTED))
    assert [len(loop.body) for loop in all_loops([outer, last])] == [11, 6, 2]
    assert [inner.multiply_adds for inner in outer.inner] == [32]
    assert last.multiply_adds == 0


def test_the_innermost_loop_that_multiplies() -> None:
    body = busiest(lines_of(NESTED))
    assert body is not None
    assert body[0] == "ldp q1, q2, [x1]"
    assert body[-1] == "bne .L3"
    assert (multiply_adds(body), vector_instructions(body)) == (32, 2)


def test_an_inner_loop_is_repeated_as_often_as_it_runs() -> None:
    body = busiest(lines_of(NESTED), 4 * 32)
    assert body is not None
    assert (multiply_adds(body), vector_instructions(body), len(body)) == (128, 2 * 4 + 1, 2 + 6 * 4 + 3)
    assert body[0] == "ldr q7, [x5]"
    assert body[-1] == "b.ne .L2"


def test_no_loop_has_that_many_products() -> None:
    assert busiest(lines_of(NESTED), 40) is None
    with pytest.raises(ValueError, match="expected 40 multiply-adds"):
        loops(lines_of(NESTED))[0].unrolled(40)


def test_the_text_of_a_function_without_its_labels() -> None:
    assert instructions_of(lines_of(NESTED))[0] == "movi v0.4s, 0"
    assert len(instructions_of(lines_of(NESTED))) == 15


def test_loads_are_no_vector_instructions() -> None:
    body = [
        "ldr q0, [x1]",
        "ld1r {v1.4s}, [x2]",
        "prfm pldl1keep, [x1, 4096]",
        "add x1, x1, 16",
        "ushr v2.16b, v0.16b, 4",
    ]
    assert vector_instructions(body) == 1


@pytest.mark.slow
def test_the_loops_of_attention_are_found() -> None:
    if not shutil.which(COMPILERS["gcc"][0]):
        pytest.skip(f"{COMPILERS['gcc'][0]} is not installed")
    found = find_attention(compile_kernels("neon_bf16", "gcc"))
    assert multiply_adds(found.scores) == multiply_adds(found.values) == 256
    assert vector_instructions(found.softmax) >= 64 // 4 * 8


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_the_loops_of_the_kernels_are_found(table: str) -> None:
    if not shutil.which(COMPILERS["gcc"][0]):
        pytest.skip(f"{COMPILERS['gcc'][0]} is not installed")
    found = find_loops(table, compile_kernels(table, "gcc"))
    for fmt in FORMATS:
        decode = found.loop("decode", fmt, 1)
        least = 128 * (2 if fmt.bits == 4 else 1) / 16 / 128  # a product, and with 4 bits its half of a byte
        assert least <= decode.vector / decode.weights <= 0.21
        assert decode.weights % (4 * fmt.block) == 0
        assert decode.vector / decode.weights < found.loop("few", fmt, 8).vector / found.loop("few", fmt, 8).weights
    assert multiply_adds(found.peak) == 16 * (16 if table == "neon_dotprod" else 32)
