from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from invoke import Invoke
from numpy.typing import NDArray
from tiny_artifact import write_tiny_artifact

from edgekit.runtime.loading import load
from edgekit.runtime.ort_engine import OrtEngine
from edgekit.sampling import Sampling

QUESTION = "What is the capital of France?"


@pytest.fixture
def artifact(tiny_artifact: Path) -> Path:
    return tiny_artifact


@pytest.fixture(scope="module")
def reasoning_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_artifact(tmp_path_factory.mktemp("reasoning"), reasoning=True)


def test_the_json_is_one_object_with_the_contracts_fields(invoke: Invoke, artifact: Path) -> None:
    outcome = invoke("run", artifact, "--prompt", QUESTION, "--max-tokens", 8, "--json")
    assert outcome.exit_code == 0
    found = outcome.json()
    assert {"text", "tokens", "prompt_tokens", "finish_reason", "ttft_s", "decode_tok_s"} <= found.keys()
    with load(artifact) as session:
        expected = session.chat([{"role": "user", "content": QUESTION}], max_tokens=8).complete()
    assert (found["tokens"], found["prompt_tokens"]) == (expected.tokens, expected.prompt_tokens)
    assert (found["text"], found["finish_reason"]) == (expected.text, "length")


def test_the_answer_is_on_stdout_and_its_figures_on_stderr(invoke: Invoke, artifact: Path, scripted: Any) -> None:
    scripted("Größe 🙂 你好")
    outcome = invoke("run", artifact, "--prompt", QUESTION)
    assert outcome.text == "Größe 🙂 你好\n"
    assert re.search(r"\d+ prompt \+ \d+ generated tokens, first token .*, .* tok/s", outcome.stderr)


def test_the_prompt_can_come_from_stdin(invoke: Invoke, artifact: Path) -> None:
    by_option = invoke("run", artifact, "--prompt", "Größe?", "--max-tokens", 5, "--json").json()
    by_stdin = invoke("run", artifact, "--prompt", "-", "--max-tokens", 5, "--json", stdin="Größe?".encode()).json()
    assert by_stdin["prompt_tokens"] == by_option["prompt_tokens"]
    assert by_stdin["tokens"] == by_option["tokens"]


def test_raw_leaves_the_template_out(invoke: Invoke, artifact: Path) -> None:
    raw = invoke("run", artifact, "--prompt", "Rome", "--raw", "--max-tokens", 3, "--json").json()
    with load(artifact) as session:
        assert raw["prompt_tokens"] == session.tokenizer.encode("Rome")


def test_sampling_options_reach_the_sampler(invoke: Invoke, artifact: Path) -> None:
    options = {"temperature": 1.9, "top_p": 0.99, "top_k": 300, "min_p": 0.001, "repetition_penalty": 1.2}
    arguments = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    found = invoke(
        "run", artifact, "--prompt", "x", "--raw", "--max-tokens", 25, "--json", "--seed", 4, *arguments
    ).json()
    with load(artifact) as session:
        sampling = Sampling(**options)  # type: ignore[arg-type]
        assert session.generate("x", max_tokens=25, sampling=sampling, seed=4).complete().tokens == found["tokens"]
        assert session.generate("x", max_tokens=25, seed=4).complete().tokens != found["tokens"]


def test_a_thought_is_tagged_where_it_cannot_be_dimmed(invoke: Invoke, reasoning_artifact: Path, scripted: Any) -> None:
    scripted("Let me see.\n</think>\n\nParis.")
    outcome = invoke("run", reasoning_artifact, "--prompt", QUESTION)
    assert outcome.text == "<think>\nLet me see.\n</think>\n\nParis.\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--json"], 2, "--json needs --prompt"),
        (["--raw"], 2, "--raw needs --prompt"),
        (["--prompt", "x", "--json", "--thoughts", "hide"], 2, "--thoughts cannot be combined with --json"),
        (["--prompt", "x", "--raw", "--thoughts", "show"], 2, "--thoughts cannot be combined with --raw"),
        (["--prompt", " "], 2, "the prompt is empty"),
        (["--prompt", "x", "--top-p", "2"], 2, "top_p is 2.0"),
        (["--prompt", "x", "--max-tokens", "0"], 2, "--max-tokens"),
        (["--prompt", "x", "--engine", "orr"], 10, "no engine 'orr'"),
        (["--prompt", "x", "--context", "9999"], 71, "9999"),
        (["--prompt", "word " * 2000], 71, "the context holds"),
    ],
)
def test_mistakes_have_a_message_and_an_exit_code(
    invoke: Invoke, artifact: Path, arguments: list[str], code: int, message: str
) -> None:
    outcome = invoke("run", artifact, *arguments)
    assert outcome.exit_code == code
    assert message in (outcome.text if "--json" in arguments else outcome.stderr)


