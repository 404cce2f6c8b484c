"""What the page for browsers stores of a model, in a headless Chromium: a file is used when its hash was right."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Chromium, Page
from web_example import EXAMPLE, serving

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")]
GRAPH = b"the graph of a model"
OPEN = "const { Store } = await import('./store.js'); const store = await Store.open(base, () => {});"
PART = "`${base}onnx/model.onnx?sha256=${store.files[0].sha256}&part=0&of=1`"


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """A page beside the store and a model of one file."""
    site = tmp_path / "site"
    (site / "model" / "onnx").mkdir(parents=True)
    for name in ("store.js", "units.js"):
        shutil.copy(EXAMPLE / name, site / name)
    (site / "index.html").write_text("<!doctype html><title>store</title>")
    (site / "model" / "onnx" / "model.onnx").write_bytes(GRAPH)
    entry = {"sha256": hashlib.sha256(GRAPH).hexdigest(), "size_bytes": len(GRAPH)}
    manifest = {"format": "edgekit-artifact", "files": {"onnx/model.onnx": entry}}
    (site / "model" / "edgekit.json").write_text(json.dumps(manifest))
    with serving(site) as (address, _), Chromium(tmp_path / "profile") as browser:
        page = browser.open(address)
        page.wait("document.readyState === 'complete'")
        yield page


def run(page: Page, script: str) -> object:
    """Run a script that knows ``base`` and an open ``store``; what it throws is returned as a text."""
    body = f"const base = new URL('model/', location.href).href; {OPEN} {script}"
    return page.run(f"(async () => {{ {body} }})().catch((error) => `${{error.kind}}: ${{error.message}}`)")


def put(text: str) -> str:
    return f"await (await caches.open('edgekit-model')).put({PART}, new Response({json.dumps(text)}));"


def test_a_check_that_was_interrupted_is_repeated(page: Page) -> None:
    """The last part is stored before the check, which takes seconds for large files."""
    assert run(page, put("the graph of a MODEL") + "return store.complete;") is False
    assert run(page, "return store.complete;") is True
    assert str(run(page, "await store.download(() => {});")).startswith("changed: onnx/model.onnx on the server is not")
    assert run(page, "return store.complete;") is False
    assert (
        run(page, "await store.download(() => {}); return await store.response(store.files[0]).text();")
        == GRAPH.decode()
    )


def test_a_file_is_checked_once(page: Page) -> None:
    count = "let count = 0; const digest = crypto.subtle.digest.bind(crypto.subtle);"
    count += "crypto.subtle.digest = (...all) => { count++; return digest(...all); };"
    download = f"{count} await store.download(() => {{}}); return count;"
    assert run(page, put(GRAPH.decode()) + "return store.complete;") is False
    assert [run(page, download) for _ in range(3)] == [1, 0, 0]
    stored = "return (await (await caches.open('edgekit-model')).keys()).length;"
    assert run(page, stored) == 3, "the manifest, the part and the marker"
    changed = "store.files[0].sha256 = '0'.repeat(64);"
    assert str(run(page, f"{changed} await store.download(() => {{}});")).startswith("changed: ")
