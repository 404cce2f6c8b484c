"""The tests mirror the source: a module with logic has its namesake, tests/PACKAGE/test_MODULE.py."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "edgekit"
TESTS = ROOT / "tests"

# Dataclasses and constants alone.
WITHOUT_LOGIC = {
    "models/llama.py",
    "models/qwen2.py",
    "models/qwen3.py",
    "planning/planned_engine.py",
    "weights/tensor_rules.py",
}


def namesakes(module: Path) -> list[Path]:
    """Where a module's tests may be: a command of the command line may share its name with a package's module."""
    relative = module.relative_to(SOURCE)
    if module.name == "__init__.py":  # a package's own interface
        return [TESTS / relative.parent / f"test_{relative.parent.name}.py"]
    name = module.stem.lstrip("_")
    return [
        TESTS / relative.parent / f"test_{name}.py",
        TESTS / relative.parent / f"test_{name}_{relative.parts[0]}.py",
    ]


def modules() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if path.name not in ("__init__.py", "__main__.py"))


def test_each_module_has_its_tests() -> None:
    found = modules()
    assert len(found) > 100
    missing = {
        str(module.relative_to(SOURCE)) for module in found if not any(path.is_file() for path in namesakes(module))
    }
    assert missing - WITHOUT_LOGIC == set()


def test_the_exceptions_are_modules_without_tests() -> None:
    named = {SOURCE / name for name in WITHOUT_LOGIC}
    assert named <= set(modules())
    assert not any(path.is_file() for module in named for path in namesakes(module))
