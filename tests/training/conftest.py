"""scikit-learn's digits as folders of pictures: real data that is there without a network."""

import json
import os
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from sklearn import datasets


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """scikit-learn's digits as a folder: 1,437 pictures to train on, 360 to test on."""
    root = tmp_path_factory.mktemp("data") / "digits"
    found = datasets.load_digits()
    for number, (pixels, label) in enumerate(zip(found.images, found.target, strict=True)):
        folder = root / ("test" if number % 5 == 0 else "train") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.uint8(pixels * 255 / 16)).convert("RGB").resize((16, 16)).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def few_digits(digits, tmp_path_factory):
    """A quarter of the digits, so that two epochs are few steps."""
    root = tmp_path_factory.mktemp("data") / "few"
    for number, path in enumerate(sorted(digits.glob("*/*/*.png"))):
        if number % 4 == 0:
            (root / path.parent.relative_to(digits)).mkdir(parents=True, exist_ok=True)
            os.link(path, root / path.relative_to(digits))
    return root


@pytest.fixture(scope="session")
def crops(photos, tmp_path_factory):
    """Squares of 32 pixels out of photographs: four classes, 152 to train on and 40 to test on."""
    root, rng = tmp_path_factory.mktemp("data") / "crops", np.random.default_rng(0)
    for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"):
        image = Image.open(photos / name).convert("RGB")
        for number in range(48):
            side = int(rng.integers(100, 250))
            left, top = (int(rng.integers(0, length - side)) for length in image.size)
            folder = root / ("test" if number % 5 == 0 else "train") / name.split(".")[0]
            folder.mkdir(parents=True, exist_ok=True)
            image.crop((left, top, left + side, top + side)).resize((32, 32)).save(folder / f"{number}.png")
    return root


@pytest.fixture
def pretend(tmp_path):
    """Make (name, counts of splits, examples) random pictures with a TFDS data set's features, under `tmp_path`.

    Beside mock_data it makes what TFDS would have written of the splits' sizes. It ends with the test.
    """
    with ExitStack() as until_the_end:

        def pretend(name, counts, examples):
            builder = tfds.builder(name, data_dir=tmp_path)
            folder = Path(builder.data_path)
            folder.mkdir(parents=True)
            builder.info.features.save_config(str(folder))
            splits = [{"name": s, "shardLengths": [str(n)], "numBytes": "1000"} for s, n in counts.items()]
            told = {"name": builder.name, "version": str(builder.version), "fileFormat": "tfrecord", "splits": splits}
            if builder.builder_config:
                told["configName"] = builder.builder_config.name
            (folder / "dataset_info.json").write_text(json.dumps(told))
            until_the_end.enter_context(tfds.testing.mock_data(num_examples=examples, data_dir=str(tmp_path)))

        yield pretend
