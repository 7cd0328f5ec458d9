"""The model that a command is given: by name, by where it is, or as a saved .keras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scaling_rules.errors import ZooError
from zoo.catalog import split
from zoo.quiet import without_chatter


def open_model(name: str) -> Any:
    """The model of a name, of a place that `zoo.load` takes, or of a .keras file, opened in Keras' safe mode."""
    whole = name.endswith(".keras")
    place = name.startswith("hf://") or Path(name).expanduser().exists()
    if whole and not place:
        raise ZooError(f"no saved model {name!r}.")
    if not place:
        split(name)  # an unknown name must not cost the start of TensorFlow
    with without_chatter():
        import keras

        keras.ops.zeros(1)
    if whole:
        try:
            return keras.models.load_model(name, compile=False)
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise ZooError(f"{name!r} cannot be loaded: {str(error).splitlines()[0]}") from None
    from zoo.loading import load

    return load(name, pretrained=True)
