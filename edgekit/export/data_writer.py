"""Writes ``model.onnx.data``: quantizes the weights in chunks of rows and writes them at the layout's offsets.

Memory does not grow with the model: each thread holds one chunk. Files are read and written with pread and pwrite, not
through a memory map, because touched pages of a map count as this process's memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.writer import disk_error
from ..layout import DataLayout, Matrix, Slot
from ..models.spec import ModelSpec, TensorRef
from ..progress import Share
from ..quantize.packing import PackedLinear
from ..quantize.rtn import NonFiniteError, quantize_rows
from ..threads import thread_pool
from ..weights.source import WeightSource, unusable_weight
from .rotary import rotary_rows

CHUNK_WEIGHTS = 1 << 20  # per job: a few milliseconds of work, a few megabytes of memory


@dataclass(frozen=True)
class _Job:
    """Rows ``start`` to ``stop`` of a tensor, to be written from row ``at`` of the matrix that holds the tensor."""

    matrix: Matrix
    ref: TensorRef
    start: int
    stop: int
    at: int


def write_data(
    path: Path,
    layout: DataLayout,
    spec: ModelSpec,
    source: WeightSource,
    progress: Share,
    threads: int,
    half_scales: bool = False,
    layers: Iterable[tuple[Matrix, PackedLinear]] | None = None,
) -> None:
    """Write the data file.

    Args:
        path: The file. It is created at its full size first, so that a full disk is reported before any work is done.
        layout: The offset and format of every tensor.
        spec: The model; its rotary embedding fills the cos and sin tables.
        source: The weights.
        progress: Called with (weights done, weights in all).
        threads: Number of chunks processed at the same time.
        half_scales: Choose the codes inside the layers for scales that float16 can hold, whatever type stores them.
        layers: The layout's ``calibrated`` matrices, already quantized. None: round them to nearest, like the others.

    Raises:
        DiskFullError: There is not enough disk space.
        NonFiniteWeightError: A weight is NaN or infinite, or too large for the activation type.
        CheckpointError: A tensor cannot be read.
    """
    with _reserved(path, layout.size_bytes) as file:
        writer = _Writer(path, file, layout, source, half_scales)
        for vector in layout.vectors():
            writer.vector(vector.slot, (vector.source,))
        for matrix in layout.matrices():
            if matrix.bias is not None:
                writer.vector(matrix.bias, tuple(p.bias for p in matrix.parts if p.bias is not None))
        writer.rotary(spec)
        given = [] if layers is None else list(layout.calibrated())
        _run(writer.matrix_rows, list(_jobs(m for m in layout.matrices() if m not in given)), threads, progress)
        for matrix, packed in layers or ():
            writer.packed(matrix, packed)


def _jobs(matrices: Iterable[Matrix]) -> Iterator[_Job]:
    for matrix in matrices:
        at = 0
        for part in matrix.parts:
            rows, columns = part.weight.shape
            step = max(1, CHUNK_WEIGHTS // columns)
            if part.weight.interleaved_heads:
                head_dim = rows // part.weight.interleaved_heads
                step = max(head_dim, step // head_dim * head_dim)
            for start in range(0, rows, step):
                yield _Job(matrix, part.weight, start, min(start + step, rows), at + start)
            at += rows


def _run(work: Callable[[_Job], None], jobs: list[_Job], threads: int, progress: Share) -> None:
    total = sum((j.stop - j.start) * j.ref.shape[1] for j in jobs)
    done, lock = 0, Lock()

    def one(job: _Job) -> None:
        nonlocal done
        work(job)
        with lock:
            done += (job.stop - job.start) * job.ref.shape[1]
            progress(done, total)

    progress(0, total)
    with thread_pool(threads, "edgekit-quantize") as pool:
        futures: list[Future[None]] = [pool.submit(one, job) for job in jobs]
        finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in finished:
            future.result()


class _Writer:
    def __init__(self, path: Path, file: int, layout: DataLayout, source: WeightSource, half_scales: bool) -> None:
        self._path, self._file = path, file
        self._half = {m.name for m in layout.inner_matrices()} if half_scales else set()
        self._dtype = np.dtype(layout.activation_type)
        self._layout = layout
        self._source = source

    def matrix_rows(self, job: _Job) -> None:
        """Copy, quantize or convert one chunk, and write it."""
        if job.matrix.scheme is None:
            rows = self._source.rows(job.ref, job.start, job.stop)
            self._rows_at(job.matrix.weight, job.at, self._convert(rows, job.ref, job.start))
            return
        packed = self._source.packed(job.ref, job.start, job.stop, job.matrix.scheme) or self._quantize(job)
        self._put(job.matrix, job.at, packed, self._convert(packed.scales, job.ref, job.start))

    def packed(self, matrix: Matrix, packed: PackedLinear) -> None:
        """Write a whole matrix that is already quantized."""
        self._put(matrix, 0, packed, packed.scales)

    def _put(self, matrix: Matrix, at: int, packed: PackedLinear, scales: NDArray[Any]) -> None:
        self._rows_at(matrix.codes, at, packed.codes)
        self._rows_at(matrix.scales, at, scales)
        if packed.zero_points is not None:
            self._rows_at(matrix.zero_points, at, packed.zero_points)

    def _quantize(self, job: _Job) -> PackedLinear:
        if job.matrix.scheme is None:
            raise AssertionError("a matrix without a scheme is not quantized")
        rows = self._source.rows(job.ref, job.start, job.stop)
        scale_type = np.dtype(np.float16) if job.matrix.name in self._half else self._dtype
        try:
            return quantize_rows(rows, job.matrix.scheme, scale_type.name)
        except NonFiniteError as error:
            raise unusable_weight(job.ref, error.value, scale_type, job.start + error.row, error.column) from None

    def vector(self, slot: Slot, refs: tuple[TensorRef, ...]) -> None:
        """Write one-dimensional tensors into a slot, one after another."""
        parts = [self._convert(self._source.rows(ref, 0, ref.shape[0]), ref, 0) for ref in refs]
        self._rows_at(slot, 0, np.concatenate(parts))

    def rotary(self, spec: ModelSpec) -> None:
        """Write the tables of cos and sin, a chunk of positions at a time."""
        for start in range(0, self._layout.max_context, 4096):
            stop = min(start + 4096, self._layout.max_context)
            cos, sin = rotary_rows(spec.rope, start, stop)
            self._rows_at(self._layout.rotary_cos, start, cos.astype(self._dtype))
            self._rows_at(self._layout.rotary_sin, start, sin.astype(self._dtype))

    def _convert(self, rows: NDArray[Any], ref: TensorRef, start: int) -> NDArray[Any]:
        with np.errstate(over="ignore"):
            converted = rows.astype(self._dtype)
        finite = np.isfinite(converted)
        if not finite.all():
            index = np.unravel_index(int(np.argmin(finite)), finite.shape)
            raise unusable_weight(ref, float(rows[index]), self._dtype, start + int(index[0]), *map(int, index[1:]))
        return converted

    def _rows_at(self, slot: Slot | None, row: int, array: NDArray[Any]) -> None:
        if slot is None:
            raise AssertionError("the layout has no slot for an array that the quantizer returned")
        row_bytes = slot.size_bytes // slot.shape[0]
        _write_all(self._path, self._file, np.ascontiguousarray(array).data.cast("B"), slot.offset + row * row_bytes)


@contextmanager
def _reserved(path: Path, size_bytes: int) -> Iterator[int]:
    """Create a file, reserve its disk blocks, and yield its descriptor."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    except OSError as error:
        raise disk_error(error, path, size_bytes) from None
    try:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file, 0, size_bytes)
            else:
                os.truncate(file, size_bytes)
        except OSError as error:
            raise disk_error(error, path, size_bytes) from None
        yield file
    finally:
        os.close(file)


def _write_all(path: Path, file: int, data: memoryview, offset: int) -> None:
    while data:
        try:
            written = os.pwrite(file, data, offset)
        except OSError as error:
            raise disk_error(error, path, len(data)) from None
        data, offset = data[written:], offset + written
