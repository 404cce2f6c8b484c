"""A recipe's values: their ranges and their JSON."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.recipes import FolderSource, HubSource, PackageSource, load_recipe
from edgekit.recipes.recipe import source_kind


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "AB" * 32},
        {"version": ">=1"},
        {"package": "-e ."},
        {"member": "../outside.gguf"},
        {"member": "/etc/passwd"},
        {"member": ""},
    ],
)
def test_a_package_source_that_could_mean_something_else_is_refused(change: dict[str, str]) -> None:
    good = PackageSource("a-b", "0.1.2", "ab" * 32, "a/b.gguf")
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(good, **change)


def test_json_holds_everything_and_names_the_kind_of_source() -> None:
    shown = load_recipe("smollm2-135m").to_json()
    assert shown["source"]["kind"] == "package"
    assert shown["quantization"]["linear"] == {"bits": 4, "block_size": 32, "symmetric": False}
    assert shown["plan_only"] is None


def test_every_kind_of_source_has_a_name() -> None:
    package = PackageSource("a-b", "0.1.2", "ab" * 32, "a/b.gguf")
    sources = [HubSource("a/b", "0" * 40), package, FolderSource("here")]
    assert [source_kind(source) for source in sources] == ["hub", "package", "folder"]
    assert [str(source) for source in sources] == ["a/b at 000000000000", "a-b 0.1.2, a/b.gguf", "here"]


@pytest.mark.parametrize("alias", ["", "R1", "a b", "-x", "owner/name"])
def test_an_alias_is_one_plain_word(alias: str) -> None:
    with pytest.raises(ValueError, match="alias is"):
        replace(load_recipe("smollm2-135m"), aliases=(alias,))
