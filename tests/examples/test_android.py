"""The Android module is not built here: no SDK. Its CMake project is configured, and what its files name exists."""

from __future__ import annotations

import re
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from cmake_project import PACKAGE, ROOT

EXAMPLE = ROOT / "examples" / "android"
MODULE = EXAMPLE / "edgekit"
NAME = "{http://schemas.android.com/apk/res/android}name"


def test_what_the_files_name_exists() -> None:
    gradle = (MODULE / "build.gradle.kts").read_text("utf-8")
    folders = re.findall(r'"(\.\./[^"]+)"', gradle)
    assert len(folders) == 3
    assert all((MODULE / folder).is_dir() for folder in folders)
    assert (MODULE / re.findall(r'file\("(src/[^"]+)"\)', gradle)[0]).is_file()
    modules = re.findall(r'":(\w+)"', (EXAMPLE / "settings.gradle.kts").read_text("utf-8"))
    assert all((EXAMPLE / module / "build.gradle.kts").is_file() for module in modules)
    sources = re.findall(r"^edgekit\.sources=(.*)$", (EXAMPLE / "gradle.properties").read_text("utf-8"), re.MULTILINE)
    assert (EXAMPLE / sources[0]).resolve() == ROOT / "edgekit" / "native"
    assert "**Not built.**" in (EXAMPLE / "README.md").read_text("utf-8")


def test_the_activity_and_the_strings_exist() -> None:
    main = EXAMPLE / "app" / "src" / "main"
    manifest = ElementTree.parse(main / "AndroidManifest.xml").getroot()  # noqa: S314
    activity = manifest.find("application/activity")
    assert activity is not None
    source = (main / "java/dev/edgekit/sample" / f"{activity.attrib[NAME].lstrip('.')}.kt").read_text("utf-8")
    strings = ElementTree.parse(main / "res" / "values" / "strings.xml").getroot()  # noqa: S314
    assert set(re.findall(r"R\.string\.(\w+)", source)) <= {entry.attrib["name"] for entry in strings}


def test_the_artifact_is_pushed_to_where_the_activity_opens_it() -> None:
    (source,) = (EXAMPLE / "app" / "src" / "main").rglob("ChatActivity.kt")
    (name,) = re.findall(r'File\(getExternalFilesDir\(null\), "(\w+)"\)', source.read_text("utf-8"))
    application = re.findall(r'applicationId = "(.*)"', (EXAMPLE / "app" / "build.gradle.kts").read_text("utf-8"))[0]
    for text in (EXAMPLE / "README.md", ROOT / "docs" / "phones-and-browsers.md"):
        commands = re.findall(r"adb push (?:.*)/Android/data/(\S+)", text.read_text("utf-8"))
        assert commands == [f"{application}/files/{name}"], text


def test_classes_that_native_code_finds_by_name_are_kept() -> None:
    binding = (ROOT / "examples" / "java" / "jni" / "edgekit_jni.c").read_text("utf-8")
    rules = (MODULE / "consumer-rules.pro").read_text("utf-8")
    for name in re.findall(r'FindClass\(env, "(dev/edgekit/\w+)"\)', binding):
        assert name.replace("/", ".") in rules


@pytest.mark.slow
def test_both_libraries_are_linked_for_pages_of_16_kb(tmp_path: Path) -> None:
    command = ["cmake", "-S", MODULE / "src" / "main" / "cpp", "-B", tmp_path, f"-DEDGEKIT_SOURCES={PACKAGE}"]
    subprocess.run([*command, "-G", "Unix Makefiles"], check=True, capture_output=True)
    for library in ("edgekit_jni", "edgekit_native"):
        (link,) = tmp_path.rglob(f"{library}.dir/link.txt")
        assert "-Wl,-z,max-page-size=16384" in link.read_text("utf-8"), library
