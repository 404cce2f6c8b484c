"""axe-core, which looks for what keeps people with disabilities from using a page: https://github.com/dequelabs/axe-core.

Run as a program, it lets npm download the package into the cache of examples/web.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "web"))
from prepare import CACHE, package

if TYPE_CHECKING:
    from chromium import Page

_PACKAGE = (
    "axe-core", "4.14.1", "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
)  # fmt: skip


def available() -> bool:
    """Whether the package is in the cache or npm can download it."""
    return bool(os.environ.get("NPM") or shutil.which("npm")) or any(CACHE.glob("axe-core-*.tgz"))


def violations(page: Page) -> list[str]:
    """What axe finds of serious or critical impact on a page as it is now."""
    with tarfile.open(package(*_PACKAGE, CACHE)) as archive:
        script = archive.extractfile("package/axe.min.js")
        assert script is not None
        page.run(script.read().decode() + "; 0")
    found = page.run("axe.run().then(({ violations }) => violations)")
    return [
        f"{each['id']} ({each['impact']}): {node['html'][:200]}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


if __name__ == "__main__":
    print(package(*_PACKAGE, CACHE).name)
