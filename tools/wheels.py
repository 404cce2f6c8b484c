"""Build the wheels of this project for Linux on x86-64 and 64-bit ARM, with glibc or musl, from any machine.

    python tools/wheels.py --out dist                 all of them
    python tools/wheels.py linux-aarch64 --out dist   one target of `edgekit compile`

It needs an installed checkout with the extra compile, pip, and the package wheel. auditwheel, if it is installed,
checks the wheels for glibc. Each wheel holds the licences and a list (CycloneDX) of its parts. The same sources and
compiled files give the same bytes. The compiled files are kept in --native, so that a second run only packs.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from edgekit.deploy.compile import Compiled, compile_native
from edgekit.deploy.device_files import linked_licences
from edgekit.deploy.sbom import LINKED, Component, sbom_text
from edgekit.deploy.targets import TARGETS, Target, target_named
from edgekit.errors import EdgekitError

ROOT = Path(__file__).parents[1]
TEMML = "edgekit/serve/page/lib"  # the one library of others that a wheel holds as it is
EARLIEST = "315532800"  # 1980-01-01, the earliest time that a zip file can hold: every build has the same bytes


def build_wheel(target: Target, compiled: Compiled, out: Path) -> Path:
    """Pack what was compiled for a target into a wheel.

    Args:
        target: The target; it has a ``wheel_platform``.
        compiled: Its library and program.
        out: The folder for the wheel, which may exist.

    Returns:
        The wheel.
    """
    assert target.wheel_platform is not None
    environment = os.environ | {"SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH", EARLIEST)}
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="edgekit-wheel-") as work:
        prebuilt = f"cmake.define.EDGEKIT_PREBUILT={compiled.library.parent.resolve()}"
        settings = ["-C", prebuilt, "-C", f"build-dir={work}/build"]
        _run("pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", work, *settings, str(ROOT), environment=environment)
        made = next(Path(work).glob("*.whl"))
        _run("wheel", "tags", "--remove", f"--platform-tag={target.wheel_platform}", str(made), environment=environment)
        tagged = next(Path(work).glob("*.whl"))
        _add_inventory(tagged, target, environment)
        moved = out / tagged.name
        moved.write_bytes(tagged.read_bytes())  # not renamed: the folder may be on another disk
        return moved


def _add_inventory(wheel: Path, target: Target, environment: dict[str, str]) -> None:
    """Add the licences of what is linked in, and a list of the parts (https://peps.python.org/pep-0770/)."""
    with tempfile.TemporaryDirectory(prefix="edgekit-wheel-", dir=wheel.parent) as work:
        _run("wheel", "unpack", "--dest", work, str(wheel), environment=environment)
        (content,) = Path(work).iterdir()
        (information,) = content.glob("*.dist-info")
        linked = linked_licences(target)
        for name, text in linked.items():
            (information / "licenses" / f"{name}.txt").write_bytes(text.read_bytes())
        listed = information / "sboms" / "edgekit.cdx.json"
        listed.parent.mkdir()
        listed.write_text(_inventory(content, list(linked)), encoding="utf-8")
        wheel.unlink()
        _run("wheel", "pack", "--dest-dir", str(wheel.parent), str(content), environment=environment)


def _inventory(content: Path, linked: list[str]) -> str:
    """The software bill of materials of an unpacked wheel: edgekit's own files, and what others have written."""
    digests = {
        path.relative_to(content).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(content.rglob("*"))
        if path.is_file() and ".dist-info" not in path.parent.parts[len(content.parts)]
    }
    page = {name: digest for name, digest in digests.items() if name.startswith(TEMML)}
    own = {name: digest for name, digest in digests.items() if name not in page}
    version = content.name.split("-")[1]
    temml = temml_version((content / TEMML / "temml.min.js").read_text(encoding="utf-8"))
    parts = [
        Component("library", "edgekit", version, "Apache-2.0", own),
        Component("library", "temml", temml, "MIT", page, "https://temml.org"),
        *(Component("library", name, "", LINKED[name], {}, "zig") for name in sorted(linked)),
    ]
    return sbom_text("edgekit-llm", version, parts)


def temml_version(text: str) -> str:
    """The version that temml.min.js states."""
    found = re.search(r'\bversion:"(\d+(?:\.\d+)+)"', text)
    assert found is not None, "temml.min.js no longer states its version"
    return found[1]


def audit(wheel: Path, platform: str) -> None:
    """Let auditwheel read what the wheel needs from the system.

    Args:
        wheel: The wheel.
        platform: The tag that it must be consistent with.

    Raises:
        SystemExit: The wheel needs more than its tag allows.
    """
    said = subprocess.run(
        [sys.executable, "-m", "auditwheel", "show", str(wheel)], capture_output=True, text=True, check=False
    )
    text = " ".join((said.stdout + said.stderr).split())
    found = re.search(r'consistent with the following platform tag: "(\w+)"', text)
    if said.returncode or found is None or not _is_met_by(platform, found[1]):
        sys.exit(f"auditwheel: {wheel.name} is not consistent with {platform}: {text}")


def _is_met_by(platform: str, found: str) -> bool:
    """Whether ``platform`` is the same system and processor as ``found``, with the same or a newer libc."""
    first, second = (re.fullmatch(r"(manylinux|musllinux)_(\d+)_(\d+)_(\w+)", tag) for tag in (platform, found))
    if first is None or second is None:
        return False
    (kind, *version, machine), (other, *older, same) = first.groups(), second.groups()
    return (kind, machine) == (other, same) and list(map(int, older)) <= list(map(int, version))


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [target.name for target in TARGETS if target.wheel_platform]
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{', '.join(known)}; all of them by default")
    parser.add_argument("--out", type=Path, default=Path("dist"), help="the folder for the wheels (default: dist)")
    parser.add_argument("--native", type=Path, default=Path("edgekit-native"), help="the folder for compiled files")
    options = parser.parse_args(arguments)
    try:
        targets = [target_named(name) for name in options.targets or known]
        for target in targets:
            if target.wheel_platform is None:
                parser.error(f"there is no wheel for {target.name}; targets with one: {', '.join(known)}")
            wheel = build_wheel(target, compile_native(target, options.native), options.out)
            audited = importlib.util.find_spec("auditwheel") is not None
            if audited:
                audit(wheel, target.wheel_platform)
            print(
                f"{wheel}  {wheel.stat().st_size / 1e6:.2f} MB{', checked by auditwheel' if audited else ''}",
                flush=True,
            )
    except EdgekitError as error:
        sys.exit(f"error: {error.message}\nhint: {error.hint}")


def _run(*module: str, environment: dict[str, str]) -> None:
    subprocess.run([sys.executable, "-m", *module], env=environment, stdout=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    main()
