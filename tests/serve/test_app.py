"""The whole application with tiny models: what responses hold."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from asgi_client import CHAT, COMPLETIONS, HELLO, RESPONSES, request
from shared_models import SharedModels

from edgekit.runtime.answer import Answer


def test_a_chat(make_app: Any) -> None:
    found = request(make_app(), "POST", CHAT, HELLO)
    assert (found.status, found.json()["model"]) == (200, "tiny")
    choice, usage = found.json()["choices"][0], found.json()["usage"]
    assert choice["message"]["role"] == "assistant"
    assert (choice["finish_reason"], usage["completion_tokens"]) in {
        ("length", 6),
        ("stop", usage["completion_tokens"]),
    }
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_stream_has_the_same_text(make_app: Any) -> None:
    app = make_app()
    whole = request(app, "POST", CHAT, HELLO).json()
    stream = request(app, "POST", CHAT, {**HELLO, "stream": True, "stream_options": {"include_usage": True}})
    *chunks, last, done = stream.events
    assert done == "[DONE]"
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert last["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert last["usage"]["prompt_tokens_details"]["cached_tokens"] == whole["usage"]["prompt_tokens"] - 1


def test_completions(make_app: Any) -> None:
    app = make_app()
    asked = {"prompt": "Once", "max_tokens": 5, "temperature": 0}
    whole = request(app, "POST", COMPLETIONS, asked).json()
    assert request(app, "POST", COMPLETIONS, {"prompt": "Once"}).json()["usage"]["completion_tokens"] <= 16
    stream = request(app, "POST", COMPLETIONS, {**asked, "stream": True}).events
    assert "".join(chunk["choices"][0]["text"] for chunk in stream[:-1]) == whole["choices"][0]["text"]
    assert whole["object"] == "text_completion"


def test_a_seed_makes_an_answer_repeatable(make_app: Any) -> None:
    app = make_app()
    asked = {**HELLO, "temperature": 1.5, "seed": 7, "max_tokens": 12}
    texts = {request(app, "POST", CHAT, asked).json()["choices"][0]["message"]["content"] for _ in range(2)}
    assert len(texts) == 1


def test_a_stop_text_ends_the_answer(make_app: Any) -> None:
    app = make_app()
    text = request(app, "POST", CHAT, {**HELLO, "max_tokens": 20}).json()["choices"][0]["message"]["content"]
    stop = text[3:5]
    found = request(app, "POST", CHAT, {**HELLO, "max_tokens": 20, "stop": [stop]}).json()["choices"][0]
    assert (found["message"]["content"], found["finish_reason"]) == (text.partition(stop)[0], "stop")


def test_log_probabilities(make_app: Any) -> None:
    app = make_app()
    asked = {**HELLO, "logprobs": True, "top_logprobs": 2}
    found = request(app, "POST", CHAT, asked).json()
    tokens = found["choices"][0]["logprobs"]["content"]
    assert len(tokens) in (found["usage"]["completion_tokens"], found["usage"]["completion_tokens"] - 1)
    assert all(token["logprob"] == max(other["logprob"] for other in token["top_logprobs"]) for token in tokens)
    chunks = request(app, "POST", CHAT, {**asked, "stream": True}).events[:-1]
    streamed = [each for chunk in chunks for each in (chunk["choices"][0]["logprobs"] or {"content": []})["content"]]
    assert [token["token"] for token in streamed] == [token["token"] for token in tokens]


def test_an_answer_is_held_to_a_format(make_app: Any) -> None:
    pytest.importorskip("llguidance", reason="needs the extra structured")
    app = make_app()
    schema = {"enum": ["yes", "no"]}
    asked = {**HELLO, "max_tokens": 20, "response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
    message = request(app, "POST", CHAT, asked).json()["choices"][0]["message"]
    assert json.loads(message["content"]) in ("yes", "no")
    asked["response_format"] = {"type": "json_schema", "json_schema": {"schema": {"type": "nothing"}}}
    refused = request(app, "POST", CHAT, asked)
    assert (refused.status, refused.error["param"]) == (400, "response_format")


def test_a_schema_of_a_response_is_refused_by_its_field(make_app: Any) -> None:
    pytest.importorskip("llguidance", reason="needs the extra structured")
    form = {"type": "json_schema", "name": "x", "schema": {"type": "nothing"}}
    refused = request(make_app(), "POST", "/v1/responses", {"input": "Hello", "text": {"format": form}})
    assert (refused.status, refused.error["param"]) == (400, "text.format")


def test_schemas_that_would_take_the_server_are_refused(make_app: Any) -> None:
    pytest.importorskip("llguidance", reason="needs the extra structured")
    app = make_app()
    chain = {f"d{i}": {"items": {"$ref": f"#/$defs/d{i + 1}"}} for i in range(3000)}
    for schema in ({"const": -(2**63)}, {"multipleOf": 2**31, "maximum": 1e9}, {"$defs": chain, "$ref": "#/$defs/d0"}):
        held = {**HELLO, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}
        function = {"type": "function", "function": {"name": "f", "parameters": schema}}
        for asked in (held, {**HELLO, "tools": [function], "tool_choice": "required"}):
            refused = request(app, "POST", CHAT, asked)
            assert (refused.status, "allowed: " in refused.error["message"]) == (400, True), refused.error
    assert request(app, "POST", CHAT, {**HELLO, "max_tokens": 2}).status == 200


def test_a_thought_stands_apart(make_app: Any, reasoning_artifact: Path) -> None:
    app = make_app(folders={"r": reasoning_artifact})
    asked = {**HELLO, "think_tokens": 4, "max_tokens": 180}
    message = request(app, "POST", CHAT, asked).json()
    assert "</think>" not in message["choices"][0]["message"]["content"]
    assert message["choices"][0]["message"]["reasoning_content"]
    assert 4 <= message["usage"]["completion_tokens_details"]["reasoning_tokens"] < 180
    deltas = [
        chunk["choices"][0]["delta"] for chunk in request(app, "POST", CHAT, {**asked, "stream": True}).events[:-1]
    ]
    thought = "".join(delta.get("reasoning_content", "") for delta in deltas)
    assert thought == message["choices"][0]["message"]["reasoning_content"]


def test_models_health_and_tokens(make_app: Any, models: SharedModels) -> None:
    app = make_app(folders={"a": models.artifact(), "b/c": models.artifact()})
    assert [model["id"] for model in request(app, "GET", "/v1/models").json()["data"]] == ["a", "b/c"]
    assert request(app, "GET", "/v1/models/b/c").json()["id"] == "b/c"
    assert request(app, "GET", "/v1/models/d").status == 404
    assert request(app, "GET", "/health").json() == {"status": "ok", "active": 0, "waiting": 0}
    found = request(app, "POST", "/tokenize", {"model": "a", "prompt": "Hello"}).json()
    assert (found["count"], found["max_model_len"]) == (len(found["tokens"]), 256)
    assert request(app, "POST", CHAT, {**HELLO, "model": "b/c"}).json()["model"] == "b/c"
    assert request(app, "POST", CHAT, HELLO).error["param"] == "model"


WEATHER: dict[str, Any] = {
    "name": "f",
    "parameters": {
        "type": "object",
        "properties": {"a": {"enum": [1, 2]}},
        "required": ["a"],
        "additionalProperties": False,
    },
}


def test_a_call_of_a_function(make_app: Any) -> None:
    pytest.importorskip("llguidance", reason="needs the extra structured")
    app = make_app(context=700)
    asked = {
        **HELLO,
        "max_tokens": 250,
        "tools": [{"type": "function", "function": WEATHER}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    choice = request(app, "POST", CHAT, asked).json()["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    call = choice["message"]["tool_calls"][0]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])["a"] in (1, 2)) == ("f", True)
    *chunks, last, done = request(app, "POST", CHAT, {**asked, "stream": True}).events
    deltas = [delta for chunk in chunks for delta in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert [delta["function"] for delta in deltas][: len(deltas)] == [
        call["function"] for call in choice["message"]["tool_calls"]
    ]
    assert (deltas[0]["index"], last["choices"][0]["finish_reason"], done) == (0, "tool_calls", "[DONE]")
    result = {"role": "tool", "tool_call_id": call["id"], "content": "42"}
    again = {**HELLO, "messages": [*HELLO["messages"], choice["message"], result], "tools": asked["tools"]}
    assert request(app, "POST", CHAT, again).status == 200
    wrong = {**asked, "tools": [{"type": "function", "function": {**WEATHER, "parameters": {"type": "nothing"}}}]}
    assert request(app, "POST", CHAT, wrong).error["param"] == "tools"


@pytest.mark.parametrize(("parallel", "count"), [(False, 1), (True, 3)])
@pytest.mark.parametrize("path", [CHAT, RESPONSES])
def test_an_answer_has_one_call_if_they_may_not_be_parallel(
    make_app: Any, monkeypatch: pytest.MonkeyPatch, path: str, parallel: bool, count: int
) -> None:
    app = make_app(context=700)
    model = app.models.get("tiny")
    written = '<tool_call>\n{"name": "weather", "arguments": {}}\n</tool_call>\n' * 3
    script = [*model._tokenizer.encode(written, add_bos=False), *model.manifest.tokens["eos"][:1]]

    def scripted(answer: Answer, token: int, untouched: Any) -> None:
        answer.tokens.append(script[len(answer.tokens)])
        answer.pending = answer.tokens[-1:]

    monkeypatch.setattr(Answer, "accept", scripted)
    asked = {"parallel_tool_calls": parallel, "temperature": 0}
    if path == CHAT:
        body = {**HELLO, **asked, "max_tokens": 300, "tools": [{"type": "function", "function": WEATHER}]}
        choice = request(app, "POST", path, body).json()["choices"][0]
        assert (choice["finish_reason"], len(choice["message"]["tool_calls"])) == ("tool_calls", count)
        assert choice["message"]["content"] is None
        usage = request(app, "POST", path, body).json()["usage"]
        assert (usage["completion_tokens"] < len(script) / 2) is not parallel
    else:
        body = {"input": "Hello", **asked, "tools": [{"type": "function", **WEATHER}]}
        found = request(app, "POST", path, body).json()
        assert [item["type"] for item in found["output"]] == ["function_call"] * count
        assert found["status"] == "completed"


def test_several_answers_share_the_prompt(make_app: Any) -> None:
    app = make_app()
    asked = {
        **HELLO,
        "n": 3,
        "temperature": 1.5,
        "seed": 5,
        "max_tokens": 8,
        "messages": [{"role": "user", "content": "x " * 30}],
    }
    found = request(app, "POST", CHAT, asked).json()
    texts = [choice["message"]["content"] for choice in found["choices"]]
    assert ([choice["index"] for choice in found["choices"]], len(set(texts))) == ([0, 1, 2], 3)
    one = request(app, "POST", CHAT, {**asked, "n": 1, "seed": 7}).json()["choices"][0]["message"]["content"]
    assert one == texts[2]
    chunks = request(app, "POST", CHAT, {**asked, "stream": True, "stream_options": {"include_usage": True}}).events
    streamed = ["", "", ""]
    for chunk in chunks[:-1]:
        for choice in chunk["choices"]:
            streamed[choice["index"]] += choice["delta"].get("content", "")
    assert streamed == texts
    assert chunks[-2]["usage"]["completion_tokens"] == found["usage"]["completion_tokens"]
    assert request(app, "GET", "/health").json()["active"] == 0


def test_the_first_answer_reads_the_prompt_for_all(make_app: Any) -> None:
    app = make_app()
    scheduler = app.models.get("tiny").scheduler
    submit, cached = scheduler.submit, []

    def noting(job: Any) -> None:
        emit = job.emit
        job.emit = lambda event: (cached.append(getattr(event, "cached_tokens", None)), emit(event))
        submit(job)

    scheduler.submit = noting
    asked = {"prompt": list(range(5, 105)), "n": 3, "max_tokens": 3}
    assert request(app, "POST", COMPLETIONS, asked).json()["usage"]["prompt_tokens"] == 100
    assert sorted(each for each in cached if each is not None) == [0, 99, 99]


@pytest.mark.parametrize("stream", [False, True])
def test_all_answers_end_if_time_is_up_while_the_prompt_is_read(make_app: Any, stream: bool) -> None:
    app = make_app()
    scheduler = app.models.get("tiny").scheduler
    submit = scheduler.submit

    def late(job: Any) -> None:
        begin = job.begin

        def begun(slot: Any) -> None:
            begin(slot)
            job._deadline = 0.0

        job.begin = begun
        submit(job)

    scheduler.submit = late
    found = request(app, "POST", COMPLETIONS, {"prompt": list(range(5, 105)), "n": 3, "stream": stream})
    chunks = found.events[:-1] if stream else [found.json()]
    finishes = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    assert [finish for finish in finishes if finish] == ["length"] * 3
    assert app.models._open["tiny"].is_idle


def test_a_completion_with_its_prompt_and_log_probabilities(make_app: Any) -> None:
    app = make_app()
    asked = {"prompt": "Once", "max_tokens": 5, "temperature": 0}
    text = request(app, "POST", COMPLETIONS, asked).json()["choices"][0]["text"]
    assert request(app, "POST", COMPLETIONS, {**asked, "echo": True}).json()["choices"][0]["text"] == f"Once{text}"
    stream = request(app, "POST", COMPLETIONS, {**asked, "echo": True, "stream": True}).events
    assert stream[0]["choices"][0]["text"] == "Once"
    found = request(app, "POST", COMPLETIONS, {**asked, "logprobs": 2}).json()["choices"][0]["logprobs"]
    assert {len(each) for each in found.values()} == {len(found["tokens"])}
    assert found["text_offset"][1] == len(found["tokens"][0])
    assert all(
        value == max(top.values()) for value, top in zip(found["token_logprobs"], found["top_logprobs"], strict=True)
    )


def test_a_response(make_app: Any, reasoning_artifact: Path) -> None:
    app = make_app(folders={"r": reasoning_artifact})
    asked = {
        "input": "Hello",
        "instructions": "Be brief.",
        "temperature": 0,
        "think_tokens": 4,
        "max_output_tokens": 180,
    }
    whole = request(app, "POST", "/v1/responses", asked).json()
    assert [item["type"] for item in whole["output"]] == ["reasoning", "message"]
    assert whole["usage"]["output_tokens_details"]["reasoning_tokens"] >= 4
    stream = request(app, "POST", "/v1/responses", {**asked, "stream": True})
    found = [json.loads(line[6:]) for line in stream.body.decode().splitlines() if line.startswith("data: ")]
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert found[-1]["response"]["output"][1]["content"] == whole["output"][1]["content"]
    refused = request(app, "POST", "/v1/responses", {**asked, "previous_response_id": "resp_1"})
    assert (refused.status, refused.error["param"]) == (400, "previous_response_id")


def test_metrics_count_requests_and_tokens(make_app: Any) -> None:
    app = make_app()
    done = request(app, "POST", CHAT, HELLO).json()
    request(app, "POST", CHAT, {})
    request(app, "GET", "/unknown/é")
    found = request(app, "GET", "/metrics")
    lines = found.body.decode().splitlines()
    assert found.headers["content-type"].startswith("text/plain; version=0.0.4")
    for line in (
        'edgekit_requests_total{route="/v1/chat/completions",method="POST",status="200"} 1',
        'edgekit_requests_total{route="/v1/chat/completions",method="POST",status="400"} 1',
        'edgekit_requests_total{route="other",method="GET",status="404"} 1',
        f'edgekit_tokens_total{{model="tiny",kind="completion"}} {done["usage"]["completion_tokens"]}',
        'edgekit_first_token_seconds_count{model="tiny"} 1',
        'edgekit_model_loaded{model="tiny"} 1',
    ):
        assert line in lines


def test_chunks_count_tokens_if_asked_to(make_app: Any) -> None:
    options = {"continuous_usage_stats": True}
    chunks = request(make_app(), "POST", CHAT, {**HELLO, "stream": True, "stream_options": options}).events
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks[:-1] if "usage" in chunk]
    assert counts == sorted(counts)
    assert counts[-1] >= 1


def test_the_next_turn_of_a_reasoning_model_is_prepared(make_app: Any, reasoning_artifact: Path) -> None:
    app = make_app(folders={"r": reasoning_artifact})
    first = request(app, "POST", CHAT, {**HELLO, "think_tokens": 1, "max_tokens": 110}).json()
    message = first["choices"][0]["message"]
    assert message["reasoning_content"]
    assert message["content"]
    scheduler = app.models.opened()[0].scheduler
    for _ in range(1000):
        if not scheduler._preparations:
            break
        time.sleep(0.01)
    answer = {"role": "assistant", "content": message["content"]}
    asked = {**HELLO, "messages": [*HELLO["messages"], answer, {"role": "user", "content": "Why?"}]}
    usage = request(app, "POST", CHAT, asked).json()["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    assert cached > first["usage"]["prompt_tokens"], "the answer behind the thought is not read again"