def test_a_thought_has_a_budget(invoke: Invoke, reasoning_artifact: Path, scripted: Any) -> None:
    scripted("one two three four five six seven")
    outcome = invoke("run", reasoning_artifact, "--prompt", QUESTION, "--think-tokens", 4, "--max-tokens", 300)
    assert "so I will answer now.\n</think>\n\n" in outcome.text
    assert "thought closed after" in outcome.stderr
    hidden = invoke("run", reasoning_artifact, "--prompt", QUESTION, "--think-tokens", 4, "--thoughts", "hide")
    assert "<think>" not in hidden.text
    assert "so I will" not in hidden.text
    found = invoke("run", reasoning_artifact, "--prompt", QUESTION, "--think-tokens", 4, "--json").json()
    assert (found["thought_closed"], found["loops"]) == ("budget", 0)
    assert found["thought"].endswith("so I will answer now.")
    assert 4 < found["thought_tokens"] <= len(found["tokens"])


def test_a_budget_needs_a_thought(invoke: Invoke, artifact: Path, reasoning_artifact: Path) -> None:
    outcome = invoke("run", artifact, "--prompt", QUESTION, "--think-tokens", 4)
    assert outcome.exit_code == 2
    assert "does not think before it answers" in outcome.stderr
    outcome = invoke("run", reasoning_artifact, "--prompt", QUESTION, "--think-tokens", 4, "--raw")
    assert (outcome.exit_code, "plain text has no thought" in outcome.stderr) == (2, True)


def test_no_artifact_is_an_error_object_with_json(invoke: Invoke, tmp_path: Path) -> None:
    outcome = invoke("run", tmp_path, "--prompt", "x", "--json")
    assert outcome.exit_code == 60
    assert outcome.json()["error"]["kind"] == "artifact"


def test_a_prompt_that_is_not_valid_text_is_an_error(invoke: Invoke, artifact: Path) -> None:
    outcome = invoke("run", artifact, "--prompt", "-", stdin=b"\xff\xfe")
    assert outcome.exit_code == 2
    assert "not UTF-8" in outcome.stderr


def test_a_prompt_the_locale_cannot_decode_is_utf8_all_the_same(invoke: Invoke, artifact: Path) -> None:
    as_python_shows_it = "Größe?".encode().decode("ascii", errors="surrogateescape")
    found = invoke("run", artifact, "--prompt", as_python_shows_it, "--max-tokens", 1, "--json").json()
    expected = invoke("run", artifact, "--prompt", "Größe?", "--max-tokens", 1, "--json").json()
    assert found["prompt_tokens"] == expected["prompt_tokens"]
    outcome = invoke("run", artifact, "--prompt", b"\xff".decode("ascii", errors="surrogateescape"))
    assert outcome.exit_code == 2
    assert "not UTF-8" in outcome.stderr


def test_ctrl_c_ends_a_single_answer(invoke: Invoke, artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: OrtEngine, ids: Sequence[int]) -> NDArray[np.float32]:
        raise KeyboardInterrupt

    monkeypatch.setattr(OrtEngine, "evaluate", interrupted)
    assert invoke("run", artifact, "--prompt", "x").exit_code == 130


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_a_seed_outside_its_range_is_refused(invoke: Invoke, tiny_artifact: Path, seed: int) -> None:
    outcome = invoke("run", tiny_artifact, "--prompt", "x", f"--seed={seed}")
    assert outcome.exit_code == 2
    assert f"--seed is {seed}; it must be 0 or more and below 2^64" in outcome.stderr


def test_a_signature_can_be_demanded(invoke: Invoke, artifact: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    assert invoke("keygen", tmp_path / "key").exit_code == 0
    outcome = invoke("run", artifact, "--prompt", QUESTION, "--public-key", tmp_path / "key.pub")
    assert outcome.exit_code == 61
    assert "is not signed, and a signature by" in outcome.stderr
