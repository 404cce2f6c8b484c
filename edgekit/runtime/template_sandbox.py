"""The environment that chat templates run in: what transformers gives them, in jinja2's sandbox, with bounds.

Templates of public models rely on transformers' environment (``utils/chat_template_utils.py``): blocks leave no blank
lines, ``tojson`` takes the arguments of ``json.dumps`` and escapes nothing, ``raise_exception`` and ``strftime_now``
are functions, loops know break and continue, and ``{% generation %}`` marks text for training.

jinja2's immutable sandbox keeps a template away from files and Python objects. ``template_meter.py`` bounds what it
computes: jinja2 lets an environment replace calls, operators, filters and tests; for the rest (loops, comparisons,
lists, slices and ``~``) ``template_compiler.py`` inserts filters of our own into the parsed template.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from types import CodeType
from typing import Any, NoReturn, cast

from jinja2 import Template, TemplateError, nodes, pass_context
from jinja2.filters import FILTERS as DEFAULT_FILTERS
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.tests import TESTS as DEFAULT_TESTS
from jinja2.utils import Cycler, Joiner, Namespace, generate_lorem_ipsum

from .template_budget import current_budget
from .template_compiler import BoundedGenerator, GenerationTag, metered
from .template_costs import (
    CHOOSING_FILTERS,
    FILTERS,
    LOOKING_FILTERS,
    LOOKING_METHODS,
    LOOKING_TESTS,
    METHODS,
    READ_FIRST,
    TESTS,
    binary_cost,
    json_size,
    read_first,
)
from .template_meter import LimitError, Meter, iterators

MAX_SOURCE = 128 * 1024  # characters; the longest template in use has 20 thousand
MAX_OUTPUT = 16_000_000  # characters; the longest contexts in use hold ten million tokens, and no device does
_FORMAT = 200  # characters of a time format
_MACRO = 10  # steps that take as long as a call of a macro
_VARIABLES = frozenset({"_loop_vars", "_block_vars"})  # jinja2 adds these arguments, which few functions get
_KEEPING = (Namespace, Cycler, Joiner)  # these keep their arguments, and do not look into them


class RefusalError(TemplateError):
    """The template called ``raise_exception``."""


class TemplateSandbox:
    """A compiled template.

    Args:
        source: The template.

    Raises:
        jinja2.TemplateError: The source is not valid, or too long or too deeply nested.
    """

    def __init__(self, source: str) -> None:
        if len(source) > MAX_SOURCE:
            raise LimitError(f"it has {len(source)} characters; the limit is {MAX_SOURCE}")
        try:
            self._code: CodeType = _Environment(Meter(0)).compile(source)
        except (RecursionError, MemoryError, SyntaxError) as error:  # of jinja2's parser or of Python's compiler
            raise LimitError(f"it nests too deeply: {type(error).__name__}") from None
        except (ValueError, OverflowError) as error:  # a number of thousands of digits
            raise TemplateError(str(error)) from None

    def render(self, variables: Mapping[str, object], characters: int, marker: str = "") -> str:
        """Render the template. Renderings share nothing, so several threads may do it at once.

        Args:
            variables: What the template can use besides transformers' functions.
            characters: Size of the variables; the limits grow with it.
            marker: A character that ``tojson`` keeps as it is, or empty.

        Raises:
            RefusalError: The template called ``raise_exception``.
            SharedLimitError: It and what was rendered before exceed the budget of the command.
            jinja2.TemplateError: The template fails or exceeds a limit. Templates also raise Python's exceptions.
        """
        budget = current_budget()
        meter = Meter(characters, budget)
        with budget.spent():
            return self._written(variables, meter, marker)

    def _written(self, variables: Mapping[str, object], meter: Meter, marker: str) -> str:
        environment = _Environment(meter, marker)
        template = Template.from_code(environment, self._code, environment.make_globals(None))
        pieces, length = [], 0
        for piece in template.root_render_func(template.new_context(dict(variables))):
            meter.step()
            meter.produce(len(piece))
            pieces.append(piece)
            length += len(piece)
            if length > MAX_OUTPUT:
                raise LimitError(f"it writes more than {MAX_OUTPUT} characters")
        return "".join(pieces)


class _Environment(ImmutableSandboxedEnvironment):
    """The environment of one rendering."""

    code_generator_class = BoundedGenerator
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self, meter: Meter, marker: str = "") -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # the optimizer computes constants without counting
            finalize=self._finalize,
            extensions=[GenerationTag, "jinja2.ext.loopcontrols"],
        )
        self.meter = meter
        self.marker = marker
        self.filters = cast(Any, _FILTERS)
        self.tests = cast(Any, _TESTS)
        self.globals = {
            **self.globals,
            "lipsum": self._lipsum,
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return metered(super()._parse(source, name, filename))

    def _finalize(self, value: object) -> object:
        """Count a value that is printed."""
        if type(value) is not str:
            self.meter.read(value)
        return value

    def concat(self, pieces: Iterable[str]) -> str:
        """The text of a macro or a block."""
        kept = []
        for piece in pieces:
            self.meter.step()
            self.meter.produce(len(piece))
            kept.append(piece)
        return "".join(kept)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        binary_cost(self.meter, operator, left, right)
        return self.meter.made(super().call_binop(context, operator, left, right))

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        meter = self.meter
        owner = getattr(getattr(function, "__wrapped__", function), "__self__", None)
        name = str(getattr(function, "__name__", ""))
        given = [*args, *(value for key, value in kwargs.items() if key not in _VARIABLES)]
        depth = 1 + iterators(*given)
        if isinstance(function, Macro):
            meter.step(_MACRO)
        elif function not in _KEEPING:
            meter.read(*given)
        if function in (dict, Namespace) or name == "fromkeys":  # finding a place for a key may take long
            if args and not isinstance(args[0], (dict, int, type(None))):
                args = (meter.watched(args[0]), *args[1:])  # fromkeys keeps its second argument
        elif isinstance(function, LoopContext):
            args = tuple(map(meter.watched, args))
        elif isinstance(owner, (str, bytes, int, float, list, tuple, dict)):
            if name not in LOOKING_METHODS:
                meter.read(owner)
            if (cost := METHODS.get(name)) is not None:
                given[: len(args)] = args = tuple(map(read_first, args)) if name == "join" else args
                meter.produce(cost(meter, owner, given))
        made = meter.made(super().call(context, function, *args, **kwargs), depth)
        if isinstance(owner, (str, bytes)) and isinstance(made, (list, tuple)):
            meter.produce(meter.size(made))  # its texts are new
        return made

    def filtered(self, name: str, function: Callable[..., Any], first: list[Any], args: Any, kwargs: Any) -> Any:
        """Call a filter.

        Args:
            name: The filter's name.
            function: The filter.
            first: What it takes before the value: the context, the environment or nothing.
            args, kwargs: The value and the arguments that the template gives.
        """
        meter, depth = self.meter, 1 + iterators(*args, *kwargs.values())
        is_copy = name == "list" and bool(args) and isinstance(args[0], (list, tuple, Mapping))
        if name in READ_FIRST and args:
            args = (read_first(meter.looped(args[0])), *args[1:])
        (meter.look if name in LOOKING_FILTERS else meter.read)(*args, *kwargs.values())
        if args and (cost := FILTERS.get(name)) is not None:
            meter.produce(cost(meter, args[0], [*args[1:], *kwargs.values()]))
        result = function(*first, *args, **kwargs)
        if is_copy:
            return meter.sliced(result)
        is_there = name in CHOOSING_FILTERS and not isinstance(result, Iterator)
        return result if is_there else meter.made(result, depth)

    def tested(self, name: str, function: Callable[..., Any], first: list[Any], args: Any, kwargs: Any) -> Any:
        """Call a test; as :meth:`filtered`."""
        meter = self.meter
        if name == "in" and len(args) == 2 and isinstance(args[1], Mapping):
            meter.read(args[0])
        else:
            (meter.look if name in LOOKING_TESTS else meter.read)(*args, *kwargs.values())
        if args and (cost := TESTS.get(name)) is not None:
            cost(meter, args[0], [*args[1:], *kwargs.values()])
        return function(*first, *args, **kwargs)

    def _lipsum(self, n: int = 5, html: bool = True, min: int = 20, max: int = 100) -> str:
        words = (n if n > 0 else 0) * ((max if max > 0 else 0) + 1)
        self.meter.step(words)
        self.meter.produce(16 * words)
        return generate_lorem_ipsum(n, html, min, max)


def _counting(function: Callable[..., Any], name: str, caller: str) -> Callable[..., Any]:
    """A filter or a test that counts what it reads and produces; ``caller`` is the environment's method for it."""
    wants = getattr(getattr(function, "jinja_pass_arg", None), "name", "")

    # A filter that takes the context is never computed when the template is compiled.
    @pass_context
    def call(context: Context, /, *args: Any, **kwargs: Any) -> Any:
        environment: Any = context.environment
        given = {"context": context, "eval_context": context.eval_ctx, "environment": environment}
        return getattr(environment, caller)(name, function, [given[wants]] if wants else [], args, kwargs)

    return call


