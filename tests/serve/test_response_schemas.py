from __future__ import annotations

from edgekit.serve.response_schemas import RETURNED


def test_required_members_exist() -> None:
    for name, schema in RETURNED.items():
        assert set(schema["required"]) <= set(schema["properties"]), name
        assert schema["additionalProperties"] is False


def test_the_usage_of_a_chunk_may_be_null() -> None:
    for name in ("ChatCompletionChunk", "Completion"):
        assert {"type": "null"} in RETURNED[name]["properties"]["usage"]["anyOf"]
