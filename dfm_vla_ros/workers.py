"""Jobs in worker processes that end with their parent, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from dfm_vla_ros.errors import DfmVlaError

Job = TypeVar("Job")
Result = TypeVar("Result")


class WorkerDied(DfmVlaError):
    """A worker process was killed; what it had finished is kept."""


def run_parallel(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    workers: int,
    start: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """Yield ``function(job)`` of every job as they finish, from ``workers`` processes.

    Args:
        function: importable by name; runs in the workers.
        jobs: what to run it on.
        workers: at least one.
        start: called once in each worker with ``arguments``.
        arguments: of ``start``.

    Raises:
        WorkerDied: a worker was killed.
    """
    # spawn: a process forked after rendering would share the parent's graphics context.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin, (start, arguments)) as pool:
        futures = [pool.submit(function, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise WorkerDied("a worker was killed; start again to do the rest") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _begin(start: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if start is not None:
        start(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in a worker only"
    parent.join()
    os._exit(1)
