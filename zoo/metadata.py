"""What an exported file says of itself: one JSON text, put where its format has a place for it. Loads no Keras."""

from __future__ import annotations

import importlib
import json
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from scaling_rules.errors import ZooError, shown, unknown
from weights import config

KEY = "zoo"
FILE = "zoo.json"
FORMAT = "zoo-export-1"

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "litert": ".tflite", "keras": ".keras", "saved_model": ""}
"""Format -> the ending of its file; a SavedModel is a folder."""

ENGINE_SUFFIXES = (".onnx", ".xml", ".tflite")
"""Of the files that an engine runs, and that Keras does not."""

MAX_BYTES = 4 << 20
"""Of the text: a config and its class names."""


def needs(module: str, extra: str = "export") -> Any:
    """An optional library, imported; ZooError that says which extra brings it where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ZooError(f"this needs {module.split('.')[0]}: pip install 'zoo[{extra}]'.") from None


def format_of(path: Path) -> str:
    """The format that a path's ending stands for. Raises ZooError, naming the endings, for another one."""
    for name, suffix in SUFFIXES.items():
        if path.suffix.lower() == suffix:
            return name
    raise unknown(
        "ending of an exported file", path.suffix, [suffix or "none, a folder" for suffix in SUFFIXES.values()]
    )


def attach(path: Path, data: dict[str, Any]) -> None:
    """Put what is to be said into an exported file of any format but .keras, which carries its own."""
    text, kind = json.dumps(data, ensure_ascii=False), format_of(path)
    if kind == "onnx":
        onnx = needs("onnx")
        model = onnx.load(path)
        known = {entry.key: entry.value for entry in model.metadata_props}
        onnx.helper.set_model_props(model, known | {KEY: text})
        onnx.save(model, path)
    elif kind == "litert":  # an associated file: a zip archive behind the FlatBuffer, as TensorFlow Lite has it
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(FILE, text)
    elif kind == "saved_model":
        (path / "assets.extra").mkdir(exist_ok=True)
        (path / "assets.extra" / FILE).write_text(text, encoding="utf-8")


def read(path: str | Path) -> dict[str, Any]:
    """What an exported file says of itself (zoo.exporting.describe), without the engine that runs it.

    Raises ZooError naming the file where it is missing, damaged, or was not exported by zoo.
    """
    path = Path(path)
    if not path.exists():
        raise ZooError(f"no exported file {str(path)!r}.")
    try:
        text = _text(path, format_of(path))
        if text is None:
            raise ZooError("it carries no description: zoo did not export it.")
        if len(text) > MAX_BYTES:
            raise ZooError(f"its description has {len(text):,} characters; at most {MAX_BYTES:,}.")
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ZooError(f"its description is not of the format {FORMAT}.")
        config.parse(json.dumps(data.get("config")))
    except Exception as error:  # protobuf, zip and XML each have their own way of failing on a damaged file
        raise ZooError(f"{path}: {shown(error, 300) or type(error).__name__}") from None
    return data


def _text(path: Path, kind: str) -> str | None:
    if kind == "onnx":
        model = needs("onnx").load(path, load_external_data=False)
        return next((entry.value for entry in model.metadata_props if entry.key == KEY), None)
    if kind == "openvino":
        entry = ElementTree.parse(path).getroot().find(f"rt_info/{KEY}")
        return None if entry is None else entry.get("value")
    if kind == "saved_model":
        file = path / "assets.extra" / FILE
        return file.read_text(encoding="utf-8") if file.is_file() else None
    with zipfile.ZipFile(path) as archive:
        if FILE not in archive.namelist():
            return None
        if archive.getinfo(FILE).file_size > MAX_BYTES:
            raise ZooError(f"its description has more than {MAX_BYTES:,} bytes.")
        return archive.read(FILE).decode("utf-8")
