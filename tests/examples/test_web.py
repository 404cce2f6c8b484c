"""The page for browsers, in a headless Chromium: answers, storage, WebGPU on SwiftShader, and what can go wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from chromium import Chromium
from shared_models import SharedModels
from tiny_checkpoint import write_checkpoint
from web_example import (
    EXAMPLE,
    QUESTION,
    Breaking,
    NoRanges,
    answered,
    ask,
    begin,
    fits,
    lacking,
    notes,
    ready,
    serving,
    tab_to,
)

import edgekit
from edgekit.artifact.manifest import read_manifest
from edgekit.export.web import write_web_folder
from edgekit.runtime.engine import EngineOptions, open_engine
from edgekit.sampling import Sampling

INT8_TOLERANCE = (
    0.1  # of the logits' spread; onnxruntime on this machine rounds activations to int8, WebAssembly does not
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prepare() -> Callable[[Path, Path], None]:
    """``prepare(site, web)``: the page with its libraries and a model."""
    if reason := lacking():
        pytest.skip(reason)

    def run(site: Path, web: Path) -> None:
        if not site.exists():
            shutil.copytree(EXAMPLE, site, ignore=shutil.ignore_patterns("lib", "model", "__pycache__"))
        subprocess.run([sys.executable, site / "prepare.py", web], check=True, capture_output=True)

    return run


def web_folder(artifact: Path, folder: Path) -> Path:
    folder.mkdir()
    write_web_folder(artifact, folder, read_manifest(artifact))
    return folder


@pytest.fixture(scope="module")
def tiny(models: SharedModels) -> Path:
    """With room for long answers: a tiny model is fast, and it is to be stopped."""
    return models.artifact(max_position_embeddings=8000)


@pytest.fixture(scope="module")
def site(prepare: Callable[[Path, Path], None], tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with a tiny model."""
    folder = tmp_path_factory.mktemp("web") / "site"
    prepare(folder, web_folder(tiny, folder.with_name("tiny-web")))
    return folder


@pytest.fixture(scope="module")
def browser(site: Path) -> Iterator[Chromium]:
    with Chromium(site.with_name("profile"), "--host-resolver-rules=MAP edge.test 127.0.0.1") as opened:
        yield opened


# What a program of its own would write: transformers.js generates, without the page's engine.
GENERATE = """(async () => {
  const { AutoModelForCausalLM, AutoTokenizer, env } = await import("./lib/transformers.min.js");
  const plain = new URL("lib/ort-wasm-simd-threaded", location.href).href;
  Object.assign(env, { allowRemoteModels: false, allowLocalModels: true, localModelPath: "/", useBrowserCache: false });
  env.backends.onnx.wasm.wasmPaths = { mjs: `${plain}.mjs`, wasm: `${plain}.wasm` };
  const tokenizer = await AutoTokenizer.from_pretrained("model");
  const model = await AutoModelForCausalLM.from_pretrained("model", { device: "wasm" });
  const messages = [{ role: "user", content: %s }];
  const inputs = tokenizer.apply_chat_template(messages, { add_generation_prompt: true, return_dict: true });
  return Array.from((await model.generate({ ...inputs, max_new_tokens: %d, do_sample: false })).data, Number);
})()"""


def greedy(artifact: Path, count: int, *texts: str) -> tuple[list[int], list[int]]:
    """edgekit's own prompt and greedy tokens, after questions and answers in turn."""
    messages = [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(texts)]
    with edgekit.load(artifact, engine="ort") as session:
        chat = session.chat(messages, max_tokens=count, sampling=Sampling(temperature=0))
        done = chat.complete()
    return [*done.prompt_tokens], [*done.tokens]


