"""The path to a GPU, on a machine without one: a device that computes on the CPU and refuses
tensors of the CPU beside its own. python -m pytest beyond/test_gpu.py"""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

import exp_recurrent

T, REAL = torch.Tensor, torch.Generator
MIXES = T.copy_, T.data.__set__, torch._has_compatible_shallow_copy_type


class Gpu(TorchFunctionMode):
    """Tensors asked for on "cuda", and what is computed from them, have an attribute gpu."""

    def __torch_function__(self, f, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if f in (torch.device, torch._C._nn._parse_to):
            return f(*args, **kwargs)
        given = tree_leaves((args, kwargs))
        asked = [str(x) for x in given if isinstance(x, (str, torch.device))]
        asked = [x for x in asked if x in ("cpu", "cuda")] + ["cpu" for _ in (f,) if f is T.cpu]
        used = tree_leaves(args[:2]) if f is T.__setitem__ else given
        used = [x for x in used if isinstance(x, T)]
        own = any(hasattr(x, "gpu") for x in used)
        if f == T.device.__get__:
            return torch.device("cuda" if own else "cpu")
        if own and not asked and f not in MIXES:
            assert f is not T.numpy and all(x.ndim == 0 or hasattr(x, "gpu") for x in used), f

        def on_cpu(x):
            return "cpu" if isinstance(x, (str, torch.device)) and str(x) == "cuda" else x

        out = f(*tree_map(on_cpu, args), **tree_map(on_cpu, kwargs))
        if asked and isinstance(out, T):
            out = out.clone()  # a move makes a tensor of its own
        if asked[-1] == "cuda" if asked else own:
            for x in tree_leaves((out, args[0] if f == T.data.__set__ else None)):
                if isinstance(x, T):
                    x.gpu = True
        return out


class Generator(REAL):
    """A generator of that device."""

    device = torch.device("cuda")


def test_on_a_gpu_no_devices_are_mixed_and_the_numbers_are_those_of_the_cpu(tmp_path, monkeypatch):
    quick = [
        "--epochs",
        "1",
        "--steps_per_epoch",
        "3",
        "--held_out",
        "8",
        "--batch",
        "2",
        "--film",
        "--out",
    ]
    expected, _ = exp_recurrent.main([*quick, str(tmp_path), "--device", "cpu"])
    kinds = {"cuda": Generator}
    monkeypatch.setattr(torch, "Generator", lambda device="cpu": kinds.get(device, REAL)())
    asked = iter([True])  # by the command line; a PyTorch built for CUDA would look for a driver
    monkeypatch.setattr(torch.cuda, "is_available", lambda: next(asked, False))
    with Gpu():
        numbers, _ = exp_recurrent.main([*quick, str(tmp_path), "--device", "cuda"])
    assert {k for k in numbers if numbers[k] != expected[k]} == {"device", "seconds"}
