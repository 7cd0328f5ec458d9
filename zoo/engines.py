"""An exported network in the engine that runs it: OpenVINO, ONNX Runtime or LiteRT. Loads no Keras."""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling_rules.errors import ZooError, shown, unknown
from scaling_rules.spec import NetworkSpec, spec_from_dict
from zoo import memory, metadata
from zoo.processor import INT8, features
from zoo.quiet import without_chatter

if TYPE_CHECKING:
    from zoo.prediction import Prediction

log = logging.getLogger("zoo")

FORMATS = {"openvino": "openvino", "litert": "litert", "onnxruntime": "onnx"}
"""Engine -> the format of its files; in the order of what is fastest on most processors (docs/performance.md)."""

MODULES = {"openvino": "openvino", "litert": "ai_edge_litert", "onnxruntime": "onnxruntime"}

NAMES = (*FORMATS, "keras")

Run = Callable[[np.ndarray], np.ndarray]


class Engine:
    """A network that answers but does not train: what `zoo.load(..., engine=...)` returns.

    Called with pixels (n, height, width, channels), uint8 or float in [0, 255], it returns float32 logits
    (n, classes), as NumPy arrays; from any thread, any n. name: of the engine. precision: what it computes in.
    threads: None for the engine's own choice. batch: None for any number of pictures a pass, else the number it was
    compiled for; other numbers are cut and filled up. spec, record, input (height, width, channels): the network's.
    """

    def __init__(
        self, run: Run, told: dict[str, Any], *, name: str, precision: str, threads: int | None, batch: int | None
    ) -> None:
        self._run = run
        self.name, self.precision, self.threads, self.batch = name, precision, threads, batch
        self.spec: NetworkSpec = spec_from_dict(told["config"]["spec"])
        self.record: dict[str, Any] | None = told["config"].get("record")
        self.input: tuple[int, int, int] = tuple(told["input"][1:])

    def __repr__(self) -> str:
        threads = "its own choice of" if self.threads is None else self.threads
        return f"<{self.spec.name} in {self.name}, {self.precision}, {threads} threads, input {self.input}>"

    def __call__(self, pixels: Any) -> np.ndarray:
        """Logits of all pictures in one pass, or in passes of `batch`.

        Raises ZooError for pixels of another shape or type, and for more pictures than memory holds.
        """
        batch = self._pixels(pixels)
        per_pass = self.batch or len(batch)
        need = memory.per_picture(self.spec, self.input, self.precision)
        memory.require(min(per_pass, len(batch)), need)
        try:
            if not self.batch:
                return self._run(batch)
            parts = [self._filled(batch[start : start + per_pass]) for start in range(0, len(batch), per_pass)]
        except Exception as error:  # each engine has its own way to say that memory is out
            if memory.is_exhausted(error):
                raise memory.too_many(per_pass, need) from None
            raise
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def _filled(self, part: np.ndarray) -> np.ndarray:
        assert self.batch
        lacking = self.batch - len(part)
        if not lacking:
            return self._run(part)
        return self._run(np.concatenate([part, np.zeros((lacking, *self.input), np.float32)]))[: len(part)]

    def _pixels(self, pixels: Any) -> np.ndarray:
        batch = np.asarray(pixels)
        if batch.ndim != 4 or batch.shape[1:] != self.input or batch.dtype.kind not in "fiu":
            size = ", ".join(map(str, self.input))
            raise ZooError(
                f"{self.spec.name} takes pixels (n, {size}) here, numbers in [0, 255], not {batch.dtype} {batch.shape};"
                " zoo.preprocess prepares pictures, input_shape= of zoo.load chooses another size."
            )
        if not len(batch):
            raise ZooError("no pictures to answer.")
        return np.ascontiguousarray(batch, np.float32)

    def predict(self, pixels: Any, batch_size: int = 32) -> np.ndarray:
        """Logits of any number of pictures, `batch_size` a pass, as Keras' predict; memory is that of one pass."""
        if type(batch_size) is not int or batch_size < 1:
            raise ZooError(f"batch_size must be a whole number of at least 1, not {batch_size!r}.")
        step = self.batch or batch_size
        count = max(len(pixels), 1)
        return np.concatenate([self(pixels[start : start + step]) for start in range(0, count, step)])

    def classify(
        self, images: Any, top: int = 5, *, record: dict[str, Any] | None = None, batch: int = 32
    ) -> list[list[Prediction]]:
        """`zoo.classify` of this network."""
        from zoo.prediction import classify

        return classify(self, images, top, record=record, batch=self.batch or batch)


# -- which engines there are


def check(engine: str, precision: str | None, threads: int | None, batch: int | None) -> None:
    """Raise ZooError for an engine, a number of threads or a batch that cannot be."""
    if engine not in (*NAMES, "auto"):
        raise unknown("engine", engine, (*NAMES, "auto"))
    for what, value in (("threads", threads), ("batch", batch)):
        if value is not None and (type(value) is not int or value < 1):
            raise ZooError(f"{what} must be a whole number of at least 1, or None, not {value!r}.")
    if engine in ("keras", "onnxruntime", "litert") and precision not in (None, "float32"):
        raise unknown(f"precision of {engine}", precision, ("float32",))
    if engine == "keras" and threads is not None:
        raise ZooError("TensorFlow's threads are set before it starts: TF_NUM_INTRAOP_THREADS=2, not threads=.")


