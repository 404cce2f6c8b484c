"""A request that is refused or fails, in the form of OpenAI's API: an HTTP status and an ``error`` object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ContextLengthError, EdgekitError, FormatError, MissingPackageError, TokenizerError, TokenRangeError

_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class RequestError(Exception):
    """A refusal, or a failure, to be sent to the client.

    Args:
        message: What was found and what is allowed.
        status: The HTTP status.
        param: The key of the request that is wrong, such as ``messages[0].role``.
        code: A word for programs, such as ``context_length_exceeded``.
        headers: Further headers of the response.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.param, self.code = message, status, param, code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object of the response."""
        default = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = _TYPES.get(self.status, default)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def shutting_down() -> RequestError:
    """The refusal of a server that ends."""
    return RequestError("the server is shutting down", status=503)


def unopened(error: EdgekitError) -> RequestError:
    """The failure that an artifact cannot be opened, of which no request is the cause."""
    message = f"the model cannot be opened: {error.message}{f'; {error.hint}' if error.hint else ''}"
    return RequestError(message, status=501 if isinstance(error, MissingPackageError) else 500, code=error.kind)


def request_error(error: EdgekitError | ValueError, param: str | None = None) -> RequestError:
    """The refusal or failure that an error of the runtime means for a client.

    Args:
        error: From rendering or encoding a prompt, or from the engine.
        param: The key of the request that the error is about, if it is the client's.
    """
    if not isinstance(error, EdgekitError):
        return RequestError(str(error), param=param)
    message = f"{error.message}; {error.hint}" if error.hint else error.message
    if isinstance(error, ContextLengthError):
        return RequestError(message, param=param, code="context_length_exceeded")
    if isinstance(error, (FormatError, TokenizerError, TokenRangeError)):
        return RequestError(message, param=param)
    return RequestError(message, status=501 if isinstance(error, MissingPackageError) else 500, code=error.kind)
