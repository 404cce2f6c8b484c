"""Clients that others have written, against a running server: LangChain and schemathesis."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from running_server import running_server
from shared_models import SharedModels

pytestmark = pytest.mark.slow
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "negative_data_rejection"
)


@pytest.fixture
def url(models: SharedModels) -> Iterator[str]:
    with running_server({"tiny": models.artifact()}, "--context", "700") as found:
        yield found


def test_langchain(url: str, clients: Callable[..., str]) -> None:
    found = json.loads(clients("langchain_client.py", url))
    assert found["call"]["number"] in (1, 2)


def test_what_the_document_allows_gets_what_the_document_says(
    models: SharedModels, clients: Callable[..., str]
) -> None:
    with running_server({"tiny": models.artifact()}, "--context", "256", "--max-tokens", "4") as found:
        printed = clients(
            "-mschemathesis.cli", "run", f"{found}/openapi.json", "--phases", "coverage,fuzzing",
            "--max-examples", 8, "--seed", 1, "--checks", CHECKS, "--no-color",
        )  # fmt: skip
    assert "8 selected / 8 total" in printed  # all but the document itself
    assert "No issues found" in printed
