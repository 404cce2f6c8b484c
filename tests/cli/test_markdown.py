"""Markdown in pieces: blocks are whole, whatever the pieces."""

from __future__ import annotations

import pytest

from edgekit.cli._markdown import MarkdownBlocks

TEXT = """# Title

One paragraph
in two lines.


- a list

  with an indented paragraph
- and more

```python
def f():

    return 1
```
After the code.

~~~~
~~~
~~~~

The end"""
BLOCKS = [
    "# Title",
    "One paragraph\nin two lines.",
    "- a list\n\n  with an indented paragraph\n- and more",
    "```python\ndef f():\n\n    return 1\n```",
    "After the code.",
    "~~~~\n~~~\n~~~~",
    "The end",
]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_blocks_are_whole(size: int) -> None:
    blocks = MarkdownBlocks()
    found = [block for at in range(0, len(TEXT), size) for block in blocks.push(TEXT[at : at + size])]
    assert blocks.rest == "The end"
    assert found + blocks.flush() == BLOCKS
    assert blocks.flush() == []


def test_code_that_is_not_finished_stays_open() -> None:
    blocks = MarkdownBlocks()
    assert blocks.push("```\na\n\n\nb\n") == []
    assert blocks.flush() == ["```\na\n\n\nb"]
