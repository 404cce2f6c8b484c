"""Makes this folder a site: copies the libraries from npm into lib/, and links the model's web folder as model/.

    python prepare.py OUT-web            OUT-web is what edgekit build --emit web wrote
    python serve.py                      then open http://localhost:8000

It needs npm once, to download the two packages (35 MB); no package is installed and no script of one is run. Then the
folder can be copied to any web server.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgekit-web"
# Two packages that fit each other: the first is built against the second. Name, version, SHA-512, and the files taken.
PACKAGES = (
    (
        "@huggingface/transformers", "4.3.2",
        "V3+dqf3iWlRYJ9I9GreM3zGQd0lAXnnoPeddmkOQYWAEE4l/+Fi6p7tx/qVUJlKQgLXGim2W76rTOzz+eC0i7g==",
        {"dist/transformers.min.js": "transformers.min.js", "LICENSE": "LICENSE-transformers.js"},
    ),
    (
        "onnxruntime-web", "1.31.0-dev.20260914-8d85527a0",
        "Iy7rtadoBgxS/LLvDr3QW38DB1PNXRnr0GJMcL0TAt7c9qjgVQl83UlGCVyeAnK2InpmW8Uc3PL8XIuqtDeF6g==",
        {
            "dist/ort-wasm-simd-threaded.mjs": "ort-wasm-simd-threaded.mjs",  # WebAssembly
            "dist/ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm",
            "dist/ort-wasm-simd-threaded.asyncify.mjs": "ort-wasm-simd-threaded.asyncify.mjs",  # WebGPU
            "dist/ort-wasm-simd-threaded.asyncify.wasm": "ort-wasm-simd-threaded.asyncify.wasm",
        },
    ),
)  # fmt: skip


def package(name: str, version: str, sha512: str, cache: Path) -> Path:
    """Download a package with npm, unless it is in the cache, and check its hash."""
    path = cache / f"{name.lstrip('@').replace('/', '-')}-{version}.tgz"
    if not path.is_file():
        npm = os.environ.get("NPM") or shutil.which("npm")
        if npm is None:
            sys.exit("error: npm is not installed\nhint: install Node.js, or set NPM to the program")
        cache.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [npm, "pack", "--ignore-scripts", "--silent", "--pack-destination", str(cache), f"{name}@{version}"],
            cwd=cache, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode or not path.is_file():
            sys.exit(f"error: npm cannot download {name} {version}: {done.stderr.strip() or 'no file was written'}")
    found = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if found != sha512:
        path.unlink()
        sys.exit(
            f"error: {name} {version} has SHA-512 {found}, not {sha512}\nhint: run this again to download it again"
        )
    return path


def copy_libraries(folder: Path, cache: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, version, sha512, files in PACKAGES:
        with tarfile.open(package(name, version, sha512, cache)) as archive:
            for source, target in files.items():
                content = archive.extractfile(f"package/{source}")
                if content is None:
                    sys.exit(f"error: {name} {version} has no file {source}")
                (folder / target).write_bytes(content.read())
        print(f"lib/: {name} {version}")


def link_model(web: Path, folder: Path) -> None:
    """Make ``folder`` hold the same files as a web folder, by hard links where the file system allows it.

    What ``folder`` held before is deleted when the files are there.
    """
    if not (web / "edgekit.json").is_file() or not (web / "onnx").is_dir():
        sys.exit(
            f"error: {web} is not a web folder\n"
            "hint: edgekit build MODEL --device NAME --out OUT --emit web writes OUT-web"
        )
    if folder.exists() and web.samefile(folder):
        print("model/: is this folder")
        return
    linked = True

    def link(source: str, target: str) -> None:
        nonlocal linked
        try:
            os.link(source, target)
        except OSError:
            linked = False
            shutil.copy2(source, target)

    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was interrupted
    shutil.copytree(web, partial, copy_function=link)
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"model/: {size / 1e6:.0f} MB, {'linked' if linked else 'copied, because hard links are not possible here'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("web", type=Path, nargs="?", help="the folder that edgekit build --emit web wrote")
    parser.add_argument("--site", type=Path, default=HERE, help="the folder of the page (default: this one)")
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"where packages are kept (default: {CACHE})")
    options = parser.parse_args()
    copy_libraries(options.site / "lib", options.cache)
    if options.web is not None:
        link_model(options.web, options.site / "model")


if __name__ == "__main__":
    main()
