"""Talks to a server with LangChain: ``langchain_client.py URL``.

The model is tiny and random, but its answers have a form.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Literal

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel


class Verdict(BaseModel):
    """Whether it is so."""

    answer: Literal["yes", "no"]


@tool
def pick(number: Literal[1, 2]) -> str:
    """Pick a number."""
    return f"{number} is picked"


def main(url: str) -> None:
    model = ChatOpenAI(base_url=f"{url}/v1", api_key="none", model="tiny", max_tokens=300, temperature=0)
    whole = model.invoke("Hello")
    assert isinstance(whole, AIMessage)
    streamed = "".join(str(chunk.content) for chunk in model.stream("Hello"))
    assert streamed == whole.content
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_tokens"] <= 300
    assert len(asyncio.run(model.abatch(["Hello", "Hello"]))) == 2
    for method in ("json_schema", "function_calling"):
        found = model.with_structured_output(Verdict, method=method).invoke("Is it so?")
        assert isinstance(found, Verdict), found
    bound = model.bind_tools([pick], tool_choice="pick", parallel_tool_calls=False)
    called = bound.invoke("Pick one.")
    assert isinstance(called, AIMessage)
    (call,) = called.tool_calls
    assert (call["name"], call["args"]["number"] in (1, 2)) == ("pick", True)
    collected = None
    for chunk in bound.stream("Pick one."):
        collected = chunk if collected is None else collected + chunk
    assert collected is not None
    assert [each["args"] for each in collected.tool_calls] == [call["args"]]
    result = ToolMessage(pick.invoke(call["args"]), tool_call_id=call["id"])
    assert model.bind(max_tokens=8).invoke([HumanMessage("Pick one."), called, result]).content is not None
    response = ChatOpenAI(
        base_url=f"{url}/v1", api_key="none", model="tiny", max_tokens=8, temperature=0, use_responses_api=True
    )
    assert response.invoke("Hello").text == "".join(chunk.text for chunk in response.stream("Hello"))
    text = OpenAI(base_url=f"{url}/v1", api_key="none", model="tiny", max_tokens=8, temperature=0)
    assert text.invoke("Once") == "".join(text.stream("Once"))
    print(json.dumps({"answer": whole.content[:20], "call": call["args"]}))


if __name__ == "__main__":
    main(sys.argv[1])