def check_greedy(artifact: Path, tokens: list[int], *texts: str) -> None:
    """Each token is the likeliest one after those before it, up to what other roundings change in a random model."""
    prompt, _ = greedy(artifact, 1, *texts)
    ids = [*prompt, *tokens]
    engine = open_engine(artifact, read_manifest(artifact), EngineOptions(context=len(ids), all_logits=True), "ort")
    rows = engine.evaluate(ids)[len(prompt) - 1 : -1]
    engine.close()
    gaps = rows.max(axis=1) - rows[np.arange(len(tokens)), tokens]
    assert len(tokens) > 1
    assert gaps.max() <= INT8_TOLERANCE * rows.std()


def test_a_small_model_by_webassembly(site: Path, tiny: Path, browser: Chromium) -> None:
    """By keyboard alone, at a phone's width: greedy tokens are edgekit's, Escape stops, and text is shown as text."""
    question = "<img src=x onerror=alert(1)> & <b>bold</b> " + "long" * 40
    with serving(site) as (address, handler):
        page = browser.open(f"{address}?greedy&device=wasm", width=320, height=600)
        page.wait("document.getElementById('download')?.hidden === false", 20)
        assert fits(page)
        tab_to(page, "download")
        page.key("Enter", 13, "\r")
        ready(page)
        assert "WebAssembly" in page.text()
        assert page.run("crossOriginIsolated")
        tab_to(page, "question")
        texts: list[str] = []
        for text in (question, QUESTION):
            page.type(text)
            page.key("Enter", 13, "\r")
            page.wait("parseInt(document.querySelector('article:last-child .figures').textContent) >= 2")
            page.key("Escape", 27)
            tokens = answered(page)
            assert page.run("document.querySelector('article:last-child').dataset.finish") == "stopped"
            check_greedy(tiny, tokens, *texts, text)
            texts += [text, page.run("document.querySelector('article:last-child > .text').textContent")]
        assert page.run("document.querySelector('article.question .text').innerHTML").startswith("&lt;img src=x")
        assert fits(page)
        page.resize(390, 844, dark=True)
        assert page.run("getComputedStyle(document.documentElement).backgroundColor") == "rgb(22, 23, 22)"
        assert fits(page)
        tab_to(page, "new")
        page.key("Enter", 13, "\r")
        assert page.run("document.querySelectorAll('article').length") == 0
        assert page.errors() == []
        page.close()
        assert not [path for path in handler.asked if path.startswith("http")]


def test_a_small_model_by_webgpu(site: Path, tiny: Path, tmp_path: Path) -> None:
    """SwiftShader computes attention wrong for 32 new positions and more; the page finds that, and a way out.

    When the graphics processor is lost in the middle of an answer, WebAssembly takes over.
    """
    question = " ".join([QUESTION] * 8)  # a prompt of several pieces
    with serving(site) as (address, _), Chromium(tmp_path / "profile") as browser:
        page = browser.open(f"{address}?greedy&device=webgpu")
        begin(page)
        ready(page)
        assert "WebGPU" in page.text()
        assert "prompts are read 31 tokens at a time" in notes(page)
        ask(page, question)
        page.wait("parseInt(document.querySelector('article.answer .figures').textContent) >= 8")
        page.run("document.getElementById('stop').click()")
        check_greedy(tiny, answered(page), question)
        ask(page)
        page.wait("parseInt(document.querySelector('article:last-child .figures').textContent) >= 2")
        browser.call("Browser.crashGpuProcess")
        page.wait("document.querySelector('article:last-child').dataset.finish === 'failed'")
        assert "The graphics processor stopped answering" in page.text()
        page.wait("document.getElementById('engine').textContent.startsWith('WebAssembly')")
        ask(page)
        page.wait("document.querySelectorAll('article.answer').length === 3")
        page.run("document.getElementById('stop').click()")
        answered(page)  # however few tokens there were


def test_a_software_gpu_is_not_taken(site: Path, browser: Chromium) -> None:
    with serving(site) as (address, _):
        page = browser.open(f"{address}?greedy")
        begin(page)
        ready(page)
        assert "WebGPU is emulated" in notes(page)
        page.close()


