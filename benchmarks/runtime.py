"""Engines against peers: the table of targets, the paper's headline pair, training steps, cost at scale, folders.

    make runtime                                   all parts, some 45 minutes; needs the peers (torch, timm, KerasHub)
    python benchmarks/runtime.py efficientnet-b0   one part

Each part goes into benchmarks/runtime.json as it ends, from which docs/performance.md is made, and is done anew only
with --again. Run it alone: the machine's noise enters every figure.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

RESULTS = Path(__file__).with_name("runtime.json")

TARGETS = {  # batch 16, batch 1: how many times as fast ours is to be
    "efficientnet-b0": {"keras": (3.3, 10), "timm float32": (2.0, 2.0), "timm bfloat16": (1.8, 2.8)},
    "ghostnet-1.0x": {"keras": (5, 20), "timm float32": (3.0, 3.0), "timm bfloat16": (3, 5)},
    "resnet-50": {"keras": (5, 8), "timm float32": (1.3, 1.5), "timm bfloat16": (1.2, 2.7)},
}
HAND_TARGET = 0.9
"""Of the speed of the fastest engine file made by hand."""

PICTURES = 10_000


def zoo_benchmark(*argv: str) -> dict[str, Any]:
    """What `zoo benchmark --json` prints."""
    command = [sys.executable, "-m", "zoo.cli", "benchmark", *argv, "--json"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)


def network(name: str) -> dict[str, Any]:
    """One row of the table of targets, with all that it is taken from."""
    found = zoo_benchmark(
        name, "--batch", "16,1", "--size", "224", "--against", "keras.applications,keras_hub,timm,hand"
    )
    return found | {"targets": [row for batch in (16, 1) for row in _targets(name, batch, found)]}


def _targets(name: str, batch: int, found: dict[str, Any]) -> list[dict[str, Any]]:
    results = {each["variant"]: each for each in found["results"] if each["batch"] == batch}

    def times(other: str, precision: str | None) -> tuple[str, list[float]]:
        """The fastest of ours at a precision, and how many times as fast it was in each round."""
        ours = min(
            (each for label, each in results.items() if label.startswith("zoo ") and (precision or "") in label),
            key=lambda each: each["ms"],
        )
        return ours["variant"], [b / a for a, b in zip(ours["rounds"], results[other]["rounds"], strict=True)]

    def row(column: str, other: str, precision: str | None, target: float | None) -> dict[str, Any]:
        ours, ratios = times(other, precision)
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return {
            "name": name,
            "batch": batch,
            "column": column,
            "ours": ours,
            "other": other,
            "times": middle,
            "quartiles": [low, high],
            "target": target,
        }

    wanted = {column: pair[0 if batch == 16 else 1] for column, pair in TARGETS[name].items()}
    keras = "keras.applications predict" if "keras.applications predict" in results else "zoo keras predict"
    rows = [row("keras", keras, None, wanted["keras"]), row("keras, float32", keras, "float32", None)]
    for precision in ("float32", "bfloat16"):
        if f"timm eager {precision}" not in results:  # a processor without it
            continue
        rows.append(row(f"timm {precision}", f"timm eager {precision}", precision, wanted[f"timm {precision}"]))
        rows.append(row(f"compile {precision}", f"timm compile {precision}", precision, None))
        hands = [label for label in results if label.startswith("hand ") and label.endswith(precision)]
        best = min(hands, key=lambda label: results[label]["ms"])
        rows.append(row(f"hand {precision}", best, precision, HAND_TARGET))
    return rows


def headline() -> dict[str, Any]:
    """EfficientNet's Table 4: B1 against ResNet-152, one picture, one core."""
    return zoo_benchmark(
        *("efficientnet-b1", "resnet-152", "--batch", "1", "--threads", "1"),
        *("--engines", "openvino,litert,keras", "--against", "timm"),
    )


def training() -> dict[str, Any]:
    """Steps of training, forward, backward and update, of 16 pictures at float32."""
    against = ("--size", "224", "--batch", "16", "--against", "keras.applications,keras_hub,timm", "--train")
    return zoo_benchmark(*TARGETS, *against)


def batches() -> dict[str, Any]:
    """Cost against the batch."""
    return zoo_benchmark("efficientnet-b0", "--batch", "1,2,4,8,16,32,64,128", "--engines", "openvino,keras")


def resolutions() -> dict[str, Any]:
    """Cost against the resolution."""
    sizes = "96,128,160,192,224,288,352,448,576"
    return zoo_benchmark("efficientnet-b0", "--size", sizes, "--batch", "1", "--engines", "openvino,keras")


def widths() -> dict[str, Any]:
    """Cost against the width of a family, and against all three of the compound rule."""
    names = [f"mobilenet-v2-{width}x" for width in ("0.35", "0.5", "0.75", "1.0", "1.3", "1.4")]
    return zoo_benchmark(*names, *(f"efficientnet-b{n}" for n in range(5)), "--batch", "1", "--engines", "openvino")


