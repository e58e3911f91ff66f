"""Masks of your own, read from files, and how two of them overlap.

A file is .npy or .png. It holds one mask (H, W) or several: (n, H, W), (H, W, n) as
COCO decodes them, or (n, 1, H, W). What is not plainly a mask of two values is said."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from beyond.predict import from_masks

SHOWN = 20  # pairs of a table
COCO = (
    "COCO counts a mask as found from an IoU of 0.50 on. Where duplicates are "
    "suppressed, usually from an IoU of 0.5 to 0.7 on, a pair above it loses one mask."
)


@dataclass
class Pair:
    """The parts (3, H, W) of two masks that overlap, and lines to be said of them."""

    parts: torch.Tensor
    said: list


def read(path):
    """The masks (n, H, W) of a file as booleans, with what is to be said of them, as
    (masks, remarks). ValueError: no masks."""
    path = Path(path)
    remarks = []
    try:
        masks = two_valued(stacked(values_of(path, remarks), remarks), remarks)
    except (OSError, EOFError, SyntaxError, ValueError) as e:
        raise ValueError(f"cannot read {str(path)!r}: {e}") from None
    return masks, [f"{path.name}: {text}" for text in remarks]


def values_of(path, remarks):
    """The array that a file holds. Adds to the remarks. ValueError: it has no masks."""
    suffix = path.suffix.lower()
    if suffix == ".png":  # a lossy format, such as .jpg, does not keep two values
        with Image.open(path) as image:
            return pixels_of(image, remarks)
    if suffix != ".npy":
        raise ValueError("masks are .npy or .png")
    array = np.load(path)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "buif":
        raise ValueError("it must hold one array of numbers")
    return array


def pixels_of(image, remarks):
    """The values (H, W) of a picture. Adds to the remarks."""
    array = np.asarray(image)
    if image.mode == "P":
        remarks.append("a palette: its first colour is taken for the background")
    if image.mode == "RGB":
        return array.max(-1)
    if image.mode not in ("RGBA", "LA"):
        return array
    colours = array[..., :-1]  # (H, W, 3 or 1)
    alpha = array[..., -1]
    if np.ptp(colours) == 0 and np.ptp(alpha) > 0:
        remarks.append("its colour is the same everywhere: alpha is taken for the mask")
        return alpha
    if np.ptp(alpha) > 0:
        remarks.append("alpha is left out")
    return colours.max(-1)


def stacked(array, remarks):
    """An array of one mask or several as masks (n, H, W). Adds to the remarks where it
    could be meant otherwise. ValueError: another shape."""
    shape = array.shape
    if array.ndim == 4 and shape[1] == 1:
        return array[:, 0]
    if array.ndim == 2:
        return array[None]
    if array.ndim == 3:
        if shape[2] >= min(shape[0], shape[1]):
            return array
        if shape[2] > 4:  # as many masks are as likely a stack of them
            height, width, n = shape
            remarks.append(f"read as (H, W, n): {n} masks of {height} x {width}")
        return np.moveaxis(array, -1, 0)
    layouts = "(H, W), (n, H, W), (H, W, n) or (n, 1, H, W)"
    raise ValueError(f"masks must be {layouts}, got {shape}")


def two_valued(array, remarks):
    """Values as booleans, cut at half of their range. Adds to the remarks. ValueError:
    NaN, or a label map."""
    if np.isnan(array).any():
        raise ValueError("masks must be numbers, got NaN")
    values = np.unique(array)
    low = float(values[0])
    high = float(values[-1])
    if len(values) == 1:
        return array > 0
    if low < 0:
        text = "there are values below 0: taken for logits and cut at 0"
        if len(values) == 2:
            text = f"the values are {low:g} and {high:g}: cut at 0"
        remarks.append(text)
        return array > 0
    if len(values) == 2:
        return array > low
    if is_label_map(array, values):
        text = f"it holds {len(values)} values from {low:g} to {high:g}, a label map"
        text += ", which cannot hold an overlap: give each instance its own mask"
        raise ValueError(text)
    middle = (low + high) / 2
    remarks.append(f"{len(values)} values from {low:g} to {high:g}: cut at {middle:g}")
    return array > middle


def is_label_map(array, values):
    """Whether whole numbers are names of instances: more than a twentieth of what is
    not the lowest lies in the middle of the range, where a blurred mask has little."""
    if not np.array_equal(values, np.round(values)) or values[-1] <= 1:
        return False
    low = float(values[0])
    high = float(values[-1])
    inner = (array > low + 0.1 * (high - low)) & (array < high - 0.1 * (high - low))
    return inner.sum() > 0.05 * (array > low).sum()


def overlaps(masks):
    """All pairs of masks (n, H, W) that overlap in part, as [(shared pixels, i, j)],
    the largest overlap first."""
    flat = torch.as_tensor(np.ascontiguousarray(masks)).flatten(1).float()  # (n, HW)
    shared = flat @ flat.T  # (n, n)
    sizes = shared.diagonal()
    partly = (shared > 0) & (shared < sizes[:, None]) & (shared < sizes)
    pairs = partly.triu(1).nonzero().tolist()
    rows = [(int(shared[i, j]), i, j) for i, j in pairs]
    return sorted(rows, key=lambda row: -row[0])


def table(masks, pairs):
    """Pairs as [(shared pixels, i, j)] in the lines of a table in Markdown."""
    lines = [
        "| masks | own pixels of the first | shared, b | of the second | b/P | IoU |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for b, i, j in pairs:
        first = int(masks[i].sum()) - b
        second = int(masks[j].sum()) - b
        ratios = f"{b / first:.2f}, {b / second:.2f}"
        iou = b / (first + b + second)
        lines.append(f"| {i}, {j} | {first} | {b} | {second} | {ratios} | {iou:.2f} |")
    return lines


def warnings(parts):
    """Lines of what parts (3, H, W) seem to be other than those of two instances."""
    first, b, second = parts.sum((1, 2)).tolist()
    iou = b / (first + b + second)
    if b > parts[0].numel() / 2:
        return ["Most of the image is common to both: the masks seem to be inverted."]
    if iou <= 0.7:
        return []
    text = f"The two agree with an IoU of {iou:.2f}: they seem to annotate one object"
    return [f"{text}. What is ambiguous is then where they differ."]


def thinned(parts):
    """Parts (3, H, W) in fewer pixels, picked evenly. The longer side has 64 or, where
    a part would be lost, more."""
    step = math.ceil(max(parts.shape) / 64)
    while not parts[:, ::step, ::step].any(-1).any(-1).all():
        step -= 1
    return parts[:, ::step, ::step]


def pair_of(paths):
    """The Pair in one or several files that shares most. ValueError: there is none."""
    stacks = []
    said = []
    for path in paths:
        masks, remarks = read(path)
        stacks.append(masks)
        said += remarks
    sizes = {masks.shape[1:] for masks in stacks}
    if len(sizes) > 1 or sum(len(masks) for masks in stacks) < 2:
        shapes = ", ".join(str(masks.shape) for masks in stacks)
        text = "masks must be two or more of one size, in one file or several"
        raise ValueError(f"{text}, got {shapes}")
    masks = np.concatenate(stacks)  # (n, H, W)
    pairs = overlaps(masks)
    if not pairs and len(masks) > 2:
        raise ValueError("no two of the masks overlap in part")
    if pairs:
        _, i, j = pairs[0]
    else:  # from_masks says which part of the two is empty
        i, j = 0, 1
    parts = from_masks(masks[i], masks[j])
    said += table(masks, pairs[:SHOWN])
    if len(pairs) > SHOWN:
        said.append(f"There are {len(pairs) - SHOWN} more pairs that share less.")
    said.append(COCO)
    said += warnings(parts)
    few = thinned(parts)
    if few.shape != parts.shape:
        step = round(parts.numel() / few.numel())
        said.append(f"What follows uses one pixel in {step}.")
    return Pair(few, said)
