"""Compiles chat templates: inserts what counts into the parsed template, and bounds the work of compiling it.

jinja2's compiler writes Python code that may be far longer than the template: each ``{% include %}`` and each scoped
block lists all variables that are set before it. It also goes through the content of a loop or a macro once for each of
those around it, and copies the table of names for each branch of an ``{% if %}``.
"""

from __future__ import annotations

from typing import Any, cast

from jinja2 import nodes
from jinja2.compiler import CodeGenerator
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.visitor import NodeTransformer

from .template_meter import LimitError

# Characters of Python code. Templates in use become seven times as long, at most 160 thousand. Python's compiler takes
# some 130 bytes of memory and 0.2 microseconds for each.
MAX_CODE = 1_000_000
MAX_VISITS = 1_000_000  # of a template's nodes, and copies of its names; templates in use need some ten thousand

_SCOPES = (nodes.Block, nodes.CallBlock, nodes.FilterBlock, nodes.For, nodes.Macro, nodes.With)


class BoundedGenerator(CodeGenerator):
    """jinja2's compiler with a limit on what it writes."""

    def write(self, x: str) -> None:
        """Write code."""
        super().write(x)
        if self.stream.tell() > MAX_CODE:
            raise LimitError(f"it becomes more than {MAX_CODE} characters of code")


def metered(template: nodes.Template) -> nodes.Template:
    """Insert filters that count loops, comparisons, slices, literals and ``~``.

    Args:
        template: The parsed template, which is changed.

    Raises:
        LimitError: Compiling it would take too long.
    """
    inserting = _Inserting()
    counted: nodes.Template = inserting.visit(template)
    inserting.check()
    return counted


class _Inserting(NodeTransformer):
    """Inserts the filters, and counts what the compiler will do."""

    def __init__(self) -> None:
        self._visits = self._nodes = self._branches = 0
        self._names: set[str] = set()

    def check(self) -> None:
        """Refuse what takes too long to compile."""
        if self._visits + self._branches * len(self._names) > MAX_VISITS:
            raise LimitError("it has too many names, branches or nested loops to be compiled")

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        """Visit a node and what is in it."""
        before = self._nodes
        self.generic_visit(node)
        self._nodes += 1
        if isinstance(node, nodes.Name):
            self._names.add(node.name)
        elif isinstance(node, nodes.If):
            self._branches += 1
        elif isinstance(node, _SCOPES):
            self._visits += self._nodes - before
        return _with_filters(node)


def _with_filters(node: nodes.Node) -> nodes.Node:
    if isinstance(node, nodes.For):
        node.iter = _filter("edgekit_looped", node.iter)
    elif isinstance(node, nodes.Compare):
        node.expr = _filter("edgekit_read", node.expr)
        for operand in node.ops:
            operand.expr = _filter(
                "edgekit_searched" if operand.op in ("in", "notin") else "edgekit_read", operand.expr
            )
    elif isinstance(node, nodes.Concat):
        return _filter("edgekit_concat", nodes.List(node.nodes, lineno=node.lineno))
    elif isinstance(node, nodes.Getitem):
        if isinstance(node.arg, nodes.Slice):
            return _filter("edgekit_sliced", node)
        node.arg = _filter("edgekit_read", node.arg)  # a key may take long to hash
    elif isinstance(node, nodes.Dict):
        for pair in node.items:
            pair.key = _filter("edgekit_read", pair.key)
        return _filter("edgekit_made", node)
    elif isinstance(node, nodes.List) or (isinstance(node, nodes.Tuple) and node.ctx == "load"):
        return _filter("edgekit_made", node)
    return node


def _filter(name: str, value: nodes.Node) -> nodes.Expr:
    if isinstance(value, nodes.Const):
        return value
    return nodes.Filter(cast(nodes.Expr, value), name, [], [], None, None, lineno=value.lineno)


class GenerationTag(Extension):
    """``{% generation %}...{% endgeneration %}`` prints its content."""

    tags = {"generation"}  # noqa: RUF012  (jinja2 declares it as an instance attribute)

    def parse(self, parser: Parser) -> nodes.Node:
        """Read the content."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)  # transformers makes a block of it; what is set inside stays inside
