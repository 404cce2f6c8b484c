from __future__ import annotations

import gc
from typing import Any

import pytest
from asgi_client import request

from edgekit.serve.format_budget import FormatBudget
from edgekit.serve.request_error import RequestError


class Holder:
    pass


def test_characters_are_held_until_their_holder_is_freed() -> None:
    budget, holder = FormatBudget(10), Holder()
    with budget.taken(6) as taken:
        taken.until_freed(holder)
    assert budget.held == 6
    with pytest.raises(RequestError, match="try again in about 5 s") as caught, budget.taken(5):
        pass
    assert (caught.value.status, caught.value.headers) == (503, {"retry-after": "5"})
    with budget.taken(4):
        assert budget.held == 10
    assert budget.held == 6
    del holder
    assert budget.held == 0


def test_a_grammar_that_fails_gives_its_characters_back() -> None:
    budget = FormatBudget(10)
    with pytest.raises(ValueError, match="not valid"), budget.taken(5):
        raise ValueError("not valid")
    assert budget.held == 0


def test_one_alone_may_take_more() -> None:
    with FormatBudget(10).taken(11) as taken:
        assert not taken.is_held


def test_what_an_answer_held_is_freed_with_it(make_app: Any) -> None:
    pytest.importorskip("llguidance", reason="needs the extra structured")
    app = make_app()
    schema = {"type": "json_schema", "json_schema": {"schema": {"enum": ["yes", "no"]}}}
    asked = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 6, "response_format": schema}
    gc.collect()
    gc.disable()
    try:
        for more in ({"n": 2}, {"stream": True}):
            assert request(app, "POST", "/v1/chat/completions", {**asked, **more}).status == 200
        (model,) = app.models.opened()
        model.close()  # waits for the thread of the scheduler
        assert model._formats.held == 0
    finally:
        gc.enable()
