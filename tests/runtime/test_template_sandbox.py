"""A hostile template ends with an error, in bounded time and memory; transformers' functions are there."""

from __future__ import annotations

import threading

import pytest
from jinja2 import TemplateError, TemplateSyntaxError
from jinja2.exceptions import SecurityError

from edgekit.runtime.template_meter import LimitError
from edgekit.runtime.template_sandbox import MAX_SOURCE, RefusalError, TemplateSandbox


def render(source: str, marker: str = "", **variables: object) -> str:
    return TemplateSandbox(source).render({"messages": [{"role": "user", "content": "hi"}], **variables}, 10, marker)


DOUBLING = "{% set ns = namespace(v=START) %}{% for i in range(60) %}{% set ns.v = STEP %}{% endfor %}"
HOSTILE = {
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "loops that skip": "{% for i in range(99999) %}{% for j in range(99999) if j < 0 %}{% endfor %}{% endfor %}",
    "loops over generators": "{% for i in range(999) %}{% for j in range(9999)|select %}{% endfor %}{% endfor %}",
    "a loop in a recursive loop": "{% for i in 'ab' recursive %}{{ loop(range(99999)) if loop.depth < 9 }}{% endfor %}",
    "loops of filters": "{% for j in range(99999) %}{{ range(99999)|select|list|length }}{% endfor %}",
    "sorting": "{% set l = range(99999)|list %}{% for j in range(99999) %}{% set m = l|sort %}{% endfor %}",
    "macros that branch": "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(50) }}",
    "text times a number": "{% set x = 'x' * 10**10 %}",
    "a list times a number": "{% set x = [0] * 10**10 %}",
    "powers": "{% set x = 9 ** (9 ** 9) %}",
    "squares": DOUBLING.replace("START", "3").replace("STEP", "ns.v * ns.v"),
    "widths": "{{ 'x'|center(10**9) }}",
    "chains of generators": "{% set ns = namespace(v=[1]) %}{% for i in range(20000) %}{% set ns.v = ns.v|select %}"
    "{% endfor %}{{ ns.v|list }}",
    "chains of generators that nobody reads": "{% set ns = namespace(v=[1]) %}{% for i in range(20000) %}"
    "{% set ns.v = ns.v|map('string') %}{% endfor %}",
    "widths of methods": "{{ 'x'.rjust(10**9) }}",
    "widths in formats": "{{ '%1000000000d' % 1 }}",
    "widths in str.format": "{{ '{:1000000000}'.format(1) }}",
    "a format by the filter map": "{{ ['%999999d']|map('format', 1)|list }}",
    "widths in a filter block": "{% filter center(10**9) %}x{% endfilter %}",
    "widths by the filter map": "{{ ['x']|map('center', 10**9)|list }}",
    "doubled text": DOUBLING.replace("START", "'xx'").replace("STEP", "ns.v ~ ns.v"),
    "added text": DOUBLING.replace("START", "'xx'").replace("STEP", "ns.v + ns.v"),
    "replaced text": DOUBLING.replace("START", "'xx'").replace("STEP", "ns.v.replace('x', 'xx')"),
    "doubled blocks": DOUBLING.replace("START", "'xx'").replace(
        "{% set ns.v = STEP %}", "{% set t %}{{ ns.v }}{{ ns.v }}{% endset %}{% set ns.v = t %}"
    ),
    "doubled lists": DOUBLING.replace("START", "[]").replace("STEP", "[ns.v, ns.v]") + "{{ ns.v }}",
    "doubled tuples as keys": DOUBLING.replace("START", "()").replace("STEP", "(ns.v, ns.v)") + "{{ {ns.v: 1} }}",
    "doubled dictionaries": DOUBLING.replace("START", "{}").replace("STEP", "{'a': ns.v, 1: ns.v}") + "{{ ns.v }}",
    "slices that are kept": "{% set s = 'x' * 10**6 %}{% set ns = namespace(l=[]) %}{% for i in range(99999) %}"
    "{% set ns.l = ns.l + [s[i:]] %}{% endfor %}",
    "comparisons": "{% set s = 'x' * 10**6 %}{% for i in range(9999) %}{{ s == s ~ 'y' }}{% endfor %}",
    "searches": "{% set s = 'x' * 10**6 %}{% for i in range(99999) %}{{ 'y' in s }}{% endfor %}",
    "tests": "{% set s = 'x' * 10**6 %}{% for i in range(99999) %}{{ 'y' is in(s) }}{% endfor %}",
    "separators": "{{ range(99999)|join('x' * 10**5) }}",
    "JSON": "{{ [[1]]|tojson(indent=10**9) }}",
    "filler": "{{ lipsum(n=10**6) }}",
    "time formats": "{{ strftime_now('%c' * 1000) }}",
    "negative filler": "{% set q = lipsum(-10**9) %}" + "".join(f"{{% set a{i} = 'x' * 1999999 %}}" for i in range(9)),
    "filler of one long line": "{% set q = lipsum(n=1, min=1, max=10**6) %}",
    "characters to strip": "{% set a = 'a' * 900000 %}{% set c = 'b' * 900000 ~ 'a' %}{{ a.strip(c)|length }}",
    "characters to trim": "{% set a = 'a' * 900000 %}{% set c = 'b' * 900000 ~ 'a' %}{{ a|trim(c)|length }}",
    "searches from the end": "{% set p = 'ab' ~ 'a' * 200000 %}{{ ('a' * 400000).rfind(p) }}",
    "searches in bytes": "{% set p = ('ab' ~ 'a' * 200000).encode() %}{{ ('a' * 400000).encode().rsplit(p) }}",
    "codecs": "{{ 'é'.encode('punycode') }}",
    "keys with the same hash": f"{{% set q = {{}}.fromkeys(range(0, {90_000 * (2**61 - 1)}, {2**61 - 1})) %}}",
    "pairs with the same hash": f"{{% set q = dict(range(0, {90_000 * (2**61 - 1)}, {2**61 - 1})|batch(2)|list) %}}",
    "dictionaries with the same hashes": f"{{% set a = {{}}.fromkeys(range(0, {8000 * (2**61 - 1)}, {2**61 - 1})) %}}"
    "{{ [a] * 40 == [a.copy()] * 40 }}",
    "names of attributes": "{{ [{'x': 1}]|map(attribute='x.' * 90000)|list }}",
    "deep tuples": "{% set ns = namespace(v=()) %}{% for i in range(99999) %}{% set ns.v = (ns.v,) %}{% endfor %}",
    "deep JSON": DOUBLING.replace("START", "[1]").replace("STEP", "[ns.v, ns.v]").replace("60", "18")
    + "{% for i in range(99) %}{{ ns.v|tojson(indent=999) }}{% endfor %}",
    "much output": "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_template_that_computes_too_much_is_stopped(name: str) -> None:
    with pytest.raises(LimitError):
        render(HOSTILE[name])


@pytest.mark.parametrize("source", ["{{ '%1000000000d' is odd }}", "{{ ['%999999999d']|select('even')|list }}",
    "{{ '%*d' is divisibleby((10**9, 1)) }}", "{{ 'a'|round(9, 'ceil') }}", "{{ [0]|round(9, 'floor') }}"])  # fmt: skip
def test_arithmetic_with_text_makes_no_gigabytes(source: str) -> None:
    with pytest.raises(TypeError, match="a number is needed"):
        render(source)


@pytest.mark.parametrize(
    "step",
    [
        "{% if loop.index0 == messages|length - 1 %}{% endif %}",
        "{% if messages is iterable and messages is not string and messages is defined %}{% endif %}",
        "{% if messages|first is mapping and (messages|last).role and messages[0].role %}{% endif %}",
        "{% set previous = messages[loop.index0 - 1] %}",
        "{% set ns.all = messages %}{% set x = namespace(m=messages) %}",
        "{{ last(messages) }}",
        "{% if 'tools' in given and given.get('tools') is none %}{% endif %}",
        "{% set c = m.content.strip() %}",
        "{% set x = (messages|default([])) %}",
    ],
)
def test_what_looks_at_no_message_costs_the_same_for_any_number_of_them(step: str) -> None:
    """Such an expression for each message must not make long conversations take quadratic time."""
    source = (
        "{% macro last(all) %}{{ all[-1].role }}{% endmacro %}{% set ns = namespace() %}"
        "{% for m in messages %}" + step + "{% endfor %}{{ messages|length }}"
    )
    messages = [{"role": "user", "content": "hi"}] * 4000
    rendered = TemplateSandbox(source).render({"messages": messages, "given": {"messages": messages, "tools": None}}, 0)
    assert rendered.endswith("4000")


def test_long_tools_may_be_indented() -> None:
    tools = [{"name": f"f{i}", "description": "text " * 100, "parameters": {"p": {"type": "x"}}} for i in range(400)]
    assert "text" in TemplateSandbox("{% for t in tools %}{{ t|tojson(indent=4) }}{% endfor %}").render(
        {"tools": tools}, 400 * 500
    )


def test_a_loop_of_cheap_operations_ends_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.runtime.template_meter.SECONDS", 0.2)
    with pytest.raises(LimitError, match=r"it takes more than 0\.2 seconds"):
        render("{% for i in range(99999) %}" + "{% set q = -i %}" * 500 + "{% endfor %}")


def test_the_output_is_bounded_however_long_the_messages_are() -> None:
    with pytest.raises(LimitError, match="it writes more than 16000000 characters"):
        TemplateSandbox("{% for i in range(17) %}{{ text }}{% endfor %}").render({"text": "x" * 10**6}, 10**7)


@pytest.mark.parametrize(
    "source",
    [
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for i in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
        "{% block a %}{{ self.a() }}{% endblock %}",
    ],
)
def test_endless_recursion_ends_in_any_thread(source: str) -> None:
    ended: list[BaseException] = []

    def run() -> None:
        try:
            render(source)
        except (RecursionError, LimitError) as error:
            ended.append(error)

    run()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(ended) == 2


@pytest.mark.parametrize(
    "source",
    [
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{{ " + "[" * 3000 + "]" * 3000 + " }}",
        "{{ " + "not " * 9000 + "1 }}",
        "{{ a" + ".b" * 30000 + " }}",
        "{{ 1" + "|e" * 30000 + " }}",
        "{% if 1 %}" * 2000 + "{% endif %}" * 2000,
        "x" * (MAX_SOURCE + 1),
    ],
)
def test_a_source_that_nests_too_deeply_or_is_too_long_is_refused(source: str) -> None:
    with pytest.raises(LimitError, match=r"it nests too deeply|the limit is 131072"):
        TemplateSandbox(source)


def test_a_source_that_is_not_valid_is_refused() -> None:
    with pytest.raises(TemplateSyntaxError):
        TemplateSandbox("{% for %}")
    with pytest.raises(TemplateError):
        TemplateSandbox("{{ " + "9" * 100_000 + " }}").render({}, 0)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ raise_exception.__globals__.x }}",
        "{{ [].__len__() }}",
    ],
)
def test_the_sandbox_is_closed(source: str) -> None:
    with pytest.raises((SecurityError, TemplateError)):
        render(source + "{{ ''.__class__.x.y }}")


