"""scikit-learn's digits as folders of pictures: real data that is there without a network."""

import os

import numpy as np
import pytest
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
