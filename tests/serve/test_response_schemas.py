from __future__ import annotations

from edgekit.serve.response_schemas import RETURNED


def test_required_members_exist() -> None:
    for name, schema in RETURNED.items():
        assert set(schema["required"]) <= set(schema["properties"]), name
        assert schema["additionalProperties"] is False
