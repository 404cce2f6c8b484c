"""A chat template: compiled, and given a conversation."""

import tiny_artifact
import tiny_checkpoint
from fuzz_changes import text_change

from edgekit.runtime.chat import ChatTemplate

_MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 2 + 3? <|eos|>"},
    {"role": "assistant", "content": "<think>Add.</think>5",
     "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
    {"role": "user", "content": [{"type": "text", "text": "Sure?"}]},
]  # fmt: skip
_TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
_PIECES = (
    "{% for m in messages %}", "{% for x in range(9) %}", "{% endfor %}", "{% if ", " %}", "{% else %}", "{% endif %}",
    "{{ ", " }}", "{% set ns = namespace(x=0) %}", "{% set ns.x = ns.x + 1 %}", "{% set x = ", "{% macro f(a, b=1) %}",
    "{% endmacro %}", "{{ f(1) }}", "{% call f(1) %}", "{% endcall %}", "{% filter upper %}", "{% endfilter %}",
    "{% break %}", "{% continue %}", "{% generation %}", "{% endgeneration %}", "{%- ", " -%}", "{# ", " #}",
    "loop.index0", "loop(x)", " recursive", "loop.cycle('a')", "m.role", "m['content']", "messages[0]", "messages[1:]",
    "[::-1]", "tools", "cycler(1, 2)", "joiner()", "lipsum(n=2)", "dict(a=1)", "self", "caller()", "varargs", "kwargs",
    " | tojson", " | tojson(indent=2)", " | trim", " | join(',')", " | length", " | list", " | map(attribute='role')",
    " | selectattr('role', 'equalto', 'user')", " | groupby('role')", " | batch(2)", " | slice(3)", " | sum",
    " | replace('a', 'b')", " | string", " | int", " | float", " | round(2)", " | format(1)", " | indent(4)",
    " | wordwrap(3)", " | xmlattr", " | urlize", " | filesizeformat", " | pprint", " | random", " | sort", " | unique",
    " | default('x', true)", " | items", " | dictsort", " | batch(0)", " | center(80)", " | truncate(5)", " | safe",
    " is defined", " is mapping", " is sameas(none)", " in ", " not in ", " ~ ", " + ", " * ", " ** ", " % ", " // ",
    " == ", " and ", " or ", " not ", "''", "'%s'", "'%999999d' % 1", "'{0.__class__}'.format(1)", ".split('x')",
    ".strip()",
    ".format(x)", ".__class__", ".items()", ".update({})", ".append(1)", ".join([1])", "0", "1e308", "9" * 30, "-1",
    "none", "true", "[]", "{}", "()", "(1,)", "raise_exception('no')", "strftime_now('%Y')", "bos_token", "x", ",", "(",
    ")",
    "[", "]", ":", ".", "<think>", "</think>", "\n", "'a' * 1000000", "range(10**9)", "{% extends x %}",
    "{% include x %}",
    "{% import x as y %}", "{% block b %}", "{% endblock %}", "{{ super() }}", "{% raw %}", "{% endraw %}",
    "{% with %}",
    "{% endwith %}", "{% do x %}", "('%(' * 99999)", "('{' ~ ':1' * 50000).format(1)", " % {}", "\ud7ff", "é", "\x00",
)  # fmt: skip
change = text_change(_PIECES)


def seeds() -> list[bytes]:
    tools = "{% if tools %}{{ tools | tojson(indent=4) }}{% endif %}{% set ns = namespace(n=0) %}"
    loop = (
        "{% for m in messages if m.role != 'x' %}{% set ns.n = ns.n + 1 %}{{ loop.index ~ m['content'] }}{% endfor %}"
    )
    macro = "{% macro f(a, b=2) -%}{{ a | upper }}{{ caller() }}{%- endmacro %}{% call f('a') %}b{% endcall %}"
    texts = (tiny_checkpoint.CHAT_TEMPLATE, tiny_artifact.REASONING_TEMPLATE, tools + loop, macro, "{{ messages }}")
    return [text.encode() for text in texts]


def read(data: bytes) -> None:
    template = ChatTemplate(data.decode("utf-8", "replace"), {"bos_token": "<|bos|>", "eos_token": "<|eos|>"})
    _ = template.opens_thought
    template.prompt(_MESSAGES, tools=_TOOLS, variables={"enable_thinking": True})
