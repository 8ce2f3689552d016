"""Hostile and damaged checkpoints: one clear error, or a sound network; never code, never floods.

Every case is made from a seed. It is read under a limit on the memory of the process, so that a
flood shows as a MemoryError in the message, which is refused here as well.
"""

import base64
import io
import json
import os
import pathlib
import pickle
import resource
import struct
import subprocess
import time
import zipfile
import zlib

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from torch import nn

from atarilens.agents import load_agent, save_agent
from atarilens.agents.foreign import import_checkpoint
from atarilens.agents.networks import NatureNetwork, RecurrentActorCritic, initialise
from atarilens.agents.weights import ACCEPTED, LEGACY_START, MAX_OPCODES, REMEDY

ROOM = 600 * 2**20  # bytes that reading may add to the process
SECONDS = 10  # of the processor, per case; most need hundredths
CONTAINERS = ("legacy", "zip", "safetensors", "stable-baselines3")


def saved(state, *, zipped=True) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def zip_of(members: dict[str, bytes], method=zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def members_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def stable_baselines_names(network: NatureNetwork) -> dict[str, torch.Tensor]:
    names = {"conv1": "cnn.0", "conv2": "cnn.2", "conv3": "cnn.4", "linear": "linear.0"}
    names = {ours: f"features_extractor.{theirs}" for ours, theirs in names.items()}
    names |= {"actor_linear": "action_net", "critic_linear": "value_net"}
    state = {}
    for name, value in network.state_dict().items():
        layer, parameter = name.split(".")
        state[f"{names[layer]}.{parameter}"] = value
    return state


@pytest.fixture(scope="module")
def files():
    """A sound file in every container, and the state dicts in them."""
    recurrent = initialise(RecurrentActorCritic(6, "gru"), 0).state_dict()
    nature = NatureNetwork(6, (1, 80, 80), hidden_units=16)
    policy = stable_baselines_names(initialise(nature, 0))
    data = json.dumps({"num_timesteps": 5, "gae_lambda": 1.0}).encode()
    return {
        "state": recurrent,
        "policy": policy,
        "legacy": saved(recurrent, zipped=False),
        "zip": saved(recurrent),
        "safetensors": safetensors.torch.save(recurrent),
        "stable-baselines3": zip_of({"data": data, "policy.pth": saved(policy)}),
    }


@pytest.fixture(scope="module")
def sentinel(tmp_path_factory):
    """A file that exists as soon as any of the hostile payloads runs."""
    return tmp_path_factory.mktemp("sentinel") / "executed"


@pytest.fixture(scope="module", autouse=True)
def little_room():
    """Allow the process so much more address space than it has, and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    statm = pathlib.Path("/proc/self/statm")  # Linux only; elsewhere the limit is not enforced
    if statm.exists():
        limit = int(statm.read_text().split()[0]) * resource.getpagesize() + ROOM
        limits = [number for number in (limit, soft, hard) if number != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def read(content: bytes, path, sentinel) -> str | None:
    """Import the bytes; return the error's text, or None after checking what was loaded."""
    path.write_bytes(content)
    start, message = time.process_time(), None
    try:
        network, facts = import_checkpoint(path, "pong")
    except ValueError as error:
        message = str(error)
        assert message.startswith(f"{path}: ")
        assert message.endswith((ACCEPTED, REMEDY)) or "the network has" in message
        assert len(message) < 1_000
        assert "MemoryError" not in message
        assert "allocate" not in message
    else:
        assert facts["num_actions"] == 6
        assert not network.training
        assert all(parameter.isfinite().all() for parameter in network.parameters())
        observation = torch.zeros(1, *network.observation_shape)
        memory = torch.zeros(1, *network.memory_shape)
        assert network(observation, memory)[0].shape == (1, 6)
    assert time.process_time() - start < SECONDS
    assert not sentinel.exists(), "code of the file was executed"
    return message


# 1. Damage. ---------------------------------------------------------------------------------


@pytest.mark.parametrize("container", CONTAINERS)
def test_sound_files_load(container, files, tmp_path, sentinel):
    assert read(files[container], tmp_path / "agent", sentinel) is None


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("container", CONTAINERS)
def test_a_truncated_file_is_refused(container, seed, files, tmp_path, sentinel):
    content = files[container]
    rng = np.random.default_rng(seed)
    length = int(rng.integers(len(content))) if seed % 2 else int(rng.integers(2_000))
    assert read(content[:length], tmp_path / "agent", sentinel)


@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("container", CONTAINERS)
def test_flipped_bits(container, seed, files, tmp_path, sentinel):
    """In the numbers a flip may pass unseen; where the structure stands, it must not mislead."""
    content = bytearray(files[container])
    rng = np.random.default_rng(seed)
    ranges = [(0, 3_000), (len(content) - 3_000, len(content)), (0, len(content))]
    for position in rng.integers(*ranges[seed % 3], size=1 + seed % 4):
        content[position] ^= 1 << int(rng.integers(8))
    read(bytes(content), tmp_path / "agent", sentinel)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("container", CONTAINERS)
def test_bytes_from_elsewhere(container, seed, files, tmp_path, sentinel):
    """A stretch of the file is overwritten with noise, zeros or another stretch of it."""
    content = bytearray(files[container])
    rng = np.random.default_rng(seed)
    length = int(rng.integers(1, 400))
    near = 4_000 if seed % 2 else len(content) - length
    target, source = int(rng.integers(near)), int(rng.integers(len(content) - length))
    replacement = (rng.bytes(length), bytes(length), content[source : source + length])[seed % 3]
    content[target : target + length] = replacement
    read(bytes(content), tmp_path / "agent", sentinel)


@pytest.mark.parametrize("seed", range(30))
def test_noise_behind_a_known_beginning(seed, tmp_path, sentinel):
    rng = np.random.default_rng(seed)
    starts = (LEGACY_START, b"PK\x03\x04", b"\x40\0\0\0\0\0\0\0{", b"", b"\x80\x02", b"\x93NUMPY")
    content = starts[seed % len(starts)] + rng.bytes(int(rng.integers(5_000)))
    assert read(content, tmp_path / "agent", sentinel)


# 2. Sound files of other networks. ----------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_wrong_shapes(seed, files, tmp_path, sentinel):
    """One parameter is missing, renamed, reshaped, of another type or not finite."""
    rng = np.random.default_rng(seed)
    state = dict(files["state"] if seed % 2 else files["policy"])
    name = sorted(state)[int(rng.integers(len(state)))]
    value = state.pop(name)
    changes = [
        {},
        {f"{name}s": value},
        {name: value[1:]},
        {name: value.flatten()[None]},
        {name: value[None].expand(1_000, *value.shape)},
        {name: torch.zeros(0)},
        {name: torch.tensor(1.0)},
        {name: value.long()},
        {name: value / 0},
        {name: {"nested": value}},
    ]
    state |= changes[seed // 2 % len(changes)]
    zipped = bool(rng.integers(2))
    assert read(saved(state, zipped=zipped), tmp_path / "agent", sentinel)


# 3. Pickles that would execute code. --------------------------------------------------------


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


EXPLOITS = {
    "os.system": lambda path: pickle.dumps(Call(os.system, f"touch {path}"), 2),
    "subprocess": lambda path: pickle.dumps(Call(subprocess.check_call, ["touch", str(path)]), 2),
    "exec": lambda path: pickle.dumps(Call(exec, f"__import__('os').mknod({str(path)!r})"), 2),
    "eval": lambda path: pickle.dumps(Call(eval, f"__import__('os').mknod({str(path)!r})"), 3),
    "mknod": lambda path: pickle.dumps(Call(os.mknod, str(path)), 4),
    "touch": lambda path: pickle.dumps(Call(pathlib.Path.touch, path), 5),
    "text protocol": lambda path: pickle.dumps(Call(os.system, f"touch {path}"), 0),
    "INST": lambda path: f"(S'touch {path}'\nios\nsystem\n.".encode(),
    "OBJ": lambda path: f"(cos\nsystem\nS'touch {path}'\no.".encode(),
    "in a state dict": lambda path: pickle.dumps(
        {"conv1.weight": Call(eval, f"__import__('os').mknod({str(path)!r})")}, 2
    ),
    "as a key": lambda path: b"\x80\x02}" + f"cos\nsystem\nX{'touch'}\n".encode() + b"s.",
    "dotted name": lambda path: b"\x80\x02ccollections\nOrderedDict.__init__.__globals__\n.",
}
PLACES = {
    "a bare pickle": lambda exploit, files: exploit,
    "a legacy file": lambda exploit, files: (
        LEGACY_START + b"\x80\x02M\xe9\x03." + b"\x80\x02}." + exploit + b"\x80\x02]."
    ),
    "the version of a legacy file": lambda exploit, files: (
        LEGACY_START + exploit + files["legacy"][len(LEGACY_START) :]
    ),
    "a zip": lambda exploit, files: zip_of(
        members_of(files["zip"]) | {"archive/data.pkl": exploit}
    ),
    "a policy": lambda exploit, files: zip_of(
        {"policy.pth": zip_of(members_of(saved(files["policy"])) | {"archive/data.pkl": exploit})}
    ),
    "a policy, bare": lambda exploit, files: zip_of({"policy.pth": exploit}),
    "the data of a zip": lambda exploit, files: zip_of(
        members_of(files["stable-baselines3"]) | {"data": exploit}
    ),
}


def test_the_payloads_are_live(sentinel):
    """Unpickled by someone careless, they do run; so that their silence below means something."""
    for name in ("os.system", "exec", "mknod", "touch", "INST", "OBJ", "in a state dict"):
        pickle.loads(EXPLOITS[name](sentinel))
        assert sentinel.exists(), name
        sentinel.unlink()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("exploit", EXPLOITS)
def test_no_pickle_is_executed(exploit, place, files, tmp_path, sentinel):
    content = PLACES[place](EXPLOITS[exploit](sentinel), files)
    assert read(content, tmp_path / "agent", sentinel)


@pytest.mark.parametrize("exploit", EXPLOITS)
def test_members_that_are_not_needed_are_not_touched(exploit, files, tmp_path, sentinel):
    payload = EXPLOITS[exploit](sentinel)
    serialized = {":type:": "x", ":serialized:": base64.b64encode(payload).decode()}
    members = members_of(files["stable-baselines3"]) | {
        "data": json.dumps({"policy_class": serialized, "num_timesteps": 3}).encode(),
        "pytorch_variables.pth": payload,
        "policy.optimizer.pth": payload,
    }
    assert read(zip_of(members), tmp_path / "agent", sentinel) is None


# 4. Floods: small files that ask for much memory or time. -----------------------------------


def long(number: int) -> bytes:
    content = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def tensor(size=b"K\x04", offset=b"K\x00", shape=b"K\x04\x85", strides=b"K\x01\x85") -> bytes:
    """Pickle of {'conv4.weight': tensor}, with the pieces of its description as opcodes."""
    storage = (
        b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu" + size + b"tQ"
    )
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + shape + strides + b"\x89}tR"
    return b"\x80\x02}X\x0c\0\0\0conv4.weight" + call + b"s."


HUGE = [long(2**20), long(2**33), long(2**62), long(2**63), long(10**300), long(-(2**40))]
FLOODS = {
    **{f"storage of {n}": tensor(size=n) for n in HUGE},
    **{f"offset of {n}": tensor(offset=n) for n in HUGE},
    **{f"shape of {n}": tensor(shape=n + b"\x85") for n in HUGE},
    **{f"repeated {n}": tensor(shape=n + b"\x85", strides=b"K\x00\x85") for n in HUGE},
    **{f"strides of {n}": tensor(strides=n + b"\x85") for n in HUGE},
    **{
        f"{n} in 8 axes": tensor(shape=b"(" + n * 8 + b"t", strides=b"(" + b"K\0" * 8 + b"t")
        for n in HUGE
    },
    "5000 axes": tensor(shape=b"(" + b"K\x01" * 4_000 + b"t", strides=b"(" + b"K\0" * 4_000 + b"t"),
    "a far memo": b"\x80\x02}r\xff\xff\xff\x7f.",
    "a far memo read": b"\x80\x02j\xff\xff\xff\x7f.",
    "a deep tuple": b"\x80\x02)" + b"\x85" * (MAX_OPCODES - 10) + b".",
    "a deep tuple as a key": b"\x80\x02})" + b"\x85" * (MAX_OPCODES - 10) + b"Ns.",
    "a tuple that doubles": b"\x80\x02)" + b"q\0h\0\x86" * 1_000 + b".",
    "a doubling key": b"\x80\x02})" + b"q\0h\0\x86" * 1_000 + b"Ns.",
    "a doubling list": b"\x80\x02]" + b"q\0(h\0h\0e" * 1_000 + b".",
    "a million opcodes": b"\x80\x02" + b"N" * 1_000_000 + b".",
    "a million marks": b"\x80\x02" + b"(" * 1_000_000 + b".",
    "a long string": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "an 8-byte length": b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7fabc.",
    "a long integer": b"\x80\x02\x8b\xff\xff\xff\x7fabc.",
    "digits": b"\x80\x02I" + b"9" * 100_000 + b"\n.",
    "bytearray": b"\x80\x02c__builtin__\nbytearray\n" + long(2**36) + b"\x85R.",
    "list of a dictionary": b"\x80\x02ccollections\nOrderedDict\n" + long(2**36) + b"\x85R.",
    "nothing": b"",
    "no end": b"\x80\x02}",
    "an empty stack": b"\x80\x02.",
    "pop of nothing": b"\x80\x02R.",
    "an extension": b"\x80\x02\x82\x01.",
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("flood", FLOODS, ids=range(len(FLOODS)))
def test_pickles_that_flood(flood, zipped, tmp_path, sentinel):
    numbers = bytes(16)
    if zipped:
        content = zip_of({"archive/data.pkl": FLOODS[flood], "archive/data/0": numbers})
    else:
        keys = b"\x80\x02]X\x01\0\0\x000a."
        numbers = (4).to_bytes(8, "little") + numbers
        content = LEGACY_START + b"\x80\x02M\xe9\x03.\x80\x02}." + FLOODS[flood] + keys + numbers
    message = read(content, tmp_path / "agent", sentinel)
    assert f"more than {MAX_OPCODES} steps" in message if "million" in flood else message


def bomb(name: str, mebibytes: int, stated: int | None = None, **others: bytes) -> bytes:
    """A zip whose last member unpacks to so many zeros, and states a size, by default the true."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    mebibyte = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)  # stands alone
    packed = mebibyte * mebibytes + packer.flush()
    content = bytearray(zip_of({**others, name: packed}))
    size = mebibytes * 2**20 if stated is None else stated
    entry = content.rindex(b"PK\x01\x02")
    (header,) = struct.unpack_from("<I", content, entry + 42)
    for method, sizes in ((entry + 10, entry + 24), (header + 8, header + 22)):
        struct.pack_into("<H", content, method, zipfile.ZIP_DEFLATED)
        struct.pack_into("<I", content, sizes, size)
    return bytes(content)


@pytest.fixture(scope="module")
def bombs(files):
    pickled = members_of(files["zip"])["archive/data.pkl"]
    policy = {"policy.pth": saved(files["policy"])}
    return {
        "policy": bomb("policy.pth", 2048),
        "policy, understated": bomb("policy.pth", 2048, stated=1_000),
        "policy, understated to nothing": bomb("policy.pth", 2048, stated=0),
        "policy, understated to the limit": bomb("policy.pth", 2048, stated=60 * 2**20),
        "data": bomb("data", 2048, **policy),
        "data, understated": bomb("data", 2048, stated=1_000, **policy),
        "tensor": bomb("archive/data/0", 2048, **{"archive/data.pkl": pickled}),
        "tensor, understated": bomb("archive/data/0", 2048, 1152, **{"archive/data.pkl": pickled}),
        "pickle": bomb("archive/data.pkl", 60),
        "nested": zip_of({"policy.pth": bomb("archive/data.pkl", 2048)}),
        "nested twice": zip_of({"policy.pth": zip_of({"policy.pth": bomb("policy.pth", 60)})}),
        "member that is not needed": bomb("x", 2048, **policy),
        "bzip2": zip_of({"policy.pth": bytes(2**20)}, zipfile.ZIP_BZIP2),
        "lzma": zip_of({"policy.pth": bytes(2**20)}, zipfile.ZIP_LZMA),
        "many members": zip_of({f"archive/data/{n}": b"" for n in range(3_000)}),
        "directory of nothing": b"PK\x03\x04" + b"PK\x01\x02" * 2_000_000,
        "same member many times": b"PK\x03\x04" + zip_of({"policy.pth": b""}) * 1_000,
        "large file": files["zip"] + bytes(65 * 2**20),
        "header of safetensors": b"\xff" * 7 + b"\x7f{" + b"[" * 1_000,
        "deep header": (100_000).to_bytes(8, "little") + b'{"a":' + b"[" * 99_995,
        "deep JSON": zip_of({"data": b"[" * 1_000_000, **policy}),
        "long JSON number": zip_of({"data": b"9" * 100_000, **policy}),
    }


BOMBS = (
    *("policy", "policy, understated", "policy, understated to nothing", "data", "tensor"),
    *("policy, understated to the limit", "data, understated", "tensor, understated", "pickle"),
    *("nested", "nested twice", "member that is not needed", "bzip2", "lzma", "many members"),
    *("directory of nothing", "same member many times", "large file", "header of safetensors"),
    *("deep header", "deep JSON", "long JSON number"),
)


@pytest.mark.parametrize("name", BOMBS)
def test_zip_bombs_and_their_kin(name, bombs, tmp_path, sentinel):
    assert read(bombs[name], tmp_path / "agent", sentinel)


def test_a_large_network_is_not_built_before_its_shapes_are_checked(tmp_path, sentinel):
    """hidden sizes follow the file: 2**20 LSTM units would take 16 TiB."""
    state = NatureNetwork(6, (1, 84, 84), lstm_units=8).state_dict()
    for name, value in state.items():
        if name.startswith("lstm."):
            state[name] = torch.zeros(1).expand(2, 2**20) if value.ndim == 2 else value
    assert "lstm." in read(saved(state), tmp_path / "agent", sentinel)


HOSTILE_ARGUMENTS = [
    *({"hidden_units": value} for value in (10**12, 10**40, -1, 0.5, "512", None, [1], {})),
    *({"observation_shape": value} for value in (5, [4, 84], [4, 8, 8], ["a"] * 3, [10**9] * 3)),
    *({name: 10**15} for name in ("lstm_units", "quantiles", "hidden", "maps", "border")),
    *({"trunk": value} for value in ("thick", 3, ["sparse"])),
    *({"after": value} for value in ([], [9], 3, "3", [[]])),
    *({"kernel": value} for value in (0, 2, 10**9)),
    *({"weighing": "__import__"}, {"activation": "system"}, {"num_actions": 3}, {3: 3}),
]


@pytest.mark.parametrize("arguments", HOSTILE_ARGUMENTS, ids=str)
@pytest.mark.parametrize("architecture", ["nature", "sparse-fls"])
def test_arguments_of_a_row(architecture, arguments, tmp_path):
    """A row beside the weights names its network: whatever it says, one error comes of it."""
    name = f"untrained-pong-{architecture}"
    row_file = save_agent(load_agent(name), tmp_path / "agent").with_suffix(".yml")
    row = yaml.safe_load(row_file.read_text()) | {"architecture_arguments": arguments}
    row_file.write_text(yaml.safe_dump(row))
    with pytest.raises(ValueError, match=f"does not hold the network '{architecture}' for the 6"):
        load_agent(row_file)


def test_there_are_at_least_500_cases(request):
    cases = [item for item in request.session.items if item.module is request.module]
    if len(cases) < 400:
        pytest.skip("only a selection of this file runs")
    assert len(cases) >= 500


def test_modules_are_never_unpickled(tmp_path, sentinel):
    """torch.save(network) writes a pickle of its class: refused, with the name of the class."""
    torch.save(nn.Linear(2, 2), tmp_path / "module")
    message = read((tmp_path / "module").read_bytes(), tmp_path / "agent", sentinel)
    assert "asks for 'torch.nn.modules.linear Linear', refused: only weights are read" in message