def _predict(*argv: str) -> dict[str, Any]:
    """Seconds and peak MB of one `zoo predict`, in a process of its own."""
    before = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "zoo.cli", "predict", *argv], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"zoo predict {' '.join(argv)} ended with {status}")
    return {"seconds": time.perf_counter() - before, "peak_mb": usage.ru_maxrss / 1024, "cpu": usage.ru_utime}


def _photographs(folder: Path, count: int) -> None:
    """JPEGs of 400 x 300 pixels cut out of scikit-image's photographs, each of its own."""
    import numpy as np
    import skimage
    from PIL import Image

    data, rng = Path(skimage.__file__).parent / "data", np.random.default_rng(0)
    images = [Image.open(data / name).convert("RGB") for name in ("chelsea.png", "coffee.png", "astronaut.png")]
    for number in range(count):
        image = images[number % len(images)]
        width = int(rng.integers(200, min(image.width, image.height * 4 // 3) + 1))
        left, top = rng.integers(0, image.width - width + 1), rng.integers(0, image.height - width * 3 // 4 + 1)
        crop = image.crop((int(left), int(top), int(left) + width, int(top) + width * 3 // 4))
        crop.resize((400, 300)).save(folder / f"{number:05d}.jpg", quality=90)


def folder() -> dict[str, Any]:
    """10,000 pictures through `zoo predict`, and what decoding them and answering them take by themselves."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    import zoo

    name, rows = "efficientnet-lite0", []
    with tempfile.TemporaryDirectory() as root:
        many, few = Path(root) / "many", Path(root) / "few"
        many.mkdir()
        few.mkdir()
        _photographs(many, PICTURES)
        for path in sorted(many.iterdir())[:1000]:
            (few / path.name).symlink_to(path)
        model = zoo.load(name, pretrained=True, engine="auto")
        paths = sorted(many.iterdir())[:2000]
        start = time.perf_counter()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda path: zoo.preprocess(path, model.record).shape, paths))
        decode = (time.perf_counter() - start) / len(paths)
        pixels = np.zeros((16, *model.input), np.float32)
        model(pixels)
        start = time.perf_counter()
        for _ in range(60):
            model(pixels)
        answer = (time.perf_counter() - start) / 60 / 16
        for where, count, engine in ((few, 1000, "auto"), (many, PICTURES, "auto"), (few, 1000, None)):
            options = ["--engine", engine] if engine else []
            took = _predict(str(where), "--model", name, "--top", "1", *options)
            rows.append({"pictures": count, "engine": engine or "Keras", **took})
    return {"model": name, "decode_ms": 1000 * decode, "answer_ms": 1000 * answer, "rows": rows}


def one_picture() -> dict[str, Any]:
    """`zoo predict` of one photograph, start of Python and imports included: each engine against plain Keras."""
    import skimage

    picture = str(Path(skimage.__file__).parent / "data" / "coffee.png")
    engines: tuple[str | None, ...] = ("openvino", "onnxruntime", "litert", None)
    for engine in engines:
        _predict(picture, *(["--engine", engine] if engine else []))  # converts, where there is no file yet
    seconds: dict[str, list[float]] = {engine or "plain Keras": [] for engine in engines}
    for _ in range(9):
        for engine in engines:
            took = _predict(picture, *(["--engine", engine] if engine else []))
            seconds[engine or "plain Keras"].append(took["seconds"])
    return {"seconds": seconds}


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    **{name: (lambda name=name: network(name)) for name in TARGETS},
    "headline": headline,
    "training": training,
    "batches": batches,
    "resolutions": resolutions,
    "widths": widths,
    "one picture": one_picture,
    "folder": folder,
}


def table(found: dict[str, Any]) -> str:
    """The targets and what was reached."""
    lines = [f"{'network':<16} {'batch':>5} {'against':<18} {'reached':>8} {'quartiles':>16} {'target':>7}"]
    for name in TARGETS:
        for row in found.get(name, {}).get("targets", []):
            low, high = row["quartiles"]
            target = "" if row["target"] is None else f"{row['target']:.1f}"
            met = "" if row["target"] is None else "met" if row["times"] >= row["target"] else "short"
            lines.append(
                f"{name:<16} {row['batch']:>5} {row['column']:<18} {row['times']:>8.2f} "
                f"{f'{low:.2f} to {high:.2f}':>16} {target:>7} {met}"
            )
    return "\n".join(lines)


def main() -> None:
    """Do the parts that are named, or that are not there yet, and print the table of targets."""
    asked = [argument for argument in sys.argv[1:] if argument != "--again"]
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    for part in asked or PARTS:
        if part not in PARTS:
            raise SystemExit(f"unknown part {part!r}; valid: {', '.join(PARTS)}")
        if part in found and "--again" not in sys.argv:
            continue
        print(part, file=sys.stderr, flush=True)
        found[part] = PARTS[part]()
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
