from __future__ import annotations

import json
from typing import Any

import numpy as np

from edgekit.runtime.logprobs import Alternative, TokenLogprob
from edgekit.runtime.thought import Piece
from edgekit.runtime.tool_calls import ToolCall
from edgekit.serve.job import Ended, Text
from edgekit.serve.replies import ChatReply, CompletionReply, event, usage
from edgekit.serve.request_error import RequestError

ENDED = Ended(finish="stop", prompt_tokens=7, cached_tokens=4, tokens=5, thought_tokens=2)
PIECES = [Piece("hm", thought=True), Piece("4"), Piece("2")]
CALL = ToolCall("f", '{"a": 1}', "call_1")


def values(sent: bytes) -> list[Any]:
    lines = [line[6:] for line in sent.decode().split("\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def test_a_whole_answer() -> None:
    found = ChatReply("m", reasons=True).whole([([Text(PIECES)], ENDED)])
    choice = found["choices"][0]
    assert (found["object"], found["model"], choice["finish_reason"]) == ("chat.completion", "m", "stop")
    message = {"role": "assistant", "content": "42", "refusal": None, "reasoning_content": "hm"}
    assert choice["message"] == message
    empty = ChatReply("m", reasons=False).whole([([], ENDED)])["choices"][0]["message"]
    assert empty == {"role": "assistant", "content": "", "refusal": None}


def test_chunks_of_an_answer_share_an_id_and_keep_the_thought_apart() -> None:
    reply = ChatReply("m", reasons=True, include_usage=True)
    sent = reply.begin() + reply.text(0, Text(PIECES[:1])) + reply.text(0, Text(PIECES[1:])) + reply.end(0, ENDED)
    *chunks, last, done = values(sent + reply.finish([ENDED]))
    assert len({chunk["id"] for chunk in [*chunks, last]}) == 1
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": ""}, {"reasoning_content": "hm"}, {"content": "42"}, {},
    ]  # fmt: skip
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert (last["choices"], last["usage"], done) == ([], usage([ENDED]), "[DONE]")
    assert values(ChatReply("m", reasons=True).finish([ENDED])) == ["[DONE]"]


def test_calls() -> None:
    choice = ChatReply("m", reasons=False).whole([([Text([], [], [CALL])], ENDED)])["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    assert choice["message"]["tool_calls"] == [CALL.message]
    reply = ChatReply("m", reasons=False)
    sent = reply.text(0, Text([], [], [CALL])) + reply.text(0, Text([], [], [CALL])) + reply.end(0, ENDED)
    *chunks, last = values(sent)
    assert [chunk["choices"][0]["delta"]["tool_calls"] for chunk in chunks] == [
        [{"index": 0, **CALL.message}], [{"index": 1, **CALL.message}]
    ]  # fmt: skip
    assert last["choices"][0]["finish_reason"] == "tool_calls"


def test_several_answers() -> None:
    reply = ChatReply("m", reasons=False, choices=2)
    found = reply.whole([([Text([Piece("a")])], ENDED), ([Text([Piece("b")]), Text([], [], [CALL])], ENDED)])
    assert [choice["finish_reason"] for choice in found["choices"]] == ["stop", "tool_calls"]
    assert found["usage"]["total_tokens"] == 7 + 2 * 5
    assert [chunk["choices"][0]["index"] for chunk in values(reply.begin())] == [0, 1]


def test_the_tokens_so_far() -> None:
    reply = ChatReply("m", reasons=False, choices=2, include_usage=True, running_usage=True)
    sent = (
        reply.begin() + reply.text(0, Text(PIECES, tokens=3, thought_tokens=1)) + reply.text(1, Text(PIECES, tokens=4))
    )
    sent += reply.end(0, ENDED) + reply.end(1, ENDED)
    counts = [chunk["usage"] for chunk in values(sent)]
    assert [count["completion_tokens"] for count in counts] == [0, 0, 3, 7, 9, 10]
    thoughts = [count["completion_tokens_details"]["reasoning_tokens"] for count in counts]
    assert thoughts == [0, 0, 1, 1, 2, 4]
    completion = CompletionReply("m", echo="a", running_usage=True)
    counts = [chunk["usage"] for chunk in values(completion.begin() + completion.end(0, ENDED))]
    assert [count["completion_tokens"] for count in counts] == [0, 5]


def test_usage_is_null_in_chunks_before_the_one_that_has_it() -> None:
    for kind in (ChatReply("m", reasons=False, include_usage=True), CompletionReply("m", echo="a", include_usage=True)):
        sent = kind.begin() + kind.text(0, Text(PIECES)) + kind.end(0, ENDED) + kind.finish([ENDED])
        assert [chunk["usage"] for chunk in values(sent)[:-1]] == [None, None, None, usage([ENDED])]
    plain = ChatReply("m", reasons=False)
    assert not any("usage" in chunk for chunk in values(plain.begin() + plain.text(0, Text(PIECES))))


def test_a_completion() -> None:
    reply = CompletionReply("m")
    assert reply.begin() == b""
    assert values(reply.text(0, Text(PIECES[1:])))[0]["choices"][0]["text"] == "42"
    found = reply.whole([([Text([each]) for each in PIECES[1:]], ENDED)])
    assert (found["object"], found["choices"][0]["text"], found["usage"]) == ("text_completion", "42", usage([ENDED]))
    repeated = CompletionReply("m", echo="17 + 25 = ")
    assert values(repeated.begin())[0]["choices"][0]["text"] == "17 + 25 = "
    assert repeated.whole([([Text([each]) for each in PIECES[1:]], ENDED)])["choices"][0]["text"] == "17 + 25 = 42"


FOUND = [
    TokenLogprob(5, "é", -0.5, (Alternative(5, "é", -0.5), Alternative(6, "\ufffd", -np.inf))),
    TokenLogprob(7, "x", None),
]


def test_log_probabilities() -> None:
    (chunk,) = values(ChatReply("m", reasons=False).text(0, Text(PIECES[1:], FOUND)))
    first = {"token": "é", "logprob": -0.5, "bytes": [0xC3, 0xA9]}
    assert chunk["choices"][0]["logprobs"]["content"] == [
        {**first, "top_logprobs": [first, {"token": "\ufffd", "logprob": -9999.0, "bytes": None}]},
        {"token": "x", "logprob": -9999.0, "bytes": [ord("x")], "top_logprobs": []},
    ]


def test_log_probabilities_of_a_completion() -> None:
    reply = CompletionReply("m")
    found = [values(reply.text(0, Text([], [each])))[0]["choices"][0]["logprobs"] for each in FOUND]
    assert found[0] == {
        "tokens": ["é"],
        "token_logprobs": [-0.5],
        "top_logprobs": [{"\ufffd": -9999.0, "é": -0.5}],
        "text_offset": [0],
    }
    assert found[1]["text_offset"] == [1]
    same = TokenLogprob(5, "x", -0.1, (Alternative(5, "\ufffd", -0.1), Alternative(6, "\ufffd", -2.0)))
    (chunk,) = values(reply.text(0, Text([], [same])))
    assert chunk["choices"][0]["logprobs"]["top_logprobs"] == [{"\ufffd": -0.1}]


def test_an_answer_that_a_limit_ended_is_too_short() -> None:
    for finish in ("length", "context", "interrupted"):
        ended = Ended(finish, 1, 0, 1, 0)
        assert values(ChatReply("m", reasons=False).end(0, ended))[0]["choices"][0]["finish_reason"] == "length"


def test_a_failure_is_an_event() -> None:
    assert values(CompletionReply("m").fail(RequestError("no", status=503)))[0]["error"]["message"] == "no"


def test_an_event_may_have_a_type() -> None:
    assert event({"a": 1}, "x") == b'event: x\ndata: {"a": 1}\n\n'


def test_usage_counts_thoughts_and_cached_tokens() -> None:
    assert usage([ENDED]) == {
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
