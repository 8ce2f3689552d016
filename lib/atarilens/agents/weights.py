"""Read named arrays from a checkpoint file, without running code from it or trusting its sizes.

`torch.load`, even with `weights_only=True`, believes the sizes that a file states, so a hostile
checkpoint may crash it or fill the memory. A state dict uses only a few steps of the pickle format.
This module implements these steps and refuses every other one.
"""

import functools
import io
import json
import math
import pickletools
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import load as load_safetensors

MAX_BYTES = 64 * 2**20  # of a file, and of what a zip unpacks to
MAX_ELEMENTS = 2**25  # of all arrays of a file together; NatureCNN has 1.7 million
MAX_MEMBERS = 1_000  # of a zip
MAX_OPCODES = 10_000  # of a pickle; Stable-Baselines3's DQN takes 1,400
MAX_JSON = 4 * 2**20  # bytes of Stable-Baselines3's `data`

ACCEPTED = (
    "state dicts of greydanus/baby-a3c, of CleanRL (ppo_atari, ppo_atari_lstm, dqn_atari) and of "
    "atarilens (safetensors), and Stable-Baselines3 zips (A2C, PPO, DQN with CnnPolicy), "
    "up to 64 MiB"
)
REMEDY = """Any other network works as a module of your own:
    from atarilens.agents import agent_from_module
    # module(observation [B, C, H, W] in [0, 1]) returns logits [B, A], or (logits, value)
    agent = agent_from_module(module, game="pong", preprocessing="area84-stack4")"""
NESTED = ("state_dict", "model_state_dict")  # preferred among several state dicts in a file

LEGACY_START = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # torch before 1.6
ZIP_START = b"PK\x03\x04"
DTYPES = {
    f"torch {name}Storage": np.dtype(dtype)
    for name, dtype in {
        "Half": "<f2",
        "Float": "<f4",
        "Double": "<f8",
        "Byte": "u1",
        "Bool": "?",
        "Int": "<i4",
        "Long": "<i8",
    }.items()
}


class Refused(ValueError):
    """A check below refused the file; any other exception means that the file is damaged."""


class NoStateDict(Refused):
    """The file holds something other than the weights of one network."""


class Storage(NamedTuple):
    """A run of numbers in the file, as a pickle names it."""

    dtype: np.dtype
    key: str
    size: int


class TensorRecord(NamedTuple):
    """A tensor as a pickle describes it: a strided window on a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_weights(path: str | Path) -> tuple[dict[str, np.ndarray], dict]:
    """Read a checkpoint; its content decides on the format, whatever its name.

    Args:
        path: of a file that `torch.save`, Stable-Baselines3 or safetensors wrote.

    Returns:
        Arrays by their name in the file (float32, finite), and facts: "container" ("torch",
        "stable-baselines3" or "safetensors"), and "training_steps", "seed", "algorithm" if the
        file tells them as plain data.

    Raises:
        FileNotFoundError: if there is no file at `path`.
        ValueError: if it is not a checkpoint, or damaged, or too large; names what was found and
            what is accepted. Memory stays below a few times `MAX_BYTES`, whatever the file says.
    """
    path = Path(path)
    if not path.is_file():
        folder = ", which is a folder" if path.is_dir() else ""
        raise FileNotFoundError(f"no checkpoint file at {path}{folder}")
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    try:
        arrays, facts = _read(data)
        return {name: _checked(name, array) for name, array in arrays.items()}, facts
    except Exception as error:  # a hostile file may raise anything from the readers below
        kind = f"damaged or foreign ({type(error).__name__}) "
        kind = "" if isinstance(error, Refused) else kind
        remedy = f". {REMEDY}" if isinstance(error, NoStateDict) else ""
        message = f"{kind}{str(error)[:200]}; accepted are {ACCEPTED}{remedy}"
        raise ValueError(f"{path}: {message}") from error


def _read(data: bytes) -> tuple[dict[str, np.ndarray], dict]:
    if len(data) > MAX_BYTES:
        raise Refused(f"a file of more than {MAX_BYTES} bytes")
    if data.startswith((LEGACY_START, ZIP_START)):
        return _read_torch(data)
    if data[8:9] == b"{":
        return load_safetensors(data), {"container": "safetensors"}
    start = f"a file that starts with {data[:8].hex(' ')}" if data else "an empty file"
    raise Refused(f"{start}, no known checkpoint format")


def _read_torch(data: bytes, depth: int = 0) -> tuple[dict[str, np.ndarray], dict]:
    """Read what `torch.save` wrote, or the policy in a zip of Stable-Baselines3."""
    if data.startswith(LEGACY_START):
        return _read_legacy(data), {"container": "torch"}
    archive = _open_zip(data)
    if depth or "policy.pth" not in archive.namelist():
        return _read_torch_zip(archive), {"container": "torch"}
    arrays, _ = _read_torch(_member(archive, "policy.pth"), depth + 1)
    return arrays, {"container": "stable-baselines3"} | _plain_facts(archive)


def _checked(name: str, array: np.ndarray) -> np.ndarray:
    if not np.issubdtype(array.dtype, np.floating):
        raise Refused(f"tensor {name[:80]!r} holds {array.dtype}, not floating-point numbers")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise Refused(f"tensor {name[:80]!r} holds numbers that are infinite or not numbers")
    return array


def _open_zip(data: bytes) -> zipfile.ZipFile:
    if data.count(b"PK\x01\x02") > MAX_MEMBERS:  # before zipfile makes an object of each
        raise Refused(f"a zip of more than {MAX_MEMBERS} members")
    archive = zipfile.ZipFile(io.BytesIO(data))
    size = sum(member.file_size for member in archive.infolist())
    if size > MAX_BYTES:
        raise Refused(f"a zip that unpacks to {size} bytes, more than {MAX_BYTES}")
    return archive


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return one member, checked by its CRC, never unpacking more than its stated size."""
    member = archive.getinfo(name)
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refused(f"zip member {name[:80]!r} is packed by method {member.compress_type}")
    with archive.open(member) as file:
        content = file.read(member.file_size)
    if len(content) != member.file_size:
        raise Refused(f"zip member {name[:80]!r} is shorter than it says")
    return content


