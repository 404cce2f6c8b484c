from __future__ import annotations

import pytest

from edgekit.errors import ContextLengthError, EngineError, FormatError, MissingPackageError, TokenizerError
from edgekit.serve.request_error import RequestError, request_error


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (401, "authentication_error"), (404, "not_found_error"),
     (429, "rate_limit_error"), (500, "server_error"), (503, "server_error")],
)  # fmt: skip
def test_the_body_has_openais_form(status: int, kind: str) -> None:
    error = RequestError("it is wrong", status=status, param="n", code="c")
    assert error.body == {"error": {"message": "it is wrong", "type": kind, "param": "n", "code": "c"}}


def test_errors_of_the_runtime_are_the_clients_or_the_servers() -> None:
    context = request_error(ContextLengthError("9 tokens; 8 fit", hint="shorten it"), "messages")
    assert (context.status, context.code, context.param) == (400, "context_length_exceeded", "messages")
    assert context.message == "9 tokens; 8 fit; shorten it"
    assert request_error(TokenizerError("no such role")).status == 400
    assert request_error(ValueError("seed")).status == 400
    assert request_error(FormatError("too many expressions")).status == 400
    assert request_error(MissingPackageError("no llguidance")).status == 501
    assert (request_error(EngineError("no memory")).status, request_error(EngineError("x")).code) == (500, "engine")
