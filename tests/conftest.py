"""Settings for all tests, and the models that tests of several packages share."""

from __future__ import annotations

import os

# Workers run side by side, one for each core; more BLAS threads would only compete. numpy reads this when imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from pathlib import Path

import pytest
from shared_models import SharedModels


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """In CI, fail if a test was skipped: a skip could hide a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and exitstatus == 0 and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> SharedModels:
    """Small models, each built once in this session; tests only read them."""
    if folder := os.environ.get("EDGEKIT_TEST_MODELS"):  # set by .ci/run, whose sessions share them
        return SharedModels(Path(folder))
    base = tmp_path_factory.getbasetemp()
    return SharedModels((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared-models")


@pytest.fixture(scope="session")
def artifact(models: SharedModels) -> Path:
    """The tiny artifact, written by hand."""
    return models.tiny()


@pytest.fixture(scope="session")
def reasoning_artifact(models: SharedModels) -> Path:
    """The tiny artifact with a template that ends the prompt inside a thought."""
    return models.tiny(reasoning=True)


@pytest.fixture(scope="session")
def built_artifact(models: SharedModels) -> Path:
    """A quantized artifact as the builder writes it."""
    return models.artifact()
