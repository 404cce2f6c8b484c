"""edgekit-run gives the results of the Python commands: the same answers, fields, exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from run_program import PROGRAM, result, run
from shared_models import SharedModels
from tiny_artifact import rewrite_manifest

import edgekit
from edgekit.artifact.manifest import read_manifest
from edgekit.build.text_file import FILE_NAME, text_file
from edgekit.errors import EngineError
from edgekit.runtime.session import Message

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="edgekit-run is not built; pip install . builds it")
GREEDY = ("--temperature", "0")


@pytest.fixture(scope="module")
def artifact(models: SharedModels) -> Path:
    return models.artifact("llama", "int4 block 32")


@pytest.fixture(scope="module")
def thinking(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact whose chat template opens a thought."""
    copy = shutil.copytree(artifact, tmp_path_factory.mktemp("thinking") / "copy")
    with (copy / "chat_template.jinja").open("a", encoding="utf-8") as template:
        template.write("{% if add_generation_prompt %}<think>\n{% endif %}")
    made = text_file(copy, rewrite_manifest(copy, reasoning=True))
    assert made.content is not None
    (copy / FILE_NAME).write_bytes(made.content)
    rewrite_manifest(copy)
    return copy


@pytest.mark.parametrize("seed", [None, 7])
def test_an_answer_is_that_of_the_session(artifact: Path, seed: int | None) -> None:
    with edgekit.load(artifact, engine="native") as session:
        sampling = None if seed is not None else edgekit.Sampling(temperature=0)
        question = [{"role": "user", "content": "hello <|im_end|> you"}]
        expected = session.chat(question, max_tokens=12, seed=seed, sampling=sampling).complete()
    options = GREEDY if seed is None else ("--seed", seed)
    found = result(artifact, "--prompt", "hello <|im_end|> you", "--max-tokens", 12, *options)
    assert found["prompt_tokens"] == expected.prompt_tokens
    assert found["tokens"] == expected.tokens
    assert (found["text"], found["answer"], found["thought"]) == (expected.text, expected.answer, expected.thought)
    assert found["finish_reason"] == expected.finish_reason
    assert {"ttft_s", "decode_tok_s", "engine", "kernel", "kv_type"} <= found.keys()