def test_a_gpu_that_computes_wrong_is_not_used(site: Path, tmp_path: Path, browser: Chromium) -> None:
    """Another record of the golden test stands for a GPU that gives other logits."""
    shutil.copytree(site, tmp_path / "site")
    path = tmp_path / "site" / "model" / "edgekit.json"
    manifest = json.loads(path.read_text())
    for entry in manifest["golden"]["top_logits"]:
        entry["logit"] += 3
    path.unlink()  # it is a hard link
    path.write_text(json.dumps(manifest))
    with serving(tmp_path / "site") as (address, _):
        page = browser.open(f"{address}?device=webgpu")
        begin(page)
        ready(page)
        assert "WebGPU gives wrong results on this graphics processor (its logits differ by" in notes(page)
        assert "WebAssembly" in page.text()
        page.close()


def test_storage(site: Path, browser: Chromium) -> None:
    """A quota that is too small, and a page that gets no storage at all: the model runs all the same, with a note."""
    with serving(site) as (address, _):
        page = browser.open("about:blank")
        page.call("Storage.overrideQuotaForOrigin", origin=address.rstrip("/"), quotaSize=100_000)
        page.call("Page.navigate", url=f"{address}?device=wasm")
        begin(page)
        ready(page)
        assert "and the model takes" in notes(page)
        ask(page)
        page.wait("document.querySelector('article.answer .figures').textContent.includes('tokens/s')")
        page.close()
        page = browser.open(f"{address.replace('127.0.0.1', 'edge.test')}")
        begin(page)
        ready(page)
        assert "opened over http from another machine" in notes(page)
        assert "no WebGPU here" in notes(page)
        page.close()


def test_no_network_before_the_model_was_downloaded(site: Path, browser: Chromium) -> None:
    with serving(site) as (address, _):
        page = browser.open(f"{address}?device=wasm")
        page.wait("document.getElementById('download')?.hidden === false", 20)
    begin(page)  # the server is off
    page.wait("document.body.dataset.state === 'failed'")
    assert "The server cannot be reached, and this browser has no copy of the model yet." in page.text()
    page.close()


def test_a_model_that_is_missing_or_damaged(site: Path, tmp_path: Path, browser: Chromium) -> None:
    shutil.copytree(site, tmp_path / "site")
    (graph,) = (tmp_path / "site" / "model" / "onnx").glob("*.onnx")
    content = bytearray(graph.read_bytes())
    content[-1] ^= 1
    graph.unlink()
    graph.write_bytes(content)
    with serving(tmp_path / "site") as (address, _):
        page = browser.open(f"{address}?model=nowhere")
        page.wait("document.body?.dataset.state === 'failed'")
        assert "nowhere/edgekit.json is missing (HTTP 404)" in page.text()
        page.call("Page.navigate", url=f"{address}?device=wasm")
        begin(page)
        page.wait("document.body.dataset.state === 'failed'")
        assert f"{graph.name} on the server is not the file that edgekit.json describes" in page.text()
        page.close()


