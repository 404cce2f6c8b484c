"""Fills ``model.onnx.data``: weights are read, quantized and written in row chunks at offsets known beforehand.

Memory does not grow with the model: each thread holds one chunk. Files are read and written through the page cache with
pread and pwrite, never through a map, whose touched pages would count as this process's memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
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
from ..quantize.packing import PackedLinear
from ..quantize.rtn import NonFiniteError, quantize_rows
from .weights import WeightSource, unusable_weight

CHUNK_WEIGHTS = 1 << 20  # per job: some milliseconds of work, some megabytes of memory


@dataclass(frozen=True)
class _Job:
    """Rows start..stop of one tensor, which go to row ``at`` of its matrix."""

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
    progress: Callable[[int, int], None],
    threads: int,
    layers: Iterable[tuple[Matrix, PackedLinear]] | None = None,
) -> None:
    """Write the data file.

    Args:
        path: The file; it is created at its full size first, so a full disk shows before any work is done.
        layout: Where everything goes, and in which format.
        spec: The model; its rotary embedding fills the cos and sin tables.
        source: The weights.
        progress: Called with (weights done, weights in all).
        threads: Chunks worked on at once.
        layers: The layers' matrices, quantized already; None: round them to nearest as the others.

    Raises:
        DiskFullError: The disk has no room.
        NonFiniteWeightError: A weight is NaN or infinite, or too large for the activation type.
        CheckpointError: A tensor cannot be read.
    """
    with _reserved(path, layout.size_bytes) as file:
        writer = _Writer(file, layout, source)
        for vector in layout.vectors():
            writer.vector(vector.slot, (vector.source,))
        for matrix in layout.matrices():
            if matrix.bias is not None:
                writer.vector(matrix.bias, tuple(p.bias for p in matrix.parts if p.bias is not None))
        writer.rotary(spec)
        given = [] if layers is None else [m for layer in layout.layers for m in layer.matrices]
        _run(writer.matrix_rows, list(_jobs(m for m in layout.matrices() if m not in given)), threads, progress)
        for matrix, packed in layers or ():
            writer.packed(matrix, 0, packed)


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


def _run(work: Callable[[_Job], None], jobs: list[_Job], threads: int, progress: Callable[[int, int], None]) -> None:
    total = sum((j.stop - j.start) * j.ref.shape[1] for j in jobs)
    done, lock = 0, Lock()

    def one(job: _Job) -> None:
        nonlocal done
        work(job)
        with lock:
            done += (job.stop - job.start) * job.ref.shape[1]
            progress(done, total)

    progress(0, total)
    with ThreadPoolExecutor(threads, thread_name_prefix="edgekit-quantize") as pool:
        futures: list[Future[None]] = [pool.submit(one, job) for job in jobs]
        try:
            finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in finished:
                future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


class _Writer:
    def __init__(self, file: int, layout: DataLayout, source: WeightSource) -> None:
        self._file = file
        self._dtype = np.dtype(layout.activation_type)
        self._layout = layout
        self._source = source

    def matrix_rows(self, job: _Job) -> None:
        """Quantize (or convert) one chunk and put it where it belongs."""
        rows = self._source.rows(job.ref, job.start, job.stop)
        if job.matrix.scheme is None:
            self._rows_at(job.matrix.weight, job.at, self._convert(rows, job.ref, job.start))
            return
        try:
            packed: PackedLinear = quantize_rows(rows, job.matrix.scheme, self._layout.activation_type)
        except NonFiniteError as error:
            raise unusable_weight(job.ref, error.value, self._dtype, job.start + error.row, error.column) from None
        self.packed(job.matrix, job.at, packed)

    def packed(self, matrix: Matrix, at: int, packed: PackedLinear) -> None:
        """Put quantized rows where they belong, from row ``at`` of their matrix on."""
        self._rows_at(matrix.codes, at, packed.codes)
        self._rows_at(matrix.scales, at, packed.scales)
        if packed.zero_points is not None:
            self._rows_at(matrix.zero_points, at, packed.zero_points)

    def vector(self, slot: Slot, refs: tuple[TensorRef, ...]) -> None:
        """Write one-dimensional tensors one after another."""
        parts = [self._convert(self._source.rows(ref, 0, ref.shape[0]), ref, 0) for ref in refs]
        self._rows_at(slot, 0, np.concatenate(parts))

    def rotary(self, spec: ModelSpec) -> None:
        """Write cos and sin of position * frequency, computed in float64, in chunks of positions."""
        frequencies = np.array(spec.rope.inverse_frequencies())  # (head_dim / 2,)
        for start in range(0, self._layout.max_context, 4096):
            stop = min(start + 4096, self._layout.max_context)
            angles = np.arange(start, stop)[:, None] * frequencies  # (positions, head_dim / 2)
            self._rows_at(self._layout.rotary_cos, start, np.cos(angles).astype(self._dtype))
            self._rows_at(self._layout.rotary_sin, start, np.sin(angles).astype(self._dtype))

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
            raise AssertionError("the layout has no slot for what the quantizer returned")
        row_bytes = slot.size_bytes // slot.shape[0]
        _write_all(self._file, np.ascontiguousarray(array).data.cast("B"), slot.offset + row * row_bytes)


@contextmanager
def _reserved(path: Path, size_bytes: int) -> Iterator[int]:
    """The new file open for writing, with all its blocks reserved on the disk."""
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


def _write_all(file: int, data: memoryview, offset: int) -> None:
    while data:
        try:
            written = os.pwrite(file, data, offset)
        except OSError as error:
            raise disk_error(error, None, len(data)) from None
        data, offset = data[written:], offset + written
