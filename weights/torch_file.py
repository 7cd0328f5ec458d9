"""Read a PyTorch checkpoint without PyTorch: NumPy arrays come out, and nothing else can.

A checkpoint is a pickle that describes tensors, plus raw storages. The `pickle` module is not used: even with
a strict `find_class`, BUILD sets attributes of what is allowed, and one opcode can make the memo gigabytes
long. `pickletools.genops` only decodes; `_unpickle` acts on the opcodes that `torch.save` writes and refuses
the rest. A tensor stays a description until its bounds and its size have been checked against the file.
"""

from __future__ import annotations

import io
import math
import pickletools
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scaling_rules.errors import ZooError

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_WRAPPERS = ("state_dict", "model", "state_dict_ema")
_REFUSED = "is not allowed: nothing in a checkpoint is executed"

# Bounds on hostile work, far above any real network: an opcode costs about a microsecond and 100 bytes.
_MAX_OPCODES = 500_000
_MAX_DIMS = 32
_MAX_NUMBER = 2**48  # of a size, stride or offset
_MAX_COPIES = 2  # all arrays together, in file sizes: a fused tensor and its slices are views of one storage

# Storage type -> the NumPy type that its bytes are read as.
_FLOATS = {"Double": "f8", "Float": "f4", "Half": "f2", "BFloat16": "u2"}
_WHOLES = {"Long": "i8", "Int": "i4", "Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "u1"}
_STORED = {f"torch {name}Storage": np.dtype(code) for name, code in (_FLOATS | _WHOLES).items()}

_STRINGS = ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING")
_NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TAKES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "APPEND": 1, "SETITEM": 2}
_TAKES_TO_MARK = ("TUPLE", "APPENDS", "SETITEMS")


class _Global(NamedTuple):
    name: str  # 'module name', a key of _STORED or _BUILDERS


class _Storage(NamedTuple):
    key: str
    type: str  # a key of _STORED
    numel: int


