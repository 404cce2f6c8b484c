from __future__ import annotations

import numpy as np

from edgekit.runtime.logprobs import Alternative, TokenLogprob
from edgekit.runtime.thought import Piece
from edgekit.serve.job import Ended, Text
from edgekit.serve.replies import ChatReply, CompletionReply, usage

ENDED = Ended(finish="stop", prompt_tokens=7, cached_tokens=4, tokens=5, thought_tokens=2)
PIECES = [Piece("hm", thought=True), Piece("4"), Piece("2")]


def test_a_whole_answer() -> None:
    found = ChatReply("m", reasons=True).whole(Text(PIECES), ENDED)
    choice = found["choices"][0]
    assert (found["object"], found["model"], choice["finish_reason"]) == ("chat.completion", "m", "stop")
    message = {"role": "assistant", "content": "42", "refusal": None, "reasoning_content": "hm"}
    assert choice["message"] == message
    assert "reasoning_content" not in ChatReply("m", reasons=False).whole(Text([]), ENDED)["choices"][0]["message"]


def test_chunks_of_an_answer_share_an_id_and_keep_the_thought_apart() -> None:
    reply = ChatReply("m", reasons=True)
    chunks = [
        reply.first(),
        reply.chunk(Text(PIECES[:1])),
        reply.chunk(Text(PIECES[1:])),
        reply.last(ENDED),
        reply.usage(ENDED),
    ]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert [chunk["choices"][0]["delta"] for chunk in chunks[:4]] == [
        {"role": "assistant", "content": ""}, {"reasoning_content": "hm"}, {"content": "42"}, {},
    ]  # fmt: skip
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:4]] == [None, None, None, "stop"]
    assert (chunks[4]["choices"], chunks[4]["usage"]) == ([], usage(ENDED))


def test_a_completion() -> None:
    reply = CompletionReply("m")
    assert reply.first() is None
    assert reply.chunk(Text(PIECES[1:]))["choices"][0]["text"] == "42"
    found = reply.whole(Text(PIECES[1:]), ENDED)
    assert (found["object"], found["choices"][0]["text"], found["usage"]) == ("text_completion", "42", usage(ENDED))


def test_log_probabilities() -> None:
    found = [
        TokenLogprob(5, "é", -0.5, (Alternative(5, "é", -0.5), Alternative(6, "\ufffd", -np.inf))),
        TokenLogprob(7, "x", None),
    ]
    content = ChatReply("m", reasons=False).chunk(Text(PIECES[1:], found))["choices"][0]["logprobs"]["content"]
    first = {"token": "é", "logprob": -0.5, "bytes": [0xC3, 0xA9]}
    assert content == [
        {**first, "top_logprobs": [first, {"token": "\ufffd", "logprob": -9999.0, "bytes": None}]},
        {"token": "x", "logprob": -9999.0, "bytes": [ord("x")], "top_logprobs": []},
    ]


def test_an_answer_that_a_limit_ended_is_too_short() -> None:
    for finish in ("length", "context", "interrupted"):
        ended = Ended(finish, 1, 0, 1, 0)
        assert ChatReply("m", reasons=False).last(ended)["choices"][0]["finish_reason"] == "length"


def test_usage_counts_thoughts_and_cached_tokens() -> None:
    assert usage(ENDED) == {
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
