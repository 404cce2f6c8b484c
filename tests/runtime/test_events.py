"""An answer as events."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import edgekit
from edgekit import Answer, Done, Thought

QUESTION = [{"role": "user", "content": "What is 2 + 2?"}]


def test_thought_and_answer_come_before_the_end(reasoning_artifact: Path) -> None:
    with edgekit.load(reasoning_artifact, context=200) as session:
        *texts, done = session.chat(QUESTION, max_tokens=90, think_tokens=4, temperature=0).events()
    assert isinstance(done, Done)
    assert "".join(event.text for event in texts if isinstance(event, Thought)) == done.completion.thought
    assert "".join(event.text for event in texts if isinstance(event, Answer)) == done.completion.answer
    assert [type(event) for event in texts] == sorted((type(event) for event in texts), key=[Thought, Answer].index)
    assert done.completion.thought
    assert done.completion.thought_closed == "budget"


def test_the_same_events_in_asyncio(built_artifact: Path) -> None:
    async def main() -> list[object]:
        async with edgekit.AsyncSession(edgekit.load(built_artifact, context=96)) as session:
            return [event async for event in session.chat(QUESTION, max_tokens=5, temperature=0).events()]

    with edgekit.load(built_artifact, context=96) as session:
        expected = list(session.chat(QUESTION, max_tokens=5, temperature=0).events())
    *texts, done = asyncio.run(asyncio.wait_for(main(), 60))
    assert texts == expected[:-1]
    assert isinstance(done, Done)
    assert isinstance(expected[-1], Done)
    assert done.completion.tokens == expected[-1].completion.tokens


def test_calls_come_before_the_end(built_artifact: Path) -> None:
    pytest.importorskip("llguidance", reason="needs the extra structured")
    tools = [{"type": "function", "function": {"name": "f"}}]

    async def main() -> list[object]:
        async with edgekit.AsyncSession(edgekit.load(built_artifact, context=700)) as session:
            return [
                event
                async for event in session.chat(QUESTION, tools=tools, tool_choice="required", max_tokens=80).events()
            ]

    *_, call, done = asyncio.run(asyncio.wait_for(main(), 60))
    assert isinstance(call, edgekit.ToolCall)
    assert isinstance(done, Done)
    assert (call.name, call.values, done.completion.tool_calls) == ("f", {}, [call])