def test_what_transformers_provides() -> None:
    assert render("{{ {'b': 'é<', 'a': 1}|tojson }}") == '{"b": "é<", "a": 1}'
    assert render(
        "{{ {'b': 'é', 'a': 1}|tojson(ensure_ascii=True, indent=1, separators=(',', ': '), sort_keys=True) }}"
    ) == ('{\n "a": 1,\n "b": "\\u00e9"\n}')
    with pytest.raises(RefusalError, match="no"):
        render("{{ raise_exception('no') }}")
    with pytest.raises(RefusalError, match=r"\[1\]"):
        render("{{ raise_exception([1]) }}")
    assert render("{% generation %}{% set a = 1 %}{{ a }}{% endgeneration %}{{ a }}") == "1"


def test_json_keeps_the_mark_even_as_ascii() -> None:
    mark = "\U000f1234"
    assert render("{{ x|tojson(ensure_ascii=true) }}", mark, x=f"<{mark}é") == f'"<{mark}\\u00e9"'


def test_renderings_share_nothing() -> None:
    template = TemplateSandbox("{% for i in range(90000) %}{% endfor %}{{ x }}")
    assert [template.render({"x": i}, 0) for i in range(20)] == [str(i) for i in range(20)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ {}.fromkeys(['a', 'b'], 'x') }}", "{'a': 'x', 'b': 'x'}"),
        ("{{ {}.fromkeys(['a'], [1]) }}", "{'a': [1]}"),
        ("{{ dict([('a', [1])], b='x') }}", "{'a': [1], 'b': 'x'}"),
        ("{{ namespace({'a': [1]}).a }}", "[1]"),
        ("{% set c = cycler([1], 'x') %}{{ c.next() }}{{ c.next() }}", "[1]x"),
    ],
)
def test_what_is_kept_is_what_was_given(source: str, expected: str) -> None:
    assert render(source) == expected
