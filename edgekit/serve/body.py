"""The body of a request: from bytes to a JSON value. What parsers read in different ways is refused."""

from __future__ import annotations

import json
from typing import Any

from ..json_file import finite_float, refuse_constant
from .fields import cut
from .request_error import RequestError

_DEEPEST = 100  # levels of lists and objects; requests need some ten, and schemas some more

_MOST_DIGITS = 400  # more than the largest float has


def parse_json(body: bytes) -> Any:
    """Read the body of a request.

    Raises:
        RequestError: It is not JSON, nests too deeply, has a number that is too large, or an object has a key twice.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            parse_int=_whole,
            parse_float=finite_float,
            parse_constant=refuse_constant,
            object_pairs_hook=_unique,
        )
    except UnicodeDecodeError as error:
        raise RequestError(f"the body is not UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise RequestError(f"the body is not valid JSON: {error}") from None
    level, depth = [value], 0
    while level:
        if depth > _DEEPEST:
            raise _too_deep()
        members = (
            each.values() if isinstance(each, dict) else each for each in level if isinstance(each, (dict, list))
        )
        level = [member for each in members for member in each if isinstance(member, (dict, list))]
        depth += 1
    return value


def _too_deep() -> RequestError:
    return RequestError(f"the body is not valid JSON: it nests too deeply; at most {_DEEPEST} levels are read")


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:  # Python's time to read them grows with their square
        raise ValueError(f"a number has {len(digits)} digits; at most {_MOST_DIGITS} are read")
    return int(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"an object has the key {json.dumps(cut(key))} twice")
            seen.add(key)
    return found