def test_a_thought_is_folded(
    prepare: Callable[[Path, Path], None], site: Path, tmp_path: Path, browser: Chromium
) -> None:
    """A template that opens the thought, as DeepSeek-R1's do, and texts as a model may write them."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "qwen2", max_position_embeddings=8000)
    template = tmp_path / "template.jinja"
    template.write_text("{% for m in messages %}{{ m['content'] }}\n{% endfor %}<think>\n")
    built = edgekit.build(
        None, "cpu", checkpoint=checkpoint, out=tmp_path / "out", chat_template=template, reasoning=True, gate=False,
        emit="web",
    )  # fmt: skip
    shutil.copytree(site, tmp_path / "site", ignore=shutil.ignore_patterns("model"))
    assert built.emitted is not None
    prepare(tmp_path / "site", built.emitted)
    with serving(tmp_path / "site") as (address, _):
        page = browser.open(f"{address}?greedy&device=wasm")
        begin(page)
        ready(page)
        ask(page)
        page.wait("document.querySelector('summary')?.textContent.startsWith('Thinking, ')")
        page.key("Escape", 27)
        answered(page)
        assert page.run("document.querySelector('article.answer').dataset.finish") == "stopped"
        assert page.run("document.querySelector('details').open") is False
        assert "Thought, not finished, " in page.run("document.querySelector('summary').textContent")
        assert page.run("document.querySelector('details .text').textContent")
        split = "import('./thought.js').then((module) => module.split({}, {}, {}))"
        for text, opened, ended, thought, answer, thinking in [
            ("a plan</think>\n\nParis", "true", "false", "a plan", "Paris", False),
            ("a plan</thi", "true", "false", "a plan", "", True),
            ("a plan</thi", "true", "true", "a plan</thi", "", True),
            ("<think>\na plan\n</think>\nParis", "false", "false", "a plan", "Paris", False),
            ("<thi", "false", "false", "", "", False),
            ("Paris <think>", "false", "false", "", "Paris <think>", False),
        ]:
            found = page.run(split.format(json.dumps(text), opened, ended))
            assert found == {"thought": thought, "answer": answer, "thinking": thinking}
        page.close()


def test_sampling_keeps_what_it_should(site: Path, browser: Chromium) -> None:
    """`choose` with a random number that is given: which tokens are left by each setting."""
    with serving(site) as (address, _):
        page = browser.open(address)
        page.wait("!!document.body")
        script = """import('./sampling.js').then(({{ choose }}) => {{
          const logits = Float32Array.from([0.5, 0.25, 0.15, 0.1], Math.log), found = new Set();
          for (let i = 0; i < 1000; i++) found.add(choose(logits, {seen}, {settings}, () => i / 1000));
          return [...found].sort(); }})"""
        for settings, seen, kept in [
            ({"temperature": 0}, [], [0]),
            ({"temperature": 1}, [], [0, 1, 2, 3]),
            ({"temperature": 1, "top_k": 2}, [], [0, 1]),
            ({"temperature": 1, "top_p": 0.6}, [], [0, 1]),
            ({"temperature": 1, "top_p": 0.9}, [], [0, 1, 2]),
            ({"temperature": 1, "min_p": 0.4}, [], [0, 1]),
            ({"temperature": 0, "repetition_penalty": 3}, [0], [1]),
        ]:
            found = page.run(script.format(seen=json.dumps(seen), settings=json.dumps(settings)))
            assert found == kept, settings
        page.close()


def test_smollm2(prepare: Callable[[Path, Path], None], tmp_path: Path) -> None:
    """A download that breaks goes on where it stopped, the answer is edgekit's, and the next visit needs no network."""
    built = edgekit.build("smollm2-135m", "cpu", out=tmp_path / "out", gate=False, emit="web")
    assert built.emitted is not None
    prepare(tmp_path / "site", built.emitted)
    with Chromium(tmp_path / "profile") as browser:
        with serving(tmp_path / "site", Breaking) as (address, handler):
            page = browser.open(f"{address}?greedy&device=wasm")
            begin(page)
            page.wait("document.body.dataset.state === 'failed'")
            assert "What has arrived is kept" in page.text()
            handler.broken = False
            before = len(handler.asked)
            page.run("document.getElementById('download').click()")
            ready(page)
            assert sum(path.endswith("_data") for path in handler.asked[before:]) == 3  # of four parts
            ask(page)
            tokens = answered(page)
            assert "The capital of France is Paris." in page.text()
            prompt, expected = greedy(built.artifact, 40, QUESTION)
            assert tokens == expected[: len(tokens)]
            assert page.run(GENERATE % (json.dumps(QUESTION), len(expected))) == prompt + expected
            page.close()
        page = browser.open(f"{address}?greedy&device=wasm")  # the server is off
        ready(page)
        page.close()
        with serving(tmp_path / "site", NoRanges) as (other, _):
            page = browser.open(f"{other}?device=wasm")
            begin(page)
            ready(page)
            assert "does not support range requests" in notes(page)
            page.close()
