"""Names of repositories on the hub as people type them, and the choice of a GGUF file."""

from __future__ import annotations

import pytest

from edgekit.errors import SourceError
from edgekit.recipes.hub_name import HubName, choose_gguf, gguf_files, parse_hub_name

QWEN = "Qwen/Qwen2.5-0.5B-Instruct"
PARTS = [f"Q8_0/m-Q8_0-0000{i}-of-00002.gguf" for i in (1, 2)]
FILES = ["README.md", "m-Q4_K_M.gguf", "m-Q4_K_S.gguf", "m-IQ4_XS.gguf", "m-UD-Q2_K_XL.gguf", "m.f16.gguf", *PARTS]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (QWEN, HubName(QWEN)),
        (f"{QWEN}@main", HubName(QWEN, "main")),
        (f"{QWEN}@refs/pr/3", HubName(QWEN, "refs/pr/3")),
        (f"{QWEN}:Q4_K_M", HubName(QWEN, None, "Q4_K_M")),
        (f"{QWEN}@v1:a.gguf", HubName(QWEN, "v1", "a.gguf")),
        (f"{QWEN}/sub/a.gguf", HubName(QWEN, None, "sub/a.gguf")),
        (f"https://huggingface.co/{QWEN}", HubName(QWEN)),
        (f"https://huggingface.co/{QWEN}/", HubName(QWEN)),
        (f"http://www.huggingface.co/{QWEN}/tree/main", HubName(QWEN, "main")),
        (f"https://huggingface.co/{QWEN}/tree/refs%2Fpr%2F3", HubName(QWEN, "refs/pr/3")),
        (f"https://huggingface.co/{QWEN}/tree/refs/pr/3", HubName(QWEN, "refs/pr/3")),
        (f"https://huggingface.co/{QWEN}/blob/main/config.json", HubName(QWEN, "main")),
        (f"https://huggingface.co/{QWEN}/resolve/v1/q/a.gguf?download=true", HubName(QWEN, "v1", "q/a.gguf")),
        (f"https://huggingface.co/{QWEN}/discussions/2#x", HubName(QWEN)),
        (f"huggingface.co/{QWEN}", HubName(QWEN)),
        (f"hf.co/{QWEN}", HubName(QWEN)),
        (f"hf://{QWEN}", HubName(QWEN)),
        ("r1-1.5b", None),
        ("gpt2", None),
        ("a/b/c", None),
        ("folder/file.gguf", None),
        ("a b/c", None),
        ("../a", None),
        ("-a/b", None),
        ("a/b:", None),
        ("", None),
    ],
)
def test_a_name(text: str, expected: HubName | None) -> None:
    assert parse_hub_name(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("https://example.com/a/b", "not an address of the Hugging Face hub"),
        ("https://huggingface.co/datasets/a/b", "a data set"),
        ("https://huggingface.co/spaces/a/b", "a space"),
        ("https://huggingface.co/a", "does not name a model"),
        ("https://huggingface.co", "does not name a model"),
        ("ftp://huggingface.co/a/b", "not an address"),
        ("https://[", "not a valid web address"),
        ("https://hf.co\uff0fa/b", "not a valid web address"),
    ],
)
def test_an_address_of_something_else(text: str, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        parse_hub_name(text)


def test_a_mirror_named_by_hf_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/hub")
    assert parse_hub_name(f"https://mirror.example/{QWEN}") == HubName(QWEN)


def test_hf_endpoint_is_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://[")
    with pytest.raises(SourceError, match="HF_ENDPOINT"):
        parse_hub_name(f"https://mirror.example/{QWEN}")


def test_the_models_among_the_files() -> None:
    others = ["mmproj-F16.gguf", "imatrix.gguf"]
    assert gguf_files([*FILES, *others]) == {
        "m-Q4_K_M.gguf": "Q4_K_M",
        "m-Q4_K_S.gguf": "Q4_K_S",
        "m-IQ4_XS.gguf": "IQ4_XS",
        "m-UD-Q2_K_XL.gguf": "UD-Q2_K_XL",
        "m.f16.gguf": "F16",
        PARTS[0]: "Q8_0",
    }
    assert gguf_files(["model.gguf"]) == {"model.gguf": "model.gguf"}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("Q4_K_M", "m-Q4_K_M.gguf"),
        ("q4_k_s", "m-Q4_K_S.gguf"),
        ("m-IQ4_XS.gguf", "m-IQ4_XS.gguf"),
        ("m-IQ4_XS", "m-IQ4_XS.gguf"),
        ("Q2_K_XL", "m-UD-Q2_K_XL.gguf"),
        ("f16", "m.f16.gguf"),
        ("Q8_0", PARTS[0]),
        (PARTS[0], PARTS[0]),
        ("m-Q8_0", PARTS[0]),
    ],
)
def test_a_choice(wanted: str, expected: str) -> None:
    assert choose_gguf("a/b", FILES, wanted) == expected


def test_the_only_file_needs_no_choice() -> None:
    assert choose_gguf("a/b", ["README.md", "x.gguf"], "") == "x.gguf"
    assert choose_gguf("a/b", PARTS, "") == PARTS[0]


def test_a_choice_that_is_missing() -> None:
    with pytest.raises(SourceError, match=r"a/b holds 6 GGUF models: .*m-Q4_K_M.gguf") as several:
        choose_gguf("a/b", FILES, "")
    assert "a/b:" in several.value.hint
    with pytest.raises(SourceError, match=r"a/b has no GGUF file 'Q5_K_M'; found: .*m-Q4_K_M") as unknown:
        choose_gguf("a/b", FILES, "Q5_K_M")
    assert "Q4_K_M" in unknown.value.hint
    with pytest.raises(SourceError, match=r"may mean: x-Q4_0.gguf, y-Q4_0.gguf") as double:
        choose_gguf("a/b", ["x-Q4_0.gguf", "y-Q4_0.gguf", "z-Q8_0.gguf"], "Q4_0")
    assert double.value.hint.endswith("a/b:x-Q4_0.gguf")
    with pytest.raises(SourceError, match="found: none"):
        choose_gguf("a/b", ["config.json"], "Q4_0")
