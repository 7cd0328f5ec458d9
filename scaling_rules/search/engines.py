"""Where scores are computed: here, in processes of this machine, or on a Ray cluster.

An engine takes a function and jobs, each a tuple of arguments, and gives (number of the job, value or `Failed`) as they
end, in any order. The function and its arguments must pickle for all but `serial`. What a function raises, the death of
a worker (each job is tried three times) and a job that takes longer than `timeout` seconds are a `Failed`, never an
exception, so that one bad network does not end a search.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from scaling_rules.errors import ZooError, shown, unknown

TRIES = 3
"""Of a job whose worker dies."""


class Failed(NamedTuple):
    """In place of a value: why there is none, in one line."""

    why: str


Engine = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], Iterator[tuple[int, Any]]]


def engine(name: str, *, workers: int | None = None, timeout: float | None = None, address: str = "local") -> Engine:
    """'serial', 'processes' or 'ray'. workers: processes, or the tasks that Ray runs at a time; None for one a CPU.

    address: of a Ray cluster, 'auto' for the one this machine belongs to, 'local' for one of this machine's own.
    timeout: seconds for a job, None for no limit; `serial` cannot stop a job, and refuses one.

    Raises ZooError for an unknown name, a timeout of `serial`, and a library that is not installed.
    """
    if name not in ("serial", "processes", "ray"):
        raise unknown("engine", name, ("serial", "processes", "ray"))
    if timeout is not None and not timeout > 0:
        raise ZooError(f"timeout must be above 0 seconds, not {timeout}.")
    if workers is not None and (type(workers) is not int or workers < 1):
        raise ZooError(f"workers must be a whole number of at least 1, not {workers!r}.")
    if name == "serial":
        if timeout is not None:
            raise ZooError("the serial engine cannot stop a score that takes too long; use processes or ray.")
        return serial
    if name == "processes":
        return lambda function, jobs: _processes(function, jobs, workers, timeout)
    return lambda function, jobs: _ray(function, jobs, workers, timeout, address)


def serial(function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
    """One after the other, in this process."""
    for number, job in enumerate(jobs):
        yield number, _tried(function, job)


def _tried(function: Callable[..., Any], job: tuple[Any, ...]) -> Any:
    try:
        return function(*job)
    except Exception as error:
        return Failed(f"{type(error).__name__}: {shown(error, 300)}")


def _processes(
    function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], workers: int | None, timeout: float | None
) -> Iterator[tuple[int, Any]]:
    import concurrent.futures
    import multiprocessing

    from pebble import ProcessExpired, ProcessPool

    # Started afresh: a fork of a process that runs TensorFlow hangs.
    count = workers or len(os.sched_getaffinity(0))
    with ProcessPool(max_workers=count, context=multiprocessing.get_context("spawn")) as pool:

        def start(number: int) -> None:
            future: concurrent.futures.Future[Any] = pool.schedule(
                _tried, args=(function, jobs[number]), timeout=timeout
            )
            running[future] = number

        running: dict[concurrent.futures.Future[Any], int] = {}
        tries = dict.fromkeys(range(len(jobs)), 1)
        try:
            for number in range(len(jobs)):
                start(number)
            while running:
                done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    number = running.pop(future)
                    try:
                        yield number, future.result()
                    except concurrent.futures.TimeoutError:
                        yield number, Failed(f"took longer than {timeout:g} seconds")
                    except ProcessExpired as error:
                        if tries[number] == TRIES:
                            yield number, Failed(f"its process died {TRIES} times, the last with code {error.exitcode}")
                        else:
                            tries[number] += 1
                            start(number)
                    except Exception as error:  # the function or its arguments cannot be sent to a process
                        yield number, Failed(f"{type(error).__name__}: {shown(error, 300)}")
        finally:
            pool.stop()


def _ray(
    function: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    workers: int | None,
    timeout: float | None,
    address: str,
) -> Iterator[tuple[int, Any]]:
    try:
        import ray
    except ImportError:
        raise ZooError("the engine ray needs Ray: pip install 'zoo[ray]'.") from None
    if not ray.is_initialized():
        _connect(address)
    workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    # A task whose node is lost is run again on another by Ray itself.
    task = ray.remote(max_retries=TRIES - 1)(_tried)
    waiting = list(range(len(jobs)))[::-1]
    running: dict[Any, tuple[int, float]] = {}
    while waiting or running:
        while waiting and len(running) < workers:
            number = waiting.pop()
            running[task.remote(function, jobs[number])] = (number, time.monotonic())
        done, _ = ray.wait(list(running), timeout=None if timeout is None else 1.0)
        for reference in done:
            number, _ = running.pop(reference)
            try:
                yield number, ray.get(reference)
            except ray.exceptions.RayError as error:
                yield number, Failed(f"{type(error).__name__}: {shown(error, 300)}")
        for reference, (number, start) in list(running.items()):
            if timeout is not None and time.monotonic() - start > timeout:
                ray.cancel(reference, force=True)
                del running[reference]
                yield number, Failed(f"took longer than {timeout:g} seconds")


def _connect(address: str) -> None:
    import ray

    host, _, port = address.rpartition(":")
    try:
        if host:  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        # 'local' is a Ray of this process alone, which ends with it.
        dashboard = False if address == "local" else None
        ray.init(address, log_to_driver=False, configure_logging=False, include_dashboard=dashboard)
    except (OSError, ValueError, RuntimeError) as error:
        raise ZooError(
            f"no Ray cluster at {shown(address)!r}: {shown(error, 200)}; `ray start --head` begins one."
        ) from None
