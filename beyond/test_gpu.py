"""The path to a GPU, on a machine without one: a device that computes on the CPU and
refuses tensors of the CPU beside its own. python -m pytest beyond/test_gpu.py"""

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

import exp_dual
import exp_recurrent
import exp_single
from beyond import controls, runs

REAL = torch.Generator
# Functions that may see tensors of two devices.
MIX = (
    torch.Tensor.to,
    torch.Tensor.copy_,
    torch.Tensor.data.__set__,
    torch._has_compatible_shallow_copy_type,
)


def is_own(x):
    """Whether a tensor is on the device."""
    return hasattr(x, "gpu")


def device_named(arguments):
    """Return the last device that is named among arguments, None if there is none."""
    named = None
    for x in arguments:
        if isinstance(x, (str, torch.device)) and str(x) in ("cpu", "cuda"):
            named = str(x)
    return named


def to_cpu(x):
    """Return "cpu" for the name of the device, all else as it is."""
    if isinstance(x, (str, torch.device)) and str(x) == "cuda":
        return "cpu"
    return x


class Gpu(TorchFunctionMode):
    """Tensors asked for on "cuda", and what is computed from them, have an attribute
    gpu. An AssertionError: tensors of two devices meet."""

    def __torch_function__(self, f, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if f in (torch.device, torch._C._nn._parse_to):
            return f(*args, **kwargs)
        given = tree_leaves((args, kwargs))
        asked = "cpu" if f is torch.Tensor.cpu else device_named(given)
        used = tree_leaves(args[:2]) if f is torch.Tensor.__setitem__ else given
        tensors = [x for x in used if isinstance(x, torch.Tensor)]
        own = any(is_own(x) for x in tensors)
        if f == torch.Tensor.device.__get__:
            return torch.device("cuda" if own else "cpu")
        if own and asked is None and f not in MIX:
            assert f is not torch.Tensor.numpy, "a tensor of the device goes to NumPy"
            assert all(x.ndim == 0 or is_own(x) for x in tensors), f"{f} mixes devices"

        out = f(*tree_map(to_cpu, args), **tree_map(to_cpu, kwargs))
        if asked and isinstance(out, torch.Tensor):
            out = out.clone()  # a move makes a tensor of its own
        if asked == "cuda" or (asked is None and own):
            moved = args[0] if f == torch.Tensor.data.__set__ else None
            for x in tree_leaves((out, moved)):
                if isinstance(x, torch.Tensor):
                    x.gpu = True
        return out


class Generator(REAL):
    """A generator of that device, or a real one of the CPU."""

    device = torch.device("cuda")

    def __new__(cls, device="cpu"):
        if str(device) == "cuda":
            return REAL.__new__(cls, "cpu")
        return REAL(device)

    def __init__(self, device):
        pass


@pytest.fixture(autouse=True)
def generators(monkeypatch):
    monkeypatch.setattr(torch, "Generator", Generator)


@pytest.mark.parametrize("script", [exp_single, exp_dual, exp_recurrent])
def test_a_script_gives_the_numbers_of_the_cpu(script, tmp_path, monkeypatch):
    words = ["--epochs", "1", "--steps-per-epoch", "3", "--test-images", "8"]
    words += ["--out", str(tmp_path), "--device"]
    expected, _ = script.main([*words, "cpu"])
    # The command line asks whether there is one; later PyTorch would look for a driver.
    asked = iter([True])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: next(asked, False))
    with Gpu():
        numbers, _ = script.main([*words, "cuda"])
    assert numbers.pop("settings") != expected.pop("settings")  # the device
    del numbers["seconds"], expected["seconds"]
    assert numbers == expected


@pytest.mark.parametrize(
    "key", ["mask-noise", "dual-matched", "dual-capped-0.75", "dual-coin-balanced"]
)
def test_a_run_gives_the_numbers_of_the_cpu(key):
    s = runs.Settings(epochs=1, steps_per_epoch=3, held_out=8)
    expected = runs.run(controls.VARIANTS[key], 0, s, "cpu")
    with Gpu():
        row = runs.run(controls.VARIANTS[key], 0, s, "cuda")
    del row["seconds"], expected["seconds"]
    assert row == expected
