"""Every exception that edgekit raises on purpose, with its exit code.

    EdgekitError                     1   the base class; 1 is also the exit code of a bug, which shows a traceback
    +-- UsageError                   2   the command line is not valid (click uses the same exit code)
    +-- MissingPackageError          3   a Python package that this needs is not installed
    +-- OutOfMemoryError             4   the system gives this process no more memory
    +-- UnknownNameError            10   a recipe, device or engine name is not known; similar names are suggested
    +-- RecipeError                 11   a recipe file is not valid
    +-- DeviceProfileError          12   a device file is not valid
    +-- ProbeError                  13   this machine could not be measured
    +-- SourceError                 20   a model could not be fetched
    |   +-- NetworkError            21   the network or the server failed
    |   +-- HashMismatchError       22   a downloaded file is not the one that the recipe pins
    +-- CheckpointError             30   a checkpoint cannot be used
    |   +-- TruncatedFileError      31   a file ends before its tensors do
    |   +-- CorruptFileError        32   a header contradicts itself or its file
    |   +-- TensorMismatchError     33   tensors are missing, unexpected or have the wrong shape
    |   +-- NonFiniteWeightError    34   a weight is NaN or infinite
    |   +-- UnsupportedModelError   35   a model family or option is not supported
    |   +-- TokenizerError          36   a tokenizer or chat template cannot be used
    +-- BudgetError                 40   the model does not fit the device
    +-- BuildError                  50   a build could not finish
    |   +-- OutputExistsError       51   the output folder already exists
    |   +-- DiskFullError           52   there is not enough disk space
    |   +-- CalibrationError        53   activations on the calibration texts are not finite
    |   +-- QualityError            54   the artifact failed the quality gate; it is kept in another folder
    +-- ArtifactError               60   a folder is not a usable artifact
    |   +-- VerificationError       61   files differ from their manifest
    |   +-- SmokeTestError          62   the artifact behaves differently than when it was built
    +-- EngineError                 70   an engine cannot load or run the artifact
    |   +-- ContextLengthError      71   there are more tokens than the context holds
    |   +-- TokenRangeError         72   a token id is outside the vocabulary
    |   +-- SessionBusyError        73   another call uses the session, perhaps in another thread
    |   +-- EvaluationCancelledError 74   an evaluation was cancelled from another thread
    |   +-- AcceleratorError      75   a GPU is missing, is out of memory, was lost, or computes wrong results
    |   +-- FormatError           76   the format that an answer is held to is too complex
    +-- NativeLibraryError          80   the native library is missing or has another version
    +-- CompileError                81   the native library could not be compiled for another machine
    +-- BundleError                 90   a bundle for a device cannot be made
    +-- PushError                   91   a device cannot be reached, or is not the one that a bundle is for
    |   +-- TransferError           92   a file did not arrive on a device as it was sent
    +-- ServerError                 95   a server cannot be started
    +-- InterruptedBuildError      130   a build was interrupted with Ctrl-C

A message says what was being done, what was found and what is allowed. ``hint`` suggests the next step.
"""

from __future__ import annotations

import errno
import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class EdgekitError(Exception):
    """The base class of all edgekit exceptions.

    Args:
        message: What was being done, what was found, what is allowed.
        hint: The next step for the user, or empty.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def kind(self) -> str:
        """The class's name in JSON output: ``TruncatedFileError`` -> ``truncated_file``."""
        name = type(self).__name__.removesuffix("Error")
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()

    def rename(self, old: str, new: str) -> None:
        """Replace a name in the message, such as that of a temporary folder that is gone when the message is read."""
        self.message = self.message.replace(old, new)
        self.args = (self.message,)


class UsageError(EdgekitError):
    exit_code = 2


class MissingPackageError(EdgekitError):
    exit_code = 3

    @classmethod
    def for_extra(cls, extra: str, packages: Iterable[str], purpose: str) -> MissingPackageError:
        """The error for packages that come with an extra of edgekit.

        Args:
            extra: The extra's name.
            packages: The packages that are missing, at least one.
            purpose: What needs them, for the message: "building an artifact".
        """
        named = ", ".join(packages)
        return cls(
            f"{purpose} needs {named}, which this installation of edgekit does not have",
            hint=f'install the extra {extra}: pip install "edgekit-llm[{extra}]"',
        )


class OutOfMemoryError(EdgekitError):
    exit_code = 4


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


class SessionBusyError(EngineError):
    exit_code = 73


class EvaluationCancelledError(EngineError):
    exit_code = 74


class AcceleratorError(EngineError):
    exit_code = 75


class FormatError(EngineError):
    exit_code = 76


class NativeLibraryError(EdgekitError):
    exit_code = 80


class CompileError(EdgekitError):
    exit_code = 81


class BundleError(EdgekitError):
    exit_code = 90


class PushError(EdgekitError):
    exit_code = 91


class TransferError(PushError):
    exit_code = 92


class ServerError(EdgekitError):
    exit_code = 95


class InterruptedBuildError(EdgekitError):
    exit_code = 130


# The packages of the extra build, by the names they are imported by. What only runs a model needs none of them.
_BUILD_PACKAGES = ("gguf", "huggingface_hub", "ml_dtypes", "onnx", "onnxruntime", "tokenizers", "tqdm")


_SERVE_PACKAGES = ("starlette", "uvicorn")
_UNREACHABLE = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR)
_SHOWN = 100  # characters of a path


class DiscardedStateWarning(UserWarning):
    """What an interrupted build left to resume was damaged or is of other inputs, and is computed again."""


class EngineFallbackWarning(UserWarning):
    """``auto`` could not use its preferred engine and takes another; the text says why."""


class EngineProofNotice(UserWarning):
    """An engine is compared with the processor before it answers, which takes a while."""


class ThreadsWarning(UserWarning):
    """The system started fewer threads than an engine wanted; the text says how many."""


def missing_package(error: ModuleNotFoundError) -> MissingPackageError | None:
    """What to tell a user about a failed import of an extra's package; None for any other module."""
    name = (error.name or "").partition(".")[0]
    if name in _SERVE_PACKAGES:
        return MissingPackageError.for_extra("serve", [name], "edgekit serve")
    if name not in _BUILD_PACKAGES:
        return None
    return MissingPackageError.for_extra("build", [name], "building or converting a model")


def unreachable_path(error: OSError) -> UsageError | None:
    """What to tell a user about a path that the system does not open; None for an error of another kind."""
    if error.errno not in _UNREACHABLE or error.filename is None:
        return None
    name = str(error.filename)
    shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
    return UsageError(f"cannot open {shown}: {error.strerror}")


@contextmanager
def told_paths() -> Iterator[None]:
    """Raise the error of :func:`unreachable_path` for a path that the system does not open."""
    try:
        yield
    except OSError as error:
        if (found := unreachable_path(error)) is None:
            raise
        raise found from None


def shown_command(*words: object) -> str:
    """A command line of edgekit, with quotes where a shell needs them: ``edgekit verify 'my artifact'``."""
    return shlex.join(["edgekit", *map(str, words)])


def nearest(name: str, known: Iterable[str]) -> str:
    """A phrase that suggests the names in ``known`` that are similar to ``name``, or lists all of ``known``."""
    known = sorted(known)
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    return "known: " + ", ".join(known) if known else "no names are known"
