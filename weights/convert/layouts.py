"""What other projects call the modules of a network: tables from our paths to their names.

A layout is chosen by what a block lowers to, not by a model's name, so it serves a whole family.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from scaling_rules.errors import ZooError, unknown
from scaling_rules.lower import Conv, Dense, Primitive, SqueezeExcite, block_of, lower
from scaling_rules.spec import NetworkSpec

Table = dict[str, tuple[str, str]]
"""Primitive's path inside its block -> their names of (convolution or dense layer, batch norm); for
squeeze-and-excitation, of (reduce, expand)."""


class Layout(NamedTuple):
    """blocks: tables of which the first that has all of a block's primitives is used.

    prefix: the block prefixes of a network, in order. outer: the primitives outside the blocks. A name may hold
    '{n}', the number of block groups, or in a block '{b}', its number from 1.
    """

    blocks: tuple[Table, ...]
    prefix: Callable[[NetworkSpec], list[str]]
    outer: Table


def _stage_prefix(spec: NetworkSpec) -> list[str]:
    return [f"blocks.{s}.{b}." for s, stage in enumerate(spec.stages) for b in range(len(stage))]


def _strided_prefix(spec: NetworkSpec) -> list[str]:
    """Timm's GhostNet: a strided block is a group of its own, and so is the run of blocks between two."""
    prefixes: list[str] = []
    group, inside, strided = -1, 0, True
    for block in spec.blocks:
        if strided or block.stride > 1:
            group, inside = group + 1, 0
        strided = block.stride > 1
        prefixes.append(f"blocks.{group}.{inside}.")
        inside += 1
    return prefixes


def _layer_prefix(spec: NetworkSpec) -> list[str]:
    return [f"layer{s}.{b}." for s, stage in enumerate(spec.stages, 1) for b in range(len(stage))]


def _flat_prefix(spec: NetworkSpec) -> list[str]:
    return [f"_blocks.{n}." for n in range(len(spec.blocks))]


def _lettered_prefix(spec: NetworkSpec) -> list[str]:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return [f"block{s}{letters[b]}_" for s, stage in enumerate(spec.stages, 1) for b in range(len(stage))]


def _no_prefix(spec: NetworkSpec) -> list[str]:
    return [""] * len(spec.blocks)


def _expanded_prefix(spec: NetworkSpec) -> list[str]:
    return ["expanded_conv_", *(f"block_{n}_" for n in range(1, len(spec.blocks)))]


_TIMM_SE = {"squeeze": ("se.conv_reduce", "se.conv_expand")}
_TIMM_SEPARABLE: Table = {"depthwise": ("conv_dw", "bn1"), **_TIMM_SE, "project": ("conv_pw", "bn2")}
_TIMM_INVERTED: Table = {
    "expand": ("conv_pw", "bn1"),
    "depthwise": ("conv_dw", "bn2"),
    **_TIMM_SE,
    "project": ("conv_pwl", "bn3"),
}
_TIMM_GHOST: Table = {
    "expand.primary": ("ghost1.primary_conv.0", "ghost1.primary_conv.1"),
    "expand.cheap": ("ghost1.cheap_operation.0", "ghost1.cheap_operation.1"),
    "depthwise": ("conv_dw", "bn_dw"),
    **_TIMM_SE,
    "project.primary": ("ghost2.primary_conv.0", "ghost2.primary_conv.1"),
    "project.cheap": ("ghost2.cheap_operation.0", "ghost2.cheap_operation.1"),
    "shortcut.depthwise": ("shortcut.0", "shortcut.1"),
    "shortcut.project": ("shortcut.2", "shortcut.3"),
}
_RESIDUAL: Table = {
    "conv1": ("conv1", "bn1"),
    "conv2": ("conv2", "bn2"),
    "conv3": ("conv3", "bn3"),
    "shortcut": ("downsample.0", "downsample.1"),
}
_LUKEMELAS: Table = {
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "squeeze": ("_se_reduce", "_se_expand"),
    "project": ("_project_conv", "_bn2"),
}
_KERAS_EFFICIENTNET: Table = {
    "expand": ("expand_conv", "expand_bn"),
    "depthwise": ("dwconv", "bn"),
    "squeeze": ("se_reduce", "se_expand"),
    "project": ("project_conv", "project_bn"),
}
_KERAS_SEPARABLE: Table = {
    "depthwise": ("conv_dw_{b}", "conv_dw_{b}_bn"),
    "project": ("conv_pw_{b}", "conv_pw_{b}_bn"),
}
_KERAS_MOBILENET: Table = {
    "expand": ("expand", "expand_BN"),
    "depthwise": ("depthwise", "depthwise_BN"),
    "project": ("project", "project_BN"),
}