class _Tensor(NamedTuple):  # as the pickle has it: nothing is checked yet
    storage: Any
    offset: Any
    size: Any
    stride: Any


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Return the state dict in a `.pth`, `.pt` or `.bin` file as NumPy arrays by name, in the file's order.

    Both forms of `torch.save` are read: one stream (before 1.6) and an uncompressed zip. The arrays are
    C-contiguous, writable and not backed by the file; bfloat16 becomes float32, every other type stays. Names
    tied to the very same view of a storage share one array, as in PyTorch. If the file holds a dict in which
    just one of 'state_dict', 'model' and 'state_dict_ema' is a state dict, that one is returned.

    Raises ZooError, one line naming the file, for all else: an unreadable or malformed file, a global other
    than those of a plain state dict, an entry that is no tensor, a tensor that reaches outside its storage or
    has more elements than it.
    """
    path = Path(path)
    try:
        _require(path.is_file(), "no such file")
        with path.open("rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
        tree, raw, byteorder = _read_zip(path) if is_zip else _read_stream(path.read_bytes())
        return _arrays(_state_dict(tree), raw, byteorder, path.stat().st_size)
    except ZooError as error:
        raise ZooError(f"{path}: {error}") from None
    except Exception as error:  # in a hostile file any step may fail in any way; all of it means the same
        reason = " ".join(f"{type(error).__name__}: {error}"[:200].split())
        raise ZooError(f"{path}: malformed PyTorch checkpoint ({reason})") from error


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ZooError(message)


def _read_stream(data: bytes) -> tuple[Any, dict[str, memoryview], str]:
    # Five pickles (magic number, version, system, objects, storage keys), then each storage after its length.
    _require(data.startswith(b"\x80"), f"not a PyTorch checkpoint: it starts with {data[:8]!r}")
    stream = io.BytesIO(data)
    _require(_unpickle(stream)[0] == _MAGIC, "not a PyTorch checkpoint: a pickle without its magic number")
    _require(_unpickle(stream)[0] == _PROTOCOL, f"not of protocol version {_PROTOCOL}, the only one there is")
    system = _unpickle(stream)[0]
    little = isinstance(system, dict) and system.get("little_endian") is True
    _require(little, "not written on a little-endian machine")
    tree, storages = _unpickle(stream)
    keys = _unpickle(stream)[0]
    strings = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    same = strings and len(keys) == len(storages) and set(keys) == storages.keys()
    _require(same, "the storage keys are not those that the tensors refer to")
    view, start, raw = memoryview(data), stream.tell(), {}
    for key in keys:
        storage = storages[key]
        numel = int.from_bytes(view[start : start + 8], "little", signed=True)
        _require(numel == storage.numel, f"storage {key[:80]!r} has {numel} elements, not {storage.numel}")
        start, end = start + 8, start + 8 + _nbytes(storage)
        _require(end <= len(data), f"truncated: storage {key[:80]!r} ends at byte {end} of {len(data)}")
        raw[key], start = view[start:end], end
    _require(start == len(data), f"{len(data) - start} bytes follow the last storage")
    return tree, raw, "<"


def _read_zip(path: Path) -> tuple[Any, dict[str, memoryview], str]:
    # NAME/data.pkl, NAME/data/KEY for each storage, and in newer files NAME/byteorder.
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        names = {info.filename for info in infos}
        _require(len(names) == len(infos), "two zip members have one name")
        # torch stores members as they are, so whatever could unfold to more than the file is a bomb.
        plain = all(info.compress_type == 0 and info.compress_size == info.file_size for info in infos)
        _require(plain, "a compressed zip member, which torch.save does not write")
        claimed = sum(info.file_size for info in infos)
        _require(claimed <= path.stat().st_size, f"the zip members claim {claimed} bytes, more than the file")
        pickles = [name for name in names if name.endswith("/data.pkl")]
        _require(len(pickles) == 1, f"not a PyTorch checkpoint: a zip file with {len(pickles)} */data.pkl")
        root = pickles[0].removesuffix("data.pkl")
        order = archive.read(f"{root}byteorder") if f"{root}byteorder" in names else b"little"
        _require(order in (b"little", b"big"), f"unknown byteorder {order[:20]!r}; valid: little, big")
        tree, storages = _unpickle(io.BytesIO(archive.read(pickles[0])))
        raw = {}
        for key, storage in storages.items():
            _require(f"{root}data/{key}" in names, f"storage {key[:80]!r} is missing")
            raw[key] = memoryview(archive.read(f"{root}data/{key}"))
            size, needed = len(raw[key]), _nbytes(storage)
            _require(size == needed, f"storage {key[:80]!r} has {size} bytes, not {needed}")
    return tree, raw, "<" if order == b"little" else ">"


def _state_dict(tree: Any) -> dict[str, _Tensor]:
    _require(isinstance(tree, dict), "holds no state dict")
    wrapped = [tree[key] for key in _WRAPPERS if isinstance(tree.get(key), dict)]
    wrapped = [inner for inner in wrapped if any(isinstance(value, _Tensor) for value in inner.values())]
    state = wrapped[0] if len(wrapped) == 1 else tree
    hint = f", and {len(wrapped)} of {', '.join(_WRAPPERS)} hold tensors, not 1" if state is tree else ""
    for name, value in state.items():
        _require(isinstance(name, str), f"the name {str(name)[:80]} is not a string")
        _require(isinstance(value, _Tensor), f"entry {name[:80]!r} is not a tensor{hint}")
    _require(len(state) > 0, "holds no tensors")
    return state


def _arrays(state: dict[str, _Tensor], raw: dict, byteorder: str, file_size: int) -> dict[str, np.ndarray]:
    made: dict[_Tensor, np.ndarray] = {}
    arrays, total = {}, 0
    for name, tensor in state.items():
        try:
            _check(tensor)
            if tensor not in made:
                total += _nbytes(tensor.storage._replace(numel=math.prod(tensor.size)))
                fits = total <= _MAX_COPIES * file_size
                _require(fits, f"overlapping tensors fill {total} bytes so far, from a file of {file_size}")
                made[tensor] = _array(tensor, raw[tensor.storage.key], byteorder)
            arrays[name] = made[tensor]
        except ZooError as error:
            raise ZooError(f"tensor {name[:80]!r}: {error}") from None
    return arrays


def _check(tensor: _Tensor) -> None:
    storage, offset, size, stride = tensor
    _require(isinstance(storage, _Storage), "it has no storage")
    _require(type(size) is tuple and type(stride) is tuple, "size and stride are not two tuples")
    _require(len(size) == len(stride) <= _MAX_DIMS, f"{len(size)} sizes, {len(stride)} strides; at most 32")
    whole = all(type(number) is int and 0 <= number < _MAX_NUMBER for number in (offset, *size, *stride))
    _require(whole, "offset, size and stride are not all whole numbers from 0 to 2**48")
    where = f"size {size}, stride {stride}, offset {offset}, storage of {storage.numel}"
    numel, last = math.prod(size), offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    # A stride of 0 would expand a small storage at will without ever reaching outside it.
    _require(numel <= storage.numel, f"more elements than its storage ({where})")
    _require(numel == 0 or last < storage.numel, f"reaches outside its storage ({where})")


def _array(tensor: _Tensor, raw: memoryview, byteorder: str) -> np.ndarray:
    dtype = _STORED[tensor.storage.type]
    array = np.empty(tensor.size, dtype)
    if array.size:
        strides = [step * dtype.itemsize for step in tensor.stride]
        stored = np.dtype(byteorder + dtype.str[1:])
        array[...] = np.ndarray(tensor.size, stored, raw, tensor.offset * dtype.itemsize, strides)
    if tensor.storage.type == "torch BoolStorage":
        return array.astype(bool)  # not a view: a byte other than 0 and 1 is no valid bool
    if tensor.storage.type == "torch BFloat16Storage":
        wide = array.astype(np.uint32)
        wide <<= 16  # in place: `wide << 16` makes a scalar of an array without dimensions
        return wide.view(np.float32)
    return array


def _nbytes(storage: _Storage) -> int:
    return storage.numel * _STORED[storage.type].itemsize


def _unpickle(stream: io.BytesIO) -> tuple[Any, dict[str, _Storage]]:
    # Return the next object in `stream` and the storages it refers to. It is made of str, int, float, bool,
    # None, tuple, list, dict (for OrderedDict too), _Global, _Storage and _Tensor, perhaps nested deep and
    # shared without end: never hash, compare or print a container, nor walk one once for each opcode.
    stack: list[Any] = []
    below: list[list[Any]] = []  # the stacks under each open MARK
    memo: dict[Any, Any] = {}
    storages: dict[str, _Storage] = {}
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        _require(count < _MAX_OPCODES, "a pickle of too many opcodes")
        name = opcode.name
        if name in _TAKES_TO_MARK:
            items, stack = stack, below.pop()
        elif name in _TAKES:
            items = [stack.pop() for _ in range(_TAKES[name])][::-1]
        if name in _STRINGS or name in _NUMBERS:
            _require(not isinstance(argument, int) or argument.bit_length() <= 128, "a giant integer")
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("EMPTY_DICT", "EMPTY_LIST"):
            stack.append({} if name == "EMPTY_DICT" else [])
        elif name == "MARK":
            below.append(stack)
            stack = []
        elif name.startswith("TUPLE"):
            stack.append(tuple(items))
        elif name.startswith("APPEND"):
            _a(list, stack[-1]).extend(items)
        elif name.startswith("SETITEM"):
            _set_items(stack[-1], zip(items[::2], items[1::2], strict=True))
        elif name in ("GLOBAL", "STACK_GLOBAL", "INST"):
            if name == "STACK_GLOBAL":
                argument = " ".join([_a(str, stack.pop()), _a(str, stack.pop())][::-1])
            known = name != "INST" and (argument in _STORED or argument in _BUILDERS)
            _require(known, f"{str(argument)[:80].replace(' ', '.', 1)!r} {_REFUSED}")
            stack.append(_Global(str(argument)))
        elif name == "BINPERSID":
            storage = _storage(*_arguments(stack.pop()))
            same = storages.setdefault(storage.key, storage) == storage
            _require(same, f"storage {storage.key[:80]!r} has two types or sizes")
            stack.append(storage)
        elif name == "REDUCE":
            arguments, function = _arguments(stack.pop()), stack.pop()
            if not isinstance(function, _Global) or function.name not in _BUILDERS:
                raise ZooError(f"a call to other than {', '.join(_BUILDERS)} {_REFUSED}")
            stack.append(_BUILDERS[function.name](*arguments))
        elif name == "BUILD":  # sets attributes: the _metadata of a state dict, of no use here
            stack.pop()
            _a(dict, stack[-1])
        elif name == "STOP" and len(stack) == 1 and not below:
            return stack[0], storages
        else:
            _require(name in ("PROTO", "FRAME"), f"pickle opcode {name} in this place {_REFUSED}")
    raise ZooError("a pickle without an end")


def _a(kind: type, value: Any) -> Any:
    _require(isinstance(value, kind), f"malformed pickle: a {type(value).__name__} is no {kind.__name__}")
    return value


def _arguments(value: Any) -> tuple:
    # Unpacking one long tuple again for each of many opcodes would take hours.
    _require(len(_a(tuple, value)) <= 8, "malformed pickle: a call with too many arguments")
    return value


def _set_items(target: Any, items: Any) -> None:
    for key, value in items:
        # Hashing a deep tuple overflows the C stack, and long integers may be made to collide.
        plain = isinstance(key, str) or (type(key) is int and key.bit_length() <= 32)
        _require(plain, "a dict key that is neither a string nor a small integer")
        _require(key not in _a(dict, target), f"the name {str(key)[:80]!r} occurs twice")
        target[key] = value


def _ordered_dict(*arguments: Any) -> dict:
    result: dict = {}
    for items in arguments:  # Python 2 wrote a list of [key, value] as the one argument
        _set_items(result, _a(list, items))
        items.clear()  # or the same list could be copied into many dicts
    return result


def _storage(tag: Any, kind: Any, key: Any, location: Any, numel: Any, view: Any = None) -> _Storage:
    known = tag == "storage" and isinstance(kind, _Global) and kind.name in _STORED and view is None
    _require(known, "a persistent id that is not a plain storage")
    whole = isinstance(key, str) and type(numel) is int and numel >= 0
    _require(whole, "a storage whose key is not a string or whose size is not a whole number")
    return _Storage(key, kind.name, numel)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, offset, size, stride)


_BUILDERS: dict[str, Any] = {
    "collections OrderedDict": _ordered_dict,
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": lambda data, *_: _a(_Tensor, data),
}
