"""The Unicode tables of the native tokenizer are what the tool writes with the same version of tokenizers."""

from __future__ import annotations

import pytest
import tokenizers
import unicode_tables


@pytest.mark.slow
def test_the_tables_are_what_the_tool_writes() -> None:
    content = unicode_tables.OUT.read_text(encoding="utf-8")
    if f"from tokenizers {tokenizers.__version__}." not in content:
        pytest.skip("the tables were written with another version of tokenizers")
    assert unicode_tables.written() == content


def test_ranges_and_blocks() -> None:
    assert unicode_tables.ranges({5: 1, 6: 1, 7: 2, 9: 2}) == [(5, 6, 1), (7, 7, 2), (9, 9, 2)]
    table = bytes(unicode_tables.BLOCK) + bytes([1, 2] * (unicode_tables.BLOCK // 2)) + bytes(unicode_tables.BLOCK)
    numbers, blocks = unicode_tables.two_levels(table)
    assert numbers == [0, 1, 0]
    assert blocks == [0] * (unicode_tables.BLOCK // 2) + [0x21] * (unicode_tables.BLOCK // 2)
