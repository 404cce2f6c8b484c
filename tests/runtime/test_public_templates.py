"""The templates of public models give what they give in transformers."""

from __future__ import annotations

import json
from functools import cache

import pytest
from public_templates import EXPECTED, FOLDER, TEMPLATES, cases

from edgekit.errors import TokenizerError
from edgekit.runtime.chat import ChatTemplate

CASES = cases()
RECORDED = json.loads(EXPECTED.read_text(encoding="utf-8"))


@cache
def template(name: str) -> ChatTemplate:
    special = next(case["special"] for case in CASES.values() if case["template"] == name)
    source = (FOLDER / name).read_text(encoding="utf-8")
    return ChatTemplate(source, special, reasoning="</think>" in source)


def test_every_case_is_recorded() -> None:
    assert set(RECORDED) == set(CASES)
    assert len(TEMPLATES) > 10
    assert all(any(RECORDED[name] for name in CASES if name.startswith(template)) for template in TEMPLATES)


@pytest.mark.parametrize("name", CASES)
def test_a_prompt_is_what_transformers_renders(name: str) -> None:
    case = CASES[name]
    arguments = {key: value for key, value in case.items() if key not in ("template", "special")}
    if RECORDED[name] is None:
        with pytest.raises(TokenizerError, match="chat template"):
            template(case["template"]).prompt(**arguments)
    else:
        assert template(case["template"]).prompt(**arguments).text == RECORDED[name]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_long_conversation_stays_within_the_limits(name: str) -> None:
    exchange = [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": "Yes."}]
    prompt = template(name).prompt(exchange * 500 + exchange[:1])
    assert prompt.text.count("Go on.") >= (1 if name == "features.jinja" else 501)