@pass_context
def _looped(context: Context, value: Any) -> Any:
    return context.environment.meter.watched(value)  # type: ignore[attr-defined]


@pass_context
def _read(context: Context, value: Any) -> Any:
    if type(value) is not bool and value is not None:
        context.environment.meter.read(value)  # type: ignore[attr-defined]
    return value


@pass_context
def _searched(context: Context, value: Any) -> Any:
    """What ``in`` searches; in a dictionary, it finds a key at once."""
    if isinstance(value, Mapping):
        context.environment.meter.step()  # type: ignore[attr-defined]
        return value
    return _read(context, value)


@pass_context
def _sliced(context: Context, value: Any) -> Any:
    return context.environment.meter.sliced(value)  # type: ignore[attr-defined]


@pass_context
def _made(context: Context, value: Any) -> Any:
    return context.environment.meter.made(value)  # type: ignore[attr-defined]


@pass_context
def _concat(context: Context, values: list[Any]) -> str:
    environment: Any = context.environment
    return str(environment.concat([str(environment._finalize(value)) for value in values]))


@pass_context
def _to_json(
    context: Context,
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    environment: Any = context.environment
    if indent is None:
        environment.meter.produce(json_size(environment.meter, value, separators))
        text = encoder.encode(value)
    else:  # Python writes it piece by piece
        text = environment.concat(encoder.iterencode(value))
    marker: str = environment.marker
    return text.replace(json.dumps(marker)[1:-1], marker) if ensure_ascii and marker else text


def _raise_exception(message: object) -> NoReturn:
    raise RefusalError(str(message))


def _strftime_now(format: str) -> str:
    if len(format) > _FORMAT:
        raise LimitError(f"it formats the time with {len(format)} characters; the limit is {_FORMAT}")
    return datetime.now().strftime(format)


_FILTERS: dict[str, Callable[..., Any]] = {
    **{name: _counting(cast(Any, function), name, "filtered") for name, function in DEFAULT_FILTERS.items()},
    "tojson": _counting(_to_json, "tojson", "filtered"),
    "edgekit_looped": _looped,
    "edgekit_read": _read,
    "edgekit_made": _made,
    "edgekit_searched": _searched,
    "edgekit_sliced": _sliced,
    "edgekit_concat": _concat,
}
_TESTS: dict[str, Callable[..., Any]] = {
    name: _counting(cast(Any, function), name, "tested") for name, function in DEFAULT_TESTS.items()
}
