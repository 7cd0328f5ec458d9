"""What follows from the primitives without Keras: map sizes, multi-scale endpoints, and every weight by its path."""

from __future__ import annotations

from typing import NamedTuple

from scaling_rules.lower import Conv, Dense, Pool, Primitive, SqueezeExcite, Subsample, block_of, lower, stage_of
from scaling_rules.spec import NetworkSpec


def out_size(size: int, window: int, stride: int, padding: str) -> int:
    """Output side of a convolution or pooling over `size` pixels under a dialect's padding."""
    if padding == "same":
        return -(-size // stride)
    return (size + 2 * ((window - 1) // 2) - window) // stride + 1


def shapes(spec: NetworkSpec, ops: tuple[Primitive, ...] | None = None) -> dict[str, tuple[int, int]]:
    """(height, width) in pixels of each primitive's output by path; vectors are (1, 1)."""
    return sizes_of(lower(spec) if ops is None else ops, spec.input[:2], spec.dialect.padding)


def sizes_of(ops: tuple[Primitive, ...], size: tuple[int, int], padding: str) -> dict[str, tuple[int, int]]:
    """As `shapes`, of primitives whose 'input' has `size`."""
    sizes = {"input": size}
    for op in ops:
        height, width = sizes[op.inputs[0]]
        if isinstance(op, Conv):
            window, stride = op.kernel, op.stride
        elif isinstance(op, Pool):
            if not op.window:
                sizes[op.path] = (1, 1)
                continue
            window, stride = op.window, op.stride
        elif isinstance(op, Subsample):
            window, stride = 1, op.stride
        else:
            sizes[op.path] = (height, width)
            continue
        sizes[op.path] = (
            out_size(height, window, stride, padding),
            out_size(width, window, stride, padding),
        )
    return sizes


def endpoints(spec: NetworkSpec) -> dict[int, str]:
    """Total stride -> path of the last block (or stem) output at that stride, from the finest to the coarsest."""
    stride = {"input": 1}
    outputs: dict[str, str] = {}
    for op in lower(spec):
        if stage_of(op.path) == "head":
            break
        stride[op.path] = stride[op.inputs[0]] * (op.stride if isinstance(op, Conv | Pool | Subsample) else 1)
        # What a max-pool reads ends its stride too: ResNet's stem convolution.
        path = op.inputs[0] if isinstance(op, Pool) else op.path
        outputs[path if isinstance(op, Pool) else block_of(path)] = path
    last = {stride[path]: path for path in outputs.values()}
    last.pop(1, None)
    return last


class Tensor(NamedTuple):
    """Shape of a weight (Keras layout: convolutions HWIO, depthwise HWC1, dense IO) and whether it is trained."""

    shape: tuple[int, ...]
    trainable: bool


def tensors(spec: NetworkSpec) -> dict[str, Tensor]:
    """Every weight by its path ('stage1.block1.expand.conv.kernel', '...norm.gamma'), in network order."""
    table: dict[str, Tensor] = {}

    def norm(path: str, width: int) -> None:
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            table[f"{path}.norm.{name}"] = Tensor((width,), not name.startswith("moving"))

    for op in lower(spec):
        if isinstance(op, Conv):
            if op.groups > 1:
                table[f"{op.path}.conv.kernel"] = Tensor((op.kernel, op.kernel, op.cin, 1), True)
            else:
                table[f"{op.path}.conv.kernel"] = Tensor((op.kernel, op.kernel, op.cin, op.cout), True)
            norm(op.path, op.cout)
        elif isinstance(op, SqueezeExcite):
            for name, shape in (("reduce", (op.cout, op.squeeze)), ("expand", (op.squeeze, op.cout))):
                table[f"{op.path}.{name}.kernel"] = Tensor((1, 1, *shape), True)
                table[f"{op.path}.{name}.bias"] = Tensor(shape[1:], True)
        elif isinstance(op, Dense):
            table[f"{op.path}.dense.kernel"] = Tensor((op.cin, op.cout), True)
            if op.norm:
                norm(op.path, op.cout)
            else:
                table[f"{op.path}.dense.bias"] = Tensor((op.cout,), True)
    return table