def test_the_planned_type_of_keys_and_values_is_taken(artifact: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(artifact, tmp_path / "copy")
    why = {"engine": "native", "kv_type": "int8", "kv_because": "float16 would need 9 GB, 1 GB more than is usable"}
    manifest = rewrite_manifest(copy, plan=read_manifest(copy).plan | why)
    said = b"note: the KV cache is int8, as planned: float16 would need 9 GB, 1 GB more than is usable\n"
    question = ("--prompt", "a", "--max-tokens", 1, "--json")
    for job in (question, ("--bench", "--prompt-tokens", 4, "--gen-tokens", 1, "--json"), ("--smoke", "--json")):
        done = run(copy, *job)
        assert (json.loads(done.stdout)["kv_type"], done.stderr.count(said)) == ("int8", 1), job
    done = run(copy, *question, "--kv-type", "float16")
    assert (json.loads(done.stdout)["kv_type"], b"note" in done.stderr) == ("float16", False)
    rewrite_manifest(copy, plan=manifest.plan | {"engine": "cuda"})
    assert result(copy, "--prompt", "a", "--max-tokens", 1)["kv_type"] == "float16", "the plan is for another engine"
    rewrite_manifest(copy, plan=manifest.plan | {"kv_type": "int4"})
    refused = run(copy, *question)
    assert refused.returncode == 60
    assert b"plan.kv_type of the manifest is 'int4'; allowed: float16, int8" in refused.stdout + refused.stderr


def test_a_conversation_that_outgrows_the_context_loses_its_oldest_turns(artifact: Path) -> None:
    options = ("--context", 96, "--max-tokens", 4, "--no-prepare", *GREEDY)
    done = run(artifact, *options, stdin=b"\n".join([b"some words that fill the context"] * 4) + b"\n")
    said = done.stderr.decode("utf-8")
    assert (done.returncode, said.count(" generated tokens")) == (0, 4)
    assert re.search(r"the context is full: the oldest [24] messages were left out of the conversation", said)
    prompts = [int(count) for count in re.findall(r"(\d+) prompt \+", said)]
    assert prompts[1] > prompts[0]
    assert min(prompts[2:]) < prompts[1]
    assert max(prompts) <= 92
    refused = run(artifact, "--context", 16, *GREEDY, stdin=b"some words that fill the context\n")
    assert b"the context holds 16" in refused.stderr
    assert b"the question was not added to the conversation" in refused.stderr


def test_an_unfinished_thought_is_not_sent_again(thinking: Path) -> None:
    done = run(thinking, "--max-tokens", 4, "--seed", 3, "--no-prepare", stdin=b"hello\nagain\n")
    found = [int(count) for count in re.findall(rb"(\d+) prompt \+ 4 generated", done.stderr)]
    asked: list[Message] = [{"role": "user", "content": "hello"}]
    with edgekit.load(thinking, engine="native") as session:
        first = session.chat(asked, max_tokens=4, seed=3).complete()
        assert first.finish_reason == "length"
        again: list[Message] = [
            *asked,
            {"role": "assistant", "content": first.text},
            {"role": "user", "content": "again"},
        ]
        second = session.chat(again, max_tokens=4, seed=3).complete()
    assert found == [len(first.prompt_tokens), len(second.prompt_tokens)]


def test_a_draft_model_changes_no_answer(artifact: Path, models: SharedModels) -> None:
    question = (artifact, "--prompt", "hello you", "--max-tokens", 24, "--seed", 5)
    assert result(*question, "--draft", artifact)["tokens"] == result(*question)["tokens"]
    refused = run(*question, "--draft", artifact, "--no-speculate")
    assert (refused.returncode, b"--no-speculate" in refused.stderr) == (2, True)
    assert b"cannot be combined with --bench" in run(artifact, "--bench", "--draft", artifact).stderr
    assert run(*question, "--draft", artifact / "nothing").returncode == 60


def test_a_draft_model_has_the_same_tokenizer(artifact: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(artifact, tmp_path / "copy")
    manifest = read_manifest(copy)
    other = manifest.files["tokenizer.json"] | {"sha256": "0" * 64}
    replace(manifest, files=manifest.files | {"tokenizer.json": other}).write(copy)
    refused = run(artifact, "--prompt", "a", "--draft", copy)
    assert refused.returncode == 70
    assert b"its tokenizer.json is another one" in refused.stderr


def test_options_of_thoughts(artifact: Path) -> None:
    found = result(artifact, "--prompt", "a", "--max-tokens", 4, "--loop-guard", "all", *GREEDY)
    assert (found["thought_tokens"], found["thought_closed"], found["loops"]) == (0, None, 0)
    refused = run(artifact, "--prompt", "a", "--think-tokens", 4)
    assert refused.returncode == 2
    assert b"does not think before it answers" in refused.stderr
    assert b"it must be show, fold or hide" in run(artifact, "--thoughts", "some").stderr
    for option in (("--think-tokens", 4), ("--thoughts", "hide")):
        assert b"plain text has no thought" in run(artifact, "--raw", "--prompt", "a", *option).stderr
    refused = run(artifact, "--json", "--prompt", "a", "--thoughts", "hide")
    assert refused.returncode == 2
    assert b"--thoughts cannot be combined with --json" in refused.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seed", 1, "--bench"), b"--seed cannot be combined with --bench or --smoke"),
        (("--smoke", "--max-tokens", 4), b"--max-tokens cannot be combined with --bench or --smoke"),
        (("--repeat", 1), b"--repeat needs --bench"),
        (("--smoke", "--gen-tokens", 1), b"--gen-tokens needs --bench"),
        (("--prompt", "a", "--out", "receipt.json"), b"--out needs --smoke"),
        (("--bench", "--sustain", 1), b"--sustain needs --smoke"),
        (("--smoke", "--bench"), b"--bench cannot be combined with --smoke"),
        (("--bench", "--context", 4000), b"--context cannot be combined with --bench"),
        (("--smoke", "--out", ""), b"--out is empty"),
        (("--smoke", "--device="), b"--device is empty"),
        (("--draft", ""), b"--draft is empty"),
    ],
)
def test_an_option_of_another_job_is_refused(artifact: Path, arguments: tuple[object, ...], message: bytes) -> None:
    refused = run(artifact, *arguments)
    assert refused.returncode == 2
    assert message in refused.stderr


def test_a_raw_prompt_from_stdin(artifact: Path) -> None:
    done = run(artifact, "--raw", "--prompt", "-", "--max-tokens", 3, *GREEDY, stdin=b"\xef\xbb\xbfonce")
    with edgekit.load(artifact, engine="native") as session:
        expected = session.generate("once", max_tokens=3, sampling=edgekit.Sampling(temperature=0)).complete()
    assert done.stdout.decode("utf-8").rstrip("\n") == expected.text.rstrip("\n")
    assert b"3 generated tokens" in done.stderr


