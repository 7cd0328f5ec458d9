"""The files that engines are timed on, made once before the rounds, each library in a process of its own.

    python -m zoo.benchmark.files zoo|keras|timm NAME SIZE FOLDER SUFFIX...

zoo: what `zoo.export` writes. keras, timm: what one writes by hand who wants the fastest file of the same network, with
OpenVINO's own converter from zoo's model and keras.applications', or from timm's.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def path_of(folder: str | Path, name: str, size: int, suffix: str, hand: str = "") -> Path:
    """Where the file of a network is; hand: the library that it was made from by hand."""
    return Path(folder) / f"{name}-{size}{hand and '-from-'}{hand}{suffix}"


def make(source: str, name: str, size: int, folder: str | Path, *suffixes: str) -> str | None:
    """Make files in a new process; None, or the last line of what it said when it failed."""
    command = [sys.executable, "-m", "zoo.benchmark.files", source, name, str(size), str(folder), *suffixes]
    done = subprocess.run(command, capture_output=True, text=True)
    return None if not done.returncode else (done.stderr.strip().splitlines() or ["no word"])[-1]


def _zoo(name: str, size: int, folder: str, suffixes: list[str]) -> None:
    import zoo

    model = zoo.build(name, input_shape=size)
    for suffix in suffixes:
        zoo.export(model, path_of(folder, name, size, suffix))


def _keras(name: str, size: int, folder: str) -> None:
    import openvino

    import zoo
    from zoo.benchmark import peers

    models = {"zoo": zoo.build(name, input_shape=size)}
    # Their ResNets are the first version, with the stride in the 1 x 1 convolutions: 6 % fewer MACs, another network.
    if peers.called("keras.applications", name) and not name.startswith("resnet-"):
        models["keras.applications"] = peers.keras_applications(name, size)
    for source, model in models.items():
        made = openvino.convert_model(model, input=[-1, size, size, 3])
        openvino.save_model(made, path_of(folder, name, size, ".xml", source), compress_to_fp16=False)


def _timm(name: str, size: int, folder: str) -> None:
    import openvino
    import torch

    from zoo.benchmark import peers

    model = peers.torch_model("timm", name, "float32")
    made = openvino.convert_model(model, example_input=torch.zeros(1, 3, size, size))
    made.reshape([-1, 3, size, size])
    openvino.save_model(made, path_of(folder, name, size, ".xml", "timm"), compress_to_fp16=False)


def _main(source: str, name: str, size: str, folder: str, *suffixes: str) -> None:
    if source == "zoo":
        _zoo(name, int(size), folder, list(suffixes))
    else:
        {"keras": _keras, "timm": _timm}[source](name, int(size), folder)


if __name__ == "__main__":
    _main(*sys.argv[1:])
