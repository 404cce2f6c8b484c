"""Compiling a template takes bounded time and memory, whatever jinja2's compiler makes of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from jinja2 import Environment, nodes

from edgekit.runtime.template_compiler import MAX_CODE, metered
from edgekit.runtime.template_meter import LimitError
from edgekit.runtime.template_sandbox import TemplateSandbox


def variables(count: int) -> str:
    return "".join(f"{{%set v{i}=1%}}" for i in range(count))


GROWING = {
    "includes": variables(600) + "{%include x%}" * 600,
    "imports": variables(600) + "{%import x as y with context%}" * 600,
    "scoped blocks": variables(600) + "".join(f"{{%block b{i} scoped%}}{{%endblock%}}" for i in range(600)),
    "output": "{{a}}" * 20_000,
    "indentation": "{%if a%}" * 90 + "{{a}}" * 5000 + "{%endif%}" * 90,
    "macros": "{%macro a()%}" * 50 + "{{a}}" * 20_000 + "{%endmacro%}" * 50,
    "calls": "{%call a()%}" * 50 + "{{a}}" * 20_000 + "{%endcall%}" * 50,
    "branches": variables(1500) + "{%if a%}" + "{%elif a%}" * 1500 + "{%endif%}",
    "a long literal": "{{[" + "a," * 60_000 + "]}}",
}


@pytest.mark.parametrize("name", GROWING)
def test_a_source_that_grows_too_much_is_refused(name: str) -> None:
    with pytest.raises(
        LimitError, match=rf"more than {MAX_CODE} characters of code|too many names, branches or nested"
    ):
        TemplateSandbox(GROWING[name])


def test_an_include_that_is_never_reached_does_no_harm() -> None:
    assert TemplateSandbox("{% if false %}{% include 'x' %}{% endif %}a").render({}, 0) == "a"


def test_a_long_template_is_compiled() -> None:
    block = "{% if m.role == 'tool' and m.content %}{{ '<tool>' ~ m.content|trim ~ '</tool>' }}{% endif %}"
    loop = "{% for m in messages %}" + variables(100) + block * 400 + "{% endfor %}"
    assert len(loop) > 36_000
    assert "<tool>a</tool>" in TemplateSandbox(loop).render({"messages": [{"role": "tool", "content": "a"}]}, 10)


@pytest.mark.parametrize(
    ("source", "filters"),
    [
        ("{% for a in b %}{% endfor %}", ["edgekit_looped"]),
        ("{{ a == b }}", ["edgekit_read", "edgekit_read"]),
        ("{{ a in b }}", ["edgekit_read", "edgekit_searched"]),
        ("{{ a not in b }}", ["edgekit_read", "edgekit_searched"]),
        ("{{ a ~ b }}", ["edgekit_concat"]),
        ("{{ a[b] }}", ["edgekit_read"]),
        ("{{ a[b:] }}", ["edgekit_sliced"]),
        ("{{ [a] }}{{ (a,) }}", ["edgekit_made", "edgekit_made"]),
        ("{{ {a: b} }}", ["edgekit_made", "edgekit_read"]),
        ("{% set a, b = c %}{{ a.b }}", []),
    ],
)
def test_what_is_counted(source: str, filters: Sequence[str]) -> None:
    found = metered(Environment(autoescape=True).parse(source)).find_all(nodes.Filter)
    assert sorted(each.name for each in found) == sorted(filters)