def test_a_conversation(artifact: Path) -> None:
    done = run(artifact, "--max-tokens", 2, *GREEDY, stdin=b"a\n/reset\n/nonsense\n\xff\nb\n/exit\nc\n")
    assert done.returncode == 0
    said = done.stderr.decode("utf-8")
    assert said.count(" generated tokens") == 2
    assert "conversation forgotten" in said
    assert "there is no command /nonsense" in said
    assert "not UTF-8" in said


def test_large_numbers_are_not_cut(artifact: Path) -> None:
    question = (artifact, "--prompt", "hello", "--max-tokens", 8, "--seed", 3, "--temperature", 1)
    expected = result(*question, "--top-k", 0)["tokens"]
    for top_k in (2**31 - 1, 2**31, 2**32 + 1, 2**63 - 1):  # no vocabulary is larger, so all tokens are kept
        assert result(*question, "--top-k", top_k)["tokens"] == expected, top_k
    assert result(*question, "--top-k", 1)["tokens"] == result(artifact, *question[1:5], *GREEDY)["tokens"]
    for threads in (1025, 2**31, 2**32 + 1):
        with pytest.raises(EngineError) as caught:
            edgekit.load(artifact, engine="native", threads=threads)
        error = result(*question, "--threads", threads, code=70)["error"]
        assert error["message"] == str(caught.value) == f"{threads} threads were requested; allowed: 1 to 1024"
    most = 2**63 - 1
    refused = result(artifact, "--bench", "--prompt-tokens", most, "--gen-tokens", most, code=71)
    assert f"a context of {most} positions was requested" in refused["error"]["message"]


def test_text_behind_a_null_character_is_kept(artifact: Path) -> None:
    for seed in range(200):
        question = (artifact, "--prompt", "hello", "--max-tokens", 60, "--temperature", 5, "--seed", seed)
        found = result(*question)
        if "\0" in found["text"].rstrip("\0"):
            break
    assert "\0" in found["text"].rstrip("\0"), "no seed gives a null character"
    assert found["answer"] == found["text"]
    assert run(*question).stdout.removesuffix(b"\n") == found["text"].encode().removesuffix(b"\n")


def test_a_question_of_white_space_alone_is_empty(artifact: Path) -> None:
    for space in ("\u00a0", "\u2003\u3000", "\v\f", "\u0085\u001c"):
        assert "".join(space.split()) == "", "as Python sees it"
        assert result(artifact, "--prompt", space, code=2)["error"]["message"] == "the prompt is empty"
        done = run(artifact, "--max-tokens", 1, *GREEDY, stdin=f"{space}\n{space}hello{space}\n".encode())
        assert done.stderr.count(b" generated tokens") == 1
    prompt = re.search(rb"(\d+) prompt", done.stderr)
    alone = re.search(rb"(\d+) prompt", run(artifact, "--max-tokens", 1, stdin=b"hello\n").stderr)
    assert prompt is not None
    assert alone is not None
    assert prompt[1] == alone[1]