def installed(engine: str) -> bool:
    """Whether an engine can be imported."""
    return engine == "keras" or importlib.util.find_spec(MODULES[engine]) is not None


def fastest() -> str:
    """The first engine of FORMATS that is installed, else 'keras'."""
    return next(filter(installed, NAMES))


def openvino_precisions(capabilities: Sequence[str]) -> tuple[str, ...]:
    """What a processor computes in, best first, by what OpenVINO says that it has ('FP32', 'BF16', 'FP16', ...)."""
    low = "bfloat16" if "BF16" in capabilities else "float16" if "FP16" in capabilities else None
    return (low, "float32") if low else ("float32",)


def computes_in(engine: str, precision: str | None) -> str:
    """The precision asked for, or the fastest that the processor has. Raises ZooError for one that it has not."""
    module = metadata.needs(MODULES[engine])
    if engine != "openvino":
        return "float32"
    valid = openvino_precisions(module.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    if precision not in (None, *valid):
        raise unknown("precision of openvino on this processor", precision, valid)
    return precision or valid[0]


def open_file(
    path: str | os.PathLike[str],
    engine: str | None = None,
    *,
    precision: str | None = None,
    threads: int | None = None,
    batch: int | None = None,
) -> Engine:
    """An engine on a file that `zoo.export` wrote; the arguments are those of `zoo.load`.

    Raises ZooError for a file that is missing, damaged or not zoo's, for an engine that is not installed or does not
    run such files, for a precision that the processor lacks, and for another batch than the file was made for.
    """
    path = Path(path)
    told = metadata.read(path)
    kind = metadata.format_of(path)
    runs = {form: name for name, form in FORMATS.items()}
    if kind not in runs:
        raise ZooError(f"{str(path)!r}: no engine here runs {kind} files; export to {', '.join(FORMATS.values())}.")
    name = runs[kind]
    if engine not in (None, "auto", name):
        raise ZooError(f"{str(path)!r} is run by {name}, not by {engine}.")
    check(name, precision, threads, batch)
    fixed = told["input"][0]
    if batch is not None and fixed not in (None, batch):
        raise ZooError(f"{str(path)!r} was exported for {fixed} pictures a call, not {batch}.")
    batch = fixed or batch
    shape = (batch, *told["input"][1:])
    precision = computes_in(name, precision)
    try:
        run = _RUNNERS[name](path, shape, precision, threads)
    except ZooError:
        raise
    except Exception as error:  # each engine has exceptions of its own for a file it cannot read
        raise ZooError(f"{path}: {name} cannot run it: {shown(error, 300)}") from None
    stored = told["precision"]
    if kind == "openvino" and told.get("int8", {}).get("processors") == "vnni" and not INT8 & features():
        log.warning(
            "zoo: %s was made on a processor with VNNI instructions; this one has none, its int8 sums overflow and "
            "answers are wrong: export the network here, which then runs anywhere.",
            path,
        )
    return Engine(
        run, told, name=name, precision=stored if stored == "int8" else precision, threads=threads, batch=batch
    )


# -- one function an engine: a file to what answers

_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


def _openvino(path: Path, shape: tuple[int | None, ...], precision: str, threads: int | None) -> Run:
    openvino = metadata.needs("openvino")
    core = openvino.Core()
    # Said even for float32: left to itself OpenVINO computes in bfloat16 where the processor has it.
    options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS[precision]}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    network = core.read_model(path)
    if shape[0]:
        network.reshape(list(shape))
    compiled = core.compile_model(network, "CPU", options)
    own = threading.local()  # a compiled network has one request, and is busy while it answers

    def run(pixels: np.ndarray) -> np.ndarray:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        return own.request.infer(pixels, share_inputs=True)[0]

    return run


def _onnxruntime(path: Path, shape: tuple[int | None, ...], precision: str, threads: int | None) -> Run:
    onnxruntime = metadata.needs("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0].name

    def run(pixels: np.ndarray) -> np.ndarray:
        return session.run(None, {entry: pixels})[0]

    return run


def _litert(path: Path, shape: tuple[int | None, ...], precision: str, threads: int | None) -> Run:
    litert = metadata.needs("ai_edge_litert.interpreter")
    count = threads or usable_cores()
    own = threading.local()  # an interpreter holds the tensors of one answer

    def made(number: int) -> Any:
        with without_chatter():
            interpreter = litert.Interpreter(str(path), num_threads=count)
        interpreter.resize_tensor_input(
            interpreter.get_input_details()[0]["index"], (number, *shape[1:]), strict=not shape[0]
        )
        interpreter.allocate_tensors()
        return interpreter

    def run(pixels: np.ndarray) -> np.ndarray:
        if getattr(own, "number", None) != len(pixels):
            own.interpreter, own.number = made(len(pixels)), len(pixels)
        own.interpreter.set_tensor(own.interpreter.get_input_details()[0]["index"], pixels)
        own.interpreter.invoke()
        return own.interpreter.get_tensor(own.interpreter.get_output_details()[0]["index"])

    made(shape[0] or 1)  # a damaged file is refused now, not at the first picture
    return run


_RUNNERS = {"openvino": _openvino, "onnxruntime": _onnxruntime, "litert": _litert}


def usable_cores() -> int:
    """Logical processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
