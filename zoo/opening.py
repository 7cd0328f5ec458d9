"""The model that a command is given: by name, by where it is, or as a saved .keras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scaling_rules.errors import ZooError
from zoo import metadata
from zoo.catalog import split
from zoo.quiet import without_chatter


def open_model(
    name: str, engine: str | None = None, *, precision: str | None = None, threads: int | None = None
) -> Any:
    """The model of a name, of a place that `zoo.load` takes, or of a .keras file, opened in Keras' safe mode.

    engine, precision, threads: as `zoo.load` takes them; the answer is then an engine.
    """
    whole = name.endswith(".keras")
    place = name.startswith("hf://") or Path(name).expanduser().exists()
    if whole and not place:
        raise ZooError(f"no saved model {name!r}.")
    if not place:
        split(name)  # an unknown name must not cost the start of TensorFlow
    from zoo.loading import load

    if engine or name.lower().endswith(metadata.ENGINE_SUFFIXES):
        if whole:
            raise ZooError(f"{name!r} is run by Keras; leave out --engine, or give what zoo.save wrote of it.")
        with without_chatter():  # TensorFlow may have to start to convert
            return load(
                name, engine=engine or "auto", pretrained=None if place else True, precision=precision, threads=threads
            )
    if precision or threads:
        raise ZooError("--precision and --threads are an engine's; give --engine auto, or openvino, onnxruntime ...")
    with without_chatter():
        import keras

        keras.ops.zeros(1)
    if whole:
        try:
            return keras.models.load_model(name, compile=False)
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise ZooError(f"{name!r} cannot be loaded: {str(error).splitlines()[0]}") from None
    return load(name, pretrained=None if place else True)