LAYOUTS: dict[str, tuple[Layout, ...]] = {
    # timm's state dicts; its ResNets are torchvision's
    "timm": (
        Layout(
            (_TIMM_SEPARABLE, _TIMM_INVERTED),
            _stage_prefix,
            {
                "stem": ("conv_stem", "bn1"),
                "head.conv": ("conv_head", "bn2"),
                "head.classifier": ("classifier", ""),
            },
        ),
        Layout(
            (_TIMM_GHOST,),
            _strided_prefix,
            {
                "stem": ("conv_stem", "bn1"),
                "head.conv": ("blocks.{n}.0.conv", "blocks.{n}.0.bn1"),
                "head.hidden": ("conv_head", "bn2"),
                "head.classifier": ("classifier", ""),
            },
        ),
        Layout((_RESIDUAL,), _layer_prefix, {"stem": ("conv1", "bn1"), "head.classifier": ("fc", "")}),
    ),
    # lukemelas/EfficientNet-PyTorch and what descends from it
    "lukemelas": (
        Layout(
            (_LUKEMELAS,),
            _flat_prefix,
            {
                "stem": ("_conv_stem", "_bn0"),
                "head.conv": ("_conv_head", "_bn1"),
                "head.classifier": ("_fc", ""),
            },
        ),
    ),
    "keras.applications": (
        Layout(
            (_KERAS_EFFICIENTNET,),
            _lettered_prefix,
            {
                "stem": ("stem_conv", "stem_bn"),
                "head.conv": ("top_conv", "top_bn"),
                "head.classifier": ("predictions", ""),
            },
        ),
    ),
    "keras.applications.mobilenet": (
        Layout(
            (_KERAS_SEPARABLE,),
            _no_prefix,
            {"stem": ("conv1", "conv1_bn"), "head.classifier": ("conv_preds", "")},
        ),
    ),
    "keras.applications.mobilenet_v2": (
        Layout(
            (_KERAS_MOBILENET,),
            _expanded_prefix,
            {
                "stem": ("Conv1", "bn_Conv1"),
                "head.conv": ("Conv_1", "Conv_1_bn"),
                "head.classifier": ("predictions", ""),
            },
        ),
    ),
}


def _named(op: Primitive, names: tuple[str, str], prefix: str) -> Iterator[tuple[str, str]]:
    first, second = (prefix + name for name in names)
    if isinstance(op, SqueezeExcite):
        yield f"{op.path}.reduce", first
        yield f"{op.path}.expand", second
    elif isinstance(op, Conv | Dense):
        yield f"{op.path}.{'conv' if isinstance(op, Conv) else 'dense'}", first
        if isinstance(op, Conv) or op.norm:
            yield f"{op.path}.norm", second


def modules(spec: NetworkSpec, layout: str) -> dict[str, str]:
    """Our module paths ('stage1.block1.expand.conv', '...norm') -> their names in `layout`, in network order.

    Raises ZooError for an unknown layout, and where the layout has no name for a part of the network.
    """
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    blocks: dict[str, dict[str, Primitive]] = {}
    for op in lower(spec):
        if isinstance(op, Conv | SqueezeExcite | Dense):
            block = block_of(op.path)
            key = op.path if "stage" not in block else op.path.removeprefix(f"{block}.")
            blocks.setdefault(block, {})[key] = op

    for choice in LAYOUTS[layout]:
        tables: dict[str, Table] = {}
        for block, ops in blocks.items():
            candidates = choice.blocks if block.startswith("stage") else (choice.outer,)
            table = next((table for table in candidates if ops.keys() <= table.keys()), None)
            if table is None:
                break
            tables[block] = table
        else:
            break
    else:
        raise ZooError(f"the layout {layout} has no names for {spec.name}: its blocks are of another family.")

    prefixes = iter(choice.prefix(spec))
    last = choice.prefix(spec)[-1].split(".")
    groups = str(int(last[1]) + 1) if len(last) > 2 and last[1].isdigit() else ""
    named: dict[str, str] = {}
    for number, (block, ops) in enumerate(blocks.items()):  # the stem is number 0
        prefix = next(prefixes) if block.startswith("stage") else ""
        for key, op in ops.items():
            for path, name in _named(op, tables[block][key], prefix):
                named[path] = name.replace("{n}", groups).replace("{b}", str(number))
    return named