def test_ctrl_d_ends_a_conversation_after_ctrl_c_ended_an_answer(artifact: Path) -> None:
    assert PROGRAM is not None
    for attempt in range(30):  # an answer may end before it is interrupted
        master, slave = pty.openpty()
        command = [PROGRAM, artifact, "--seed", str(attempt), "--no-prepare"]
        with subprocess.Popen(command, stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
            os.close(slave)
            assert program.stdout is not None
            assert program.stderr is not None
            os.write(master, b"hello\n")
            program.stdout.read(1)
            program.send_signal(signal.SIGINT)
            said = b""
            while b" generated tokens" not in said:
                said += os.read(program.stderr.fileno(), 10000)
            os.write(master, b"\x04")
            try:
                assert program.wait(30) == 0
            except subprocess.TimeoutExpired:
                program.kill()
                raise
            finally:
                os.close(master)
        if b"interrupted" in said:
            return
    pytest.fail("no answer was interrupted")


def test_ctrl_c_ends_an_answer_that_waits_for_its_reader(artifact: Path) -> None:
    assert PROGRAM is not None
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    command = [PROGRAM, artifact, "--no-prepare"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=writer, stderr=subprocess.PIPE) as program:
        os.close(writer)
        assert program.stdin is not None
        assert program.stderr is not None

        def wait_for(text: bytes, *, interrupt: bool) -> None:
            said = b""
            while text not in said:
                if select.select([program.stderr], [], [], 0.2)[0]:
                    more = os.read(program.stderr.fileno(), 10000)
                    assert more, said
                    said += more
                elif interrupt:
                    program.send_signal(signal.SIGINT)

        wait_for(b"/exit", interrupt=False)
        program.stdin.write(b"hello\n")
        program.stdin.flush()
        wait_for(b" generated tokens", interrupt=True)
        draining = threading.Thread(target=Path(f"/dev/fd/{reader}").read_bytes)
        draining.start()
        program.stdin.write(b"hello\n")
        program.stdin.flush()
        wait_for(b" generated tokens", interrupt=False)
        program.stdin.close()
        assert program.wait(30) == 0
    os.close(reader)
    draining.join(30)
    assert not draining.is_alive()


def test_bench_has_the_fields_of_the_command(artifact: Path) -> None:
    found = result(artifact, "--bench", "--prompt-tokens", "4,8", "--gen-tokens", 2, "--repeat", 1)
    assert [each["tokens"] for each in found["prefill"]] == [4, 8]
    assert [each["context"] for each in found["decode"]] == [0, 4, 8]
    assert all(each["tok_s"] > 0 for each in (*found["prefill"], *found["decode"]))
    assert {
        "name",
        "engine",
        "kernel",
        "threads",
        "kv_type",
        "load_s",
        "peak_rss_bytes",
        "private_bytes",
        "limits",
    } <= found.keys()
    assert run(artifact, "--bench", "--prompt-tokens", "4", "--repeat", 1).returncode == 0


def test_pipes_and_devices_are_not_waited_for(artifact: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused = run(artifact, "--smoke", "--out", tmp_path / "pipe")
    assert refused.returncode == 60
    assert f"cannot write the receipt {tmp_path / 'pipe'}: No such device or address" in refused.stderr.decode()
    for name, code, problem in (
        ("edgekit.json", 60, b"cannot open edgekit.json: it is not a regular file"),
        ("config.json", 62, b"config.json is neither a file nor a folder"),
    ):
        changed = shutil.copytree(artifact, tmp_path / name.replace(".", "-"))
        (changed / name).unlink()
        os.mkfifo(changed / name)
        refused = run(changed, "--smoke")
        assert refused.returncode == code
        assert problem in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (("--nonsense",), 2, "usage"),
        (("--context", 10**6, "--prompt", "a"), 71, "context_length"),
        (("--context", 4, "--prompt", "a b c d e f g h"), 71, "context_length"),
        (("--prompt", " "), 2, "usage"),
        (("--prompt", "a", "--temperature", "-1"), 2, "usage"),
    ],
)
def test_errors_have_the_codes_of_the_command(
    artifact: Path, arguments: tuple[object, ...], code: int, kind: str
) -> None:
    assert result(artifact, *arguments, code=code)["error"]["kind"] == kind


def test_messages_are_utf_8(artifact: Path, tmp_path: Path) -> None:
    assert PROGRAM is not None
    for arguments in (
        [os.fsencode(artifact), b"--prompt", b"a", b"--kv-type", b"\xff\xc3"],
        [os.fsencode(tmp_path) + b"/\xe9\x80", b"--prompt", b"a"],
        [b"--no\xff", b"--json"],
    ):
        for json_too in ([], [b"--json"]):
            done = subprocess.run([PROGRAM, *arguments, *json_too], capture_output=True, timeout=60)
            assert done.returncode in (2, 60)
            assert "\N{REPLACEMENT CHARACTER}" in (done.stdout + done.stderr).decode("utf-8")


def test_a_folder_that_is_no_artifact(tmp_path: Path) -> None:
    assert result(tmp_path, "--smoke", code=60)["error"]["kind"] == "artifact"
    (tmp_path / "edgekit.json").write_text("{")
    assert "not valid JSON" in result(tmp_path, "--smoke", code=60)["error"]["message"]


@pytest.mark.parametrize("name", ["", "..", "../x", "a\\b", "two\nlines", "\x1b[2J", "\x7f", "\x9b2J"])
def test_a_name_that_leads_elsewhere_or_changes_the_terminal(artifact: Path, tmp_path: Path, name: str) -> None:
    fields = json.loads((artifact / "edgekit.json").read_bytes())
    (tmp_path / "edgekit.json").write_text(json.dumps({**fields, "name": name}, ensure_ascii=False), encoding="utf-8")
    done = run(tmp_path, "--smoke")
    assert done.returncode == 60
    message = done.stderr.decode()
    assert "it must be a file name" in message
    assert message.replace("\n", "").isprintable()


def test_a_closed_pipe_ends_it_without_a_message(artifact: Path) -> None:
    assert PROGRAM is not None
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([PROGRAM, artifact, "--prompt", "a"], stdout=writing, stderr=subprocess.PIPE, timeout=60)
    os.close(writing)
    assert done.returncode == -signal.SIGPIPE
