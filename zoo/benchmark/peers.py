"""The same networks as other libraries build them, with random weights, each imported only where it is asked for."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from typing import Any

from scaling_rules import compound
from scaling_rules.errors import ZooError
from zoo import catalog

MODULES = {
    "keras.applications": "keras",
    "keras_hub": "keras_hub",
    "timm": "timm",
    "torchvision": "torchvision",
}
"""Peer -> the module that must be there."""

PATTERNS: dict[str, tuple[tuple[str, str], ...]] = {
    "keras.applications": (
        (r"efficientnet-(b[0-7])", "EfficientNet{0}"),
        (r"resnet-(50|101|152)", "ResNet{0}"),
        (r"mobilenet-v1-(0\.25|0\.5|0\.75|1\.0)x", "MobileNet"),
        (r"mobilenet-v2-(0\.35|0\.5|0\.75|1\.0|1\.3|1\.4)x", "MobileNetV2"),
    ),
    "keras_hub": ((r"efficientnet-(b[0-7])", "efficientnet"), (r"resnet-(18|34|50|101|152)", "resnet")),
    "timm": (
        (r"efficientnet-(b[0-8]|lite[0-4])", "efficientnet_{0}"),
        (r"efficientnet-(l2)", "efficientnet_{0}"),
        (r"ghostnet-(0\.5|1\.0|1\.3)x", "ghostnet_{0}"),
        (r"resnet-(18|34|50|101|152)", "resnet{0}"),
        (r"mobilenet-v1-(1\.0)x", "mobilenetv1_{0}"),
        (r"mobilenet-v2-(0\.5|1\.0|1\.4)x", "mobilenetv2_{0}"),
    ),
    "torchvision": (
        (r"efficientnet-(b[0-7])", "efficientnet_{0}"),
        (r"resnet-(18|34|50|101|152)", "resnet{0}"),
        (r"mobilenet-v2-(1\.0)x", "mobilenet_v2"),
    ),
}
"""Peer -> patterns of our names, and what it calls them; '1.0' is '100' in timm's.

ResNets of keras.applications are the first version, with the stride in the 1 x 1 convolutions: as many parameters, 6 %
fewer MACs than ours and the others'.
"""


def installed(peer: str) -> bool:
    """Whether a peer can be imported."""
    return importlib.util.find_spec(MODULES[peer]) is not None


def called(peer: str, name: str) -> tuple[str, str] | None:
    """What a peer calls one of our networks, and the part of our name that varies; None where it has none."""
    for pattern, theirs in PATTERNS[peer]:
        found = re.fullmatch(pattern, name)
        if found:
            part = found[1].replace(".", "").ljust(3, "0") if "." in found[1] else found[1]
            return theirs.format(part.upper() if peer == "keras.applications" else part), found[1]
    return None


def keras_applications(name: str, size: int) -> Any:
    """A model of keras.applications that gives logits, at a fixed input."""
    import keras

    theirs, part = called("keras.applications", name) or _missing("keras.applications", name)
    options = {"alpha": float(part)} if theirs.startswith("MobileNet") else {}
    return getattr(keras.applications, theirs)(
        weights=None, classifier_activation=None, input_shape=(size, size, 3), **options
    )


def keras_hub(name: str, size: int) -> Any:
    """A classifier of KerasHub, whose presets lie on a hub, from the numbers of our spec."""
    import keras_hub as hub

    theirs, part = called("keras_hub", name) or _missing("keras_hub", name)
    shape = (size, size, 3)
    if theirs == "resnet":
        stages = catalog.spec(name).stages
        backbone = hub.models.ResNetBackbone(
            input_conv_filters=[64],
            input_conv_kernel_sizes=[7],
            stackwise_num_filters=[64, 128, 256, 512],
            stackwise_num_blocks=[len(stage) for stage in stages],
            stackwise_num_strides=[1, 2, 2, 2],
            block_type="basic_block" if part in ("18", "34") else "bottleneck_block",
            image_shape=shape,
        )
        return hub.models.ImageClassifier(backbone=backbone, num_classes=1000)
    base = catalog.spec("efficientnet-b0").stages
    scale = compound.OFFICIAL[part]
    backbone = hub.models.EfficientNetBackbone(
        stackwise_kernel_sizes=[stage[0].kernel for stage in base],
        stackwise_num_repeats=[len(stage) for stage in base],
        stackwise_input_filters=[32, *(stage[-1].out for stage in base[:-1])],
        stackwise_output_filters=[stage[-1].out for stage in base],
        stackwise_expansion_ratios=[1, 6, 6, 6, 6, 6, 6],
        stackwise_strides=[1, 2, 2, 2, 1, 2, 1],
        stackwise_squeeze_and_excite_ratios=[0.25] * 7,
        stackwise_block_types=["v1"] * 7,
        stackwise_force_input_filters=[0] * 7,
        stackwise_nores_option=[False] * 7,
        min_depth=None,
        include_initial_padding=True,
        use_depth_divisor_as_min_depth=True,
        cap_round_filter_decrease=True,
        stem_conv_padding="valid",
        batch_norm_momentum=0.9,
        batch_norm_epsilon=1e-3,
        projection_activation=None,
        width_coefficient=scale.width,
        depth_coefficient=scale.depth,
        image_shape=shape,
    )
    return hub.models.ImageClassifier(backbone=backbone, num_classes=1000)


def torch_model(peer: str, name: str, precision: str) -> Any:
    """A model of timm or torchvision for inference, channels last."""
    import torch

    theirs, _ = called(peer, name) or _missing(peer, name)
    if peer == "timm":
        import timm

        model = timm.create_model(theirs, pretrained=False)
    else:
        import torchvision

        model = torchvision.models.get_model(theirs, weights=None)
    return model.eval().to(memory_format=torch.channels_last, dtype=getattr(torch, precision))


def _missing(peer: str, name: str) -> Any:
    raise ZooError(f"{peer} has no {name}.")


BUILDERS: dict[str, Callable[[str, int], Any]] = {"keras.applications": keras_applications, "keras_hub": keras_hub}
