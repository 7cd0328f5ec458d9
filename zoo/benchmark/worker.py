"""One contestant in a process of its own: it makes its network, then answers, is timed and weighed when told to.

    python -m zoo.benchmark.worker JOB     JOB: a Job as JSON; one JSON request a line in, one JSON answer a line out

A process each, because TensorFlow, PyTorch and the engines disturb each other's threads, and memory is a process'.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaling_rules.errors import shown

WARM_UP = 3
"""Calls before the first that counts: graphs are traced, kernels chosen and memory taken in these."""

Call = Callable[[], Any]


@dataclass(frozen=True)
class Job:
    """What to run. source: zoo, hand, or a peer. how: predict, file, eager, compile or train.

    size: the side of its own pictures. engine, files: of zoo and hand, the engine and where its file for each size is.
    threads: how many processors, None for all.
    """

    source: str
    name: str
    how: str
    size: int
    precision: str = "float32"
    engine: str = ""
    files: tuple[tuple[int, str], ...] = ()
    threads: int | None = None

    def to_json(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))


def limit(threads: int | None) -> None:
    """Leave this process only so many processors, before any library counts them."""
    if threads is None:
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = str(threads)


class Contestant:
    """A network that is made when first called for: `call(batch, size)` is what is timed.

    seconds: import, build or open, of the first call for; params: of the network, to see that it is the same one.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.seconds: dict[str, float] = {}
        self.params: int | None = None
        self._last = time.perf_counter()
        self.models: dict[Any, Any] = {}

    def lap(self, what: str) -> None:
        """Note the time since the last lap."""
        now = time.perf_counter()
        self.seconds.setdefault(what, now - self._last)
        self._last = now

    def call(self, batch: int, size: int) -> Call:
        """What is timed: one answer, or one step of training, to the same pixels."""
        self._last = time.perf_counter()
        pixels = np.random.default_rng(0).uniform(0, 255, (batch, size, size, 3)).astype(np.float32)
        if self.job.how == "file":
            return self._file(batch, size, pixels)
        if self.job.source in ("timm", "torchvision"):
            return self._torch(pixels)
        return self._keras(size, pixels)

    def _keras(self, size: int, pixels: np.ndarray) -> Call:
        import keras

        import zoo
        from zoo.benchmark import peers

        keras.ops.zeros(1)
        self.lap("import")
        if size not in self.models:
            self.models.clear()
            if self.job.source == "zoo":
                model = zoo.build(self.job.name, input_shape=size)
            else:
                model = peers.BUILDERS[self.job.source](self.job.name, size)
            self.models[size] = model
            self.params = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
        model = self.models[size]
        self.lap("build")
        if self.job.how == "predict":
            return lambda: model.predict(pixels, batch_size=len(pixels), verbose=0)
        labels = np.random.default_rng(0).integers(0, model.output.shape[-1], len(pixels))
        model.compile(
            optimizer=keras.optimizers.SGD(0.01, momentum=0.9),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        return lambda: model.train_on_batch(pixels, labels)

    def _torch(self, pixels: np.ndarray) -> Call:
        import torch

        from zoo.benchmark import peers

        if self.job.threads:
            torch.set_num_threads(self.job.threads)
        self.lap("import")
        if None not in self.models:
            model = peers.torch_model(self.job.source, self.job.name, self.job.precision)
            self.params = sum(parameter.numel() for parameter in model.parameters())
            self.models[None] = torch.compile(model) if self.job.how == "compile" else model
        model = self.models[None]
        self.lap("build")
        dtype = getattr(torch, self.job.precision)
        images = torch.from_numpy(pixels.transpose(0, 3, 1, 2)).to(dtype, memory_format=torch.channels_last)
        if self.job.how == "train":
            model.train()
            optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
            labels = torch.from_numpy(np.random.default_rng(0).integers(0, 1000, len(pixels)))

            def step() -> float:
                optimizer.zero_grad(set_to_none=True)
                loss = torch.nn.functional.cross_entropy(model(images), labels)
                loss.backward()
                optimizer.step()
                return loss.item()

            return step

        def answer() -> Any:
            with torch.inference_mode():
                return model(images).float().numpy()

        return answer

    def _file(self, batch: int, size: int, pixels: np.ndarray) -> Call:
        path = dict(self.job.files)[size]
        if self.job.source == "zoo":
            from zoo import engines

            engines.computes_in(self.job.engine, None)
            self.lap("import")
            engine = engines.open_file(path, precision=self.job.precision, threads=self.job.threads, batch=batch)
            self.lap("build")
            return lambda: engine(pixels)
        import openvino

        core = openvino.Core()
        self.lap("import")
        network = core.read_model(path)
        given = pixels.transpose(0, 3, 1, 2).copy() if network.input().partial_shape[1] == 3 else pixels
        network.reshape(list(given.shape))
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[self.job.precision],
        }
        if self.job.threads:
            options["INFERENCE_NUM_THREADS"] = self.job.threads
        request = core.compile_model(network, "CPU", options).create_infer_request()
        self.lap("build")
        return lambda: request.infer(given, share_inputs=True)[0]


def peak_mb(reset: bool = False) -> float:
    """Peak resident memory of this process in MiB, since the last reset where the system knows one (Linux)."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def serve(job: Job) -> None:
    """Answer requests until standard input ends: {'batch', 'size', 'seconds'} is timed for at least so long.

    The answer: {'ms': of one call, 'calls', 'peak_mb'} and, the first time a batch and size is asked for, after its
    warm-up, 'seconds' of each phase and 'params'; or {'error'}.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print does not belong between the answers
    contestant = Contestant(job)
    current: tuple[int, int] | None = None
    call: Call | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            found: dict[str, Any] = {}
            key = asked["batch"], asked["size"]
            if key != current or call is None:
                current, call = key, None  # the last one goes first, so that the memory is this one's
                gc.collect()
                call = contestant.call(*key)
                contestant._last = time.perf_counter()
                call()
                contestant.lap("first")
                for _ in range(WARM_UP - 1):
                    call()
                found = {"seconds": contestant.seconds, "params": contestant.params}
            peak_mb(reset=True)
            count, start = 0, time.perf_counter()
            while not count or time.perf_counter() - start < asked["seconds"]:
                call()
                count += 1
            elapsed = time.perf_counter() - start
            found |= {"ms": 1000 * elapsed / count, "calls": count, "peak_mb": peak_mb()}
        except Exception as error:  # said by the parent, which goes on without this contestant
            found = {"error": shown(f"{type(error).__name__}: {error}", 300)}
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    stated = json.loads(sys.argv[1])
    stated["files"] = tuple((size, path) for size, path in stated["files"])
    made = Job(**stated)
    limit(made.threads)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    serve(made)
