"""EfficientNet-Lite 0 to 4 (tensorflow/tpu, models/official/efficientnet/lite): B0 to B4 for phones.

No squeeze-and-excitation, ReLU6, and stem, head and the depth of the first and last stage are not scaled.
"""

from __future__ import annotations

from scaling_rules import compound
from scaling_rules.compound import Coefficients
from scaling_rules.spec import Dialect, Head, NetworkSpec, Stem
from zoo.families import TENSORFLOW, Group, Make, Pixels, named, pixels, timm
from zoo.families.efficientnet import TABLE, mbconv_stages

DIALECTS = named(TENSORFLOW, timm())

RELEASED: Pixels = {"mean": (127.0, 127.0, 127.0), "std": (128.0, 128.0, 128.0)}

COEFFICIENTS = {
    "lite0": Coefficients(1.0, 1.0, 224, 0.2),
    "lite1": Coefficients(1.0, 1.1, 240, 0.2),
    "lite2": Coefficients(1.1, 1.2, 260, 0.3),
    "lite3": Coefficients(1.2, 1.4, 280, 0.3),
    "lite4": Coefficients(1.4, 1.8, 300, 0.3),
}


def lite(variant: str, dialect: Dialect) -> NetworkSpec:
    """Lite0, or a larger one by its released coefficients."""
    c = COEFFICIENTS[variant]
    base = NetworkSpec(
        name=f"efficientnet-{variant}",
        family="efficientnet-lite",
        input=(224, 224, 3),
        classes=1000,
        dialect=dialect,
        stem=Stem(32, activation="relu6"),
        stages=mbconv_stages(TABLE, 32, "relu6", squeeze=False),
        head=Head(conv=1280, activation="relu6", dropout=c.dropout),
        drop_path=0.2,
        source="tensorflow/tpu models/official/efficientnet/lite/README.md and efficientnet_lite_builder.py",
        note="Resolutions are the release's 280 and 300 for lite3 and lite4 (timm runs them at 300 and 380); "
        "its README states MACs 4 to 5.5 % above a count of convolutions and dense layers. Pixels are normalised "
        "as in the release, (x - 127) / 128; ports of its weights take (x - 127.5) / 127.5.",
        **pixels(dialect, RELEASED),
    )
    return compound.scale(base, c.depth, c.width, c.resolution, fixed_ends=True)


def _make(variant: str) -> Make:
    return lambda dialect: lite(variant, dialect)


GROUPS = (Group({f"efficientnet-{variant}": _make(variant) for variant in COEFFICIENTS}, DIALECTS),)
