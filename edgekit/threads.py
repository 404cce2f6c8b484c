"""Python threads, and what to say if the system does not start them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from .errors import BuildError

_REFUSED = "can't start new thread"  # of the RuntimeError that CPython raises


@contextmanager
def thread_pool(threads: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads. The block ends when all its tasks have ended.

    Args:
        threads: The largest number of threads.
        name: The prefix of their names.

    Raises:
        BuildError: The system did not start a thread.
    """
    try:
        with ThreadPoolExecutor(threads, thread_name_prefix=name) as pool:
            try:
                yield pool
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    except RuntimeError as error:
        if _REFUSED not in str(error):
            raise
        raise BuildError(
            f"the system refuses to start {threads} thread{'s' * (threads > 1)} for this work",
            hint="raise the limits on processes and memory (ulimit -u, ulimit -v, pids.max), or use fewer --threads",
        ) from None
