"""What the way a graph is written does to engines: EfficientNet-B0 with other forms of one part at a time.

python benchmarks/graph_forms.py     some 5 minutes; written to benchmarks/graph_forms.json
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import openvino
from ai_edge_litert.interpreter import Interpreter
from keras import layers, ops
from onnxruntime import InferenceSession

import zoo
from zoo import graph
from zoo.benchmark.report import LIBRARIES
from zoo.benchmark.rounds import machine, quartiles

RESULTS = Path(__file__).with_name("graph_forms.json")
NAME, SIDE, ROUNDS = "efficientnet-b0", 224, 9

Run = Callable[[np.ndarray], Any]


def sigmoid_and_product(self: Any, path: str, x: Any, kind: str) -> Any:
    """Swish as two layers."""
    if kind == "linear":
        return x
    if kind != "swish":
        return layers.Activation(graph.KERAS_NAMES.get(kind, kind), name=f"{path}.act")(x)
    return layers.Multiply(name=f"{path}.act")([x, layers.Activation("sigmoid", name=f"{path}.gate")(x)])


def dense_squeeze_excite(self: Any, op: Any) -> Any:
    """Squeeze-and-excite of dense layers on (batch, channels), reshaped for the product."""
    x = self.outputs[op.inputs[0]]
    y = layers.GlobalAveragePooling2D(name=f"{op.path}.mean")(x)
    y = layers.Dense(op.squeeze, activation=graph.KERAS_NAMES.get(op.act, op.act), name=f"{op.path}.reduce")(y)
    y = layers.Dense(op.cout, activation=op.gate, name=f"{op.path}.expand")(y)
    return layers.Multiply(name=op.path)([x, layers.Reshape((1, 1, op.cout), name=f"{op.path}.shape")(y)])


def padded_by_ops(self: Any, path: str, x: Any, kernel: int, stride: int) -> tuple[Any, str]:
    """Every convolution after a padding of its own, as a PyTorch network is translated line by line."""
    if kernel == 1:
        return x, "valid"
    low, high = (kernel - 1) // 2, kernel // 2
    return ops.pad(x, ((0, 0), (low, high), (low, high), (0, 0))), "valid"


FORMS: dict[str, dict[str, Any]] = {
    "as zoo writes it": {},
    "swish as sigmoid and product": {"activate": sigmoid_and_product},
    "squeeze-and-excite of dense layers": {"squeeze_excite": dense_squeeze_excite},
    "a padding before every convolution": {"pad": padded_by_ops},
}


def engines(model: Any, folder: Path) -> dict[str, Run]:
    """The model in each engine at float32, one picture a call."""
    converted = openvino.convert_model(model, input=[1, SIDE, SIDE, 3])
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(converted, "CPU", hints).create_infer_request()
    for kind, ending in (("litert", "tflite"), ("onnx", "onnx")):
        model.export(folder / f"net.{ending}", format=kind, verbose=False)
    interpreter = Interpreter(str(folder / "net.tflite"), num_threads=os.cpu_count())
    entry = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(entry, (1, SIDE, SIDE, 3))
    interpreter.allocate_tensors()
    session = InferenceSession(folder / "net.onnx")

    def litert(pixels: np.ndarray) -> None:
        interpreter.set_tensor(entry, pixels)
        interpreter.invoke()

    return {
        "openvino": lambda pixels: request.infer(pixels, share_inputs=True),
        "litert": litert,
        "onnxruntime": lambda pixels: session.run(None, {session.get_inputs()[0].name: pixels}),
    }


def main() -> None:
    """Build every form, time all in turns, write the ratios to the first."""
    runs: dict[tuple[str, str], Run] = {}
    with tempfile.TemporaryDirectory() as root:
        for number, (form, methods) in enumerate(FORMS.items()):
            print(form, file=sys.stderr)
            (Path(root) / str(number)).mkdir()
            with mock.patch.multiple(graph._Walker, **methods) if methods else contextlib.nullcontext():
                model = zoo.build(NAME, input_shape=SIDE)
            for engine, run in engines(model, Path(root) / str(number)).items():
                runs[form, engine] = run
        pixels = np.random.default_rng(0).uniform(0, 255, (1, SIDE, SIDE, 3)).astype(np.float32)
        times: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
        order = list(runs)
        for turn in range(-1, ROUNDS):
            random.Random(turn).shuffle(order)
            for key in order:
                start = time.perf_counter()
                for _ in range(30):
                    runs[key](pixels)
                if turn >= 0:
                    times[key].append((time.perf_counter() - start) / 30)
    rows = []
    for (form, engine), took in times.items():
        ratios = [b / a for a, b in zip(times["as zoo writes it", engine], took, strict=True)]
        rows.append(
            {
                "form": form,
                "engine": engine,
                "ms": 1000 * statistics.median(took),
                "times": statistics.median(ratios),
                "quartiles": list(quartiles(ratios)),
            }
        )
        print(rows[-1])
    found = {"machine": machine(LIBRARIES), "network": NAME, "rounds": ROUNDS, "rows": rows}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
