"""Functions for the workers of tests/scaling_rules/search: they are imported there by name."""

import os
import signal
import time
from pathlib import Path


def square(number):
    return number * number


def blocks(spec, seed):
    return len(spec.blocks) + seed / 100


def difficult(number):
    if number == 3:
        raise ValueError("three is\nno number")
    return number


def slow(number):
    time.sleep(60 if number == 2 else 0.01)
    return number


def deadly(number, folder):
    """Kills its process, the second job once and the fourth each time."""
    mark = Path(folder) / str(number)
    if number == 4 or (number == 2 and not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def where(number, folder):
    """Takes a second, and leaves a file that names the job and the node of a Ray cluster that it began on."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    (Path(folder) / f"{number} {node} {os.getpid()}").touch()
    time.sleep(1.0)
    return number