def _plain_facts(archive: zipfile.ZipFile) -> dict:
    """Read the plain numbers of Stable-Baselines3's `data`, which is JSON; never its pickles."""
    if "data" not in archive.namelist() or archive.getinfo("data").file_size > MAX_JSON:
        return {}
    data = json.loads(_member(archive, "data"))
    facts = {"training_steps": data.get("num_timesteps"), "seed": data.get("seed")}
    facts = {name: value for name, value in facts.items() if isinstance(value, int)}
    algorithms = {"exploration_rate": "DQN", "n_epochs": "PPO", "gae_lambda": "A2C"}
    return facts | {"algorithm": next((algorithms[key] for key in algorithms if key in data), None)}


def _read_torch_zip(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    pickles = [name for name in archive.namelist() if re.fullmatch(r"[^/]+/data\.pkl", name)]
    if len(pickles) != 1:
        raise Refused("a zip without the state dict of a network")
    root = pickles[0].removesuffix("data.pkl")
    orders = [name for name in archive.namelist() if name == f"{root}byteorder"]
    if any(_member(archive, name) != b"little" for name in orders):
        raise Refused("a checkpoint of a big-endian machine")
    state = _parse_pickle(io.BytesIO(_member(archive, pickles[0])))
    return _arrays(state, lambda key: _member(archive, f"{root}data/{key}"))


def _read_legacy(data: bytes) -> dict[str, np.ndarray]:
    """Read the format of torch before 1.6: five pickles, then each storage after its length."""
    stream = io.BytesIO(data)
    _, _, _, state, keys = (_parse_pickle(stream) for _ in range(5))
    places, position = {}, stream.tell()
    sizes = {record.storage.key: record.storage for record in _records(state).values()}
    for key in keys:
        length = int.from_bytes(data[position : position + 8], "little")
        if not isinstance(key, str) or key not in sizes or length != sizes[key].size:
            raise Refused(f"a storage of {length} numbers, not what its tensors need")
        places[key] = position + 8
        position += 8 + length * sizes[key].dtype.itemsize
    return _arrays(state, lambda key: memoryview(data)[places[key] :])


def _records(state) -> dict[str, TensorRecord]:
    """Return the named tensors of an unpickled state dict, bare or the only one in a dictionary."""
    if isinstance(state, dict) and not _is_state_dict(state):
        inner = [name for name, value in state.items() if _is_state_dict(value)]
        inner = [name for name in NESTED if name in inner][:1] or inner
        if len(inner) > 1:
            names = ", ".join(repr(name)[:40] for name in inner[:4])
            raise NoStateDict(f"a dict of several state dicts ({names}): save one of them alone")
        state = state[inner[0]] if inner else state
    if not isinstance(state, dict) or not state:
        raise NoStateDict(f"a {type(state).__name__}, not the state dict of a network")
    for name, record in state.items():
        if not isinstance(name, str) or not isinstance(record, TensorRecord):
            kind = type(record).__name__
            raise NoStateDict(f"entry {str(name)[:80]!r} is of type {kind}, not a named tensor")
    return state


def _is_state_dict(value) -> bool:
    """Say whether this is a dictionary of at least one tensor, each under its name."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(name, str) for name in value)
        and all(isinstance(record, TensorRecord) for record in value.values())
    )


def _arrays(state, content: Callable[[str], bytes | memoryview]) -> dict[str, np.ndarray]:
    """Cut the tensors out of their storages, after every size has been checked."""
    records = _records(state)
    if sum(math.prod(record.shape) for record in records.values()) > MAX_ELEMENTS:
        raise Refused(f"tensors of more than {MAX_ELEMENTS} numbers")
    arrays, content = {}, functools.cache(content)
    for name, (storage, offset, shape, strides) in records.items():
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        if min(offset, *shape, *strides, 0) < 0 or 0 in shape or last >= storage.size:
            raise Refused(f"tensor {name[:80]!r} does not fit into its storage")
        if len(content(storage.key)) < storage.size * storage.dtype.itemsize:
            raise Refused(f"tensor {name[:80]!r} is cut off")
        flat = np.frombuffer(content(storage.key), storage.dtype, storage.size)
        steps = [stride * storage.dtype.itemsize for stride in strides]
        arrays[name] = np.lib.stride_tricks.as_strided(flat[offset:], shape, steps).copy()
    return arrays


def _storage(identity) -> Storage:
    kind, dtype, key, _location, size, *view = identity
    if kind != "storage" or not isinstance(dtype, np.dtype) or any(view):
        raise Refused("a pickle that refers to something other than a tensor's storage")
    if not isinstance(key, str) or type(size) is not int:
        raise Refused("a storage without a name or a size")
    return Storage(dtype, key, size)


def _tensor(storage, offset, shape, strides, *_flags) -> TensorRecord:
    if (
        not isinstance(storage, Storage)
        or len(shape) > 8
        or {type(n) for n in (offset, *shape, *strides)} - {int}
    ):
        raise Refused("a tensor without storage, shape or strides")
    return TensorRecord(storage, offset, tuple(shape), tuple(strides))


def _mapping(items=()) -> dict:
    for key, _ in items:
        if not isinstance(key, str | int):  # also keeps deep tuples from being hashed
            raise Refused(f"a dictionary key of type {type(key).__name__}")
    return dict(items)


NAMES = {
    "collections OrderedDict": _mapping,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": lambda tensor, *_flags: tensor,
} | DTYPES
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
INTEGERS = ("BININT", "BININT1", "BININT2", "LONG1")
LITERALS = (*INTEGERS, "BINFLOAT", "BINUNICODE", "BINSTRING", "SHORT_BINSTRING")


def _parse_pickle(stream: io.BytesIO):
    """Read one pickle of plain data and tensors; leave the stream behind its end.

    A pickle may name only the entries of `NAMES`: the types of storages and the functions above.
    """
    stack, marks, memo = [], [], {}

    def above_mark() -> list:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count > MAX_OPCODES:
            raise Refused(f"a pickle of more than {MAX_OPCODES} steps")
        match opcode.name:
            case "PROTO" | "STOP":
                pass
            case "MARK":
                marks.append(len(stack))
            case name if name in CONSTANTS:
                stack.append(CONSTANTS[name])
            case name if name in LITERALS:
                stack.append(argument)
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3" as name:
                stack[-int(name[-1]) :] = [tuple(stack[-int(name[-1]) :])]
            case "TUPLE":
                stack.append(tuple(above_mark()))
            case "LIST":
                stack.append(above_mark())
            case "APPEND":
                item = stack.pop()
                stack[-1].append(item)
            case "APPENDS":
                items = above_mark()
                stack[-1].extend(items)
            case "SETITEM":
                items = [stack.pop(-2), stack.pop()]
                stack[-1].update(_mapping([items]))
            case "SETITEMS":
                items = above_mark()
                stack[-1].update(_mapping(list(zip(items[::2], items[1::2], strict=True))))
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                if argument not in NAMES:
                    raise NoStateDict(
                        f"a pickle that asks for {argument[:80]!r}, refused: only weights are "
                        "read. Of a whole module, save module.state_dict()"
                    )
                stack.append(NAMES[argument])
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case "REDUCE":
                arguments = stack.pop()
                stack.append(stack.pop()(*arguments))
            case "BUILD":
                stack.pop()  # version metadata of an OrderedDict
            case name:
                raise Refused(f"a pickle with the step {name}, which torch.save does not write")
    (result,) = stack
    return result
