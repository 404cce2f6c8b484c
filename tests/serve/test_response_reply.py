from __future__ import annotations

import json
from typing import Any

from edgekit.runtime.thought import Piece
from edgekit.runtime.tool_calls import ToolCall
from edgekit.serve.job import Ended, Text
from edgekit.serve.request_error import RequestError
from edgekit.serve.response_reply import ResponseReply

ENDED = Ended(finish="stop", prompt_tokens=7, cached_tokens=4, tokens=5, thought_tokens=2)
CALL = ToolCall("f", '{"a": 1}', "call_1")
TEXT = Text([Piece("h", thought=True), Piece("m", thought=True), Piece("4"), Piece("2")], [], [CALL])


def events(sent: bytes) -> list[dict[str, Any]]:
    found = []
    for part in sent.decode().split("\n\n")[:-1]:
        kind, data = part.split("\n")
        value = json.loads(data.removeprefix("data: "))
        assert kind == f"event: {value['type']}"
        found.append(value)
    return found


def test_thought_text_and_calls_are_items() -> None:
    found = ResponseReply("m", {"tools": []}).whole([([TEXT], ENDED)])
    assert [item["type"] for item in found["output"]] == ["reasoning", "message", "function_call"]
    assert [found["output"][i]["content"][0]["text"] for i in (0, 1)] == ["hm", "42"]
    assert (found["output"][2]["call_id"], found["output"][2]["arguments"]) == ("call_1", '{"a": 1}')
    assert {item["status"] for item in found["output"]} == {"completed"}
    assert (found["status"], found["usage"]["total_tokens"], found["tools"]) == ("completed", 12, [])


def test_a_stream_has_the_same_items() -> None:
    reply = ResponseReply("m", {})
    sent = events(reply.begin() + reply.text(0, TEXT) + reply.end(0, ENDED) + reply.finish([ENDED]))
    assert [event["sequence_number"] for event in sent] == list(range(len(sent)))
    kinds = [event["type"].removeprefix("response.") for event in sent]
    assert kinds == [
        "created", "in_progress",
        "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.delta",
        "reasoning_text.done", "content_part.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    done = [event["item"] for event in sent if event["type"] == "response.output_item.done"]
    assert done == sent[-1]["response"]["output"]
    assert [event["output_index"] for event in sent if event["type"] == "response.output_item.done"] == [0, 1, 2]
    assert sent[2]["item"]["content"] == []


def test_text_and_calls_keep_their_order() -> None:
    texts = [Text([Piece("Su")]), Text([Piece("re.")]), Text([], [], [CALL, CALL]), Text([Piece("Done.")])]
    found = ResponseReply("m", {}).whole([(texts, ENDED)])["output"]
    assert [item["type"] for item in found] == ["message", "function_call", "function_call", "message"]
    assert [found[i]["content"][0]["text"] for i in (0, 3)] == ["Sure.", "Done."]
    reply = ResponseReply("m", {})
    sent = events(b"".join(reply.text(0, text) for text in texts) + reply.end(0, ENDED))
    streamed = [event["item"]["type"] for event in sent if event["type"] == "response.output_item.done"]
    assert streamed == [item["type"] for item in found]


def test_an_answer_that_was_cut_off_is_incomplete() -> None:
    cut = Ended("length", 7, 0, 5, 5)
    for pieces, kind in (([Piece("hm", thought=True)], "reasoning"), ([Piece("4")], "message")):
        found = ResponseReply("m", {}).whole([([Text(pieces)], cut)])
        assert (found["status"], found["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
        assert [(item["type"], item["status"]) for item in found["output"]] == [(kind, "incomplete")]
    reply = ResponseReply("m", {})
    assert events(reply.finish([cut]))[0]["type"] == "response.incomplete"
    assert ResponseReply("m", {}).whole([([], cut)])["output"] == []


def test_an_answer_without_text_has_an_empty_message() -> None:
    found = ResponseReply("m", {}).whole([([Text([Piece("hm", thought=True)])], ENDED)])["output"]
    assert [(item["type"], item["status"]) for item in found] == [("reasoning", "completed"), ("message", "completed")]


def test_a_failure_is_an_event() -> None:
    (found,) = events(ResponseReply("m", {}).fail(RequestError("no", status=503, code="late")))
    assert (found["type"], found["message"], found["code"]) == ("error", "no", "late")
