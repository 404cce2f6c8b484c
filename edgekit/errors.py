"""Every error edgekit raises on purpose, and the exit code of each.

    EdgekitError                     1   also: a bug in edgekit, when it carries a traceback
    +-- UsageError                   2   the command line was wrong (click's own code)
    +-- UnknownNameError            10   no such recipe, device, engine; names the nearest
    +-- RecipeError                 11   a recipe file that is not valid
    +-- DeviceProfileError          12   a device file that is not valid
    +-- ProbeError                  13   this machine could not be measured
    +-- SourceError                 20   a model could not be fetched
    |   +-- NetworkError            21   the network or the server failed
    |   +-- HashMismatchError       22   what came is not what the recipe pins
    +-- CheckpointError             30   a checkpoint that cannot be used
    |   +-- TruncatedFileError      31   a file ends before its tensors do
    |   +-- CorruptFileError        32   a header that contradicts itself or the file
    |   +-- TensorMismatchError     33   missing, surplus or mis-shaped tensors
    |   +-- NonFiniteWeightError    34   NaN or infinity in a weight
    |   +-- UnsupportedModelError   35   a model family or option edgekit has no file for
    |   +-- TokenizerError          36   a tokenizer or chat template that cannot be used
    +-- BudgetError                 40   the plan does not fit the device
    +-- BuildError                  50   a build that could not finish
    |   +-- OutputExistsError       51   the output folder is there already
    |   +-- DiskFullError           52   no room for the artifact
    |   +-- CalibrationError        53   activations on the calibration text that are not numbers
    |   +-- QualityError            54   the artifact is too far from its float model; it is kept aside
    +-- ArtifactError               60   a folder that is no usable artifact
    |   +-- VerificationError       61   files that differ from their manifest
    |   +-- SmokeTestError          62   the artifact does not do what it did when built
    +-- EngineError                 70   an engine cannot load or run the artifact
    |   +-- ContextLengthError      71   more tokens than the context holds
    |   +-- TokenRangeError         72   a token id outside the vocabulary
    +-- NativeLibraryError          80   the native library is missing or of another version
    +-- InterruptedBuildError      130   Ctrl-C

A message says what was being done, what was found and what is allowed; ``hint`` is the next step.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches


class EdgekitError(Exception):
    """Root of the tree.

    Args:
        message: What was being done, what was found, what is allowed.
        hint: The next step for a person, or empty.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def kind(self) -> str:
        """The class's name as JSON shows it: ``TruncatedFileError`` -> ``truncated_file``."""
        name = type(self).__name__.removesuffix("Error")
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


class UsageError(EdgekitError):
    exit_code = 2


class UnknownNameError(EdgekitError):
    exit_code = 10


class RecipeError(EdgekitError):
    exit_code = 11


class DeviceProfileError(EdgekitError):
    exit_code = 12


class ProbeError(EdgekitError):
    exit_code = 13


class SourceError(EdgekitError):
    exit_code = 20


class NetworkError(SourceError):
    exit_code = 21


class HashMismatchError(SourceError):
    exit_code = 22


class CheckpointError(EdgekitError):
    exit_code = 30


class TruncatedFileError(CheckpointError):
    exit_code = 31


class CorruptFileError(CheckpointError):
    exit_code = 32


class TensorMismatchError(CheckpointError):
    exit_code = 33


class NonFiniteWeightError(CheckpointError):
    exit_code = 34


class UnsupportedModelError(CheckpointError):
    exit_code = 35


class TokenizerError(CheckpointError):
    exit_code = 36


class BudgetError(EdgekitError):
    exit_code = 40


class BuildError(EdgekitError):
    exit_code = 50


class OutputExistsError(BuildError):
    exit_code = 51


class DiskFullError(BuildError):
    exit_code = 52


class CalibrationError(BuildError):
    exit_code = 53


class QualityError(BuildError):
    exit_code = 54


class ArtifactError(EdgekitError):
    exit_code = 60


class VerificationError(ArtifactError):
    exit_code = 61


class SmokeTestError(ArtifactError):
    exit_code = 62


class EngineError(EdgekitError):
    exit_code = 70


class ContextLengthError(EngineError):
    exit_code = 71


class TokenRangeError(EngineError):
    exit_code = 72


class NativeLibraryError(EdgekitError):
    exit_code = 80


class InterruptedBuildError(EdgekitError):
    exit_code = 130


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that names what is nearest to ``name`` among ``known``, or all of ``known``."""
    known = sorted(known)
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    return "known: " + ", ".join(known) if known else "none is known"
