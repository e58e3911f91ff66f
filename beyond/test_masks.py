"""Masks are read from files as what they are, and what seems to be something else is
named. Here they are two squares of 8 x 8 that share 4 x 4 pixels of 20 x 24."""

import numpy as np
import pytest
from PIL import Image

from beyond.masks import pair_of, read

A = np.zeros((20, 24), bool)
A[2:10, 2:10] = True
B = np.zeros((20, 24), bool)
B[6:14, 6:14] = True


def saved(folder, array, name="masks.npy"):
    """The path of an array that is saved as .npy or, by Pillow, as a picture."""
    if name.endswith(".npy"):
        np.save(folder / name, array)
    else:
        Image.fromarray(array).save(folder / name)
    return folder / name


def test_masks_of_every_layout_are_read(tmp_path):
    both = np.stack((A, B))
    for array in (both, np.stack((A, B), -1), both[:, None]):
        found, remarks = read(saved(tmp_path, array))
        assert np.array_equal(found, both)
        assert remarks == []


def test_one_mask_of_every_layout_and_pair_of_values_is_read(tmp_path):
    for array in (A[None], A[..., None], A, A * 255, A * 2.0 - 1):
        found, _ = read(saved(tmp_path, array))
        assert np.array_equal(found, A[None])


def test_a_picture_of_any_case_is_read(tmp_path):
    saved(tmp_path, (A * 255).astype(np.uint8), "a.png").rename(tmp_path / "a.PNG")
    assert np.array_equal(read(tmp_path / "a.PNG")[0], A[None])


def test_a_picture_that_was_compressed_is_cut_at_half_and_said_so(tmp_path):
    saved(tmp_path, (A * 255).astype(np.uint8), "a.jpg")
    blurred = np.asarray(Image.open(tmp_path / "a.jpg"))
    assert (blurred > 0).sum() > A.sum()  # what is not 0 is more than the mask
    found, remarks = read(saved(tmp_path, blurred, "a.png"))
    assert np.array_equal(found, A[None])
    assert "cut at" in remarks[0]


def test_a_palette_an_alpha_and_logits_are_named(tmp_path):
    palette = Image.fromarray(A.astype(np.uint8), "P")
    palette.putpalette([200, 200, 200, 10, 10, 10])  # the background is bright
    palette.save(tmp_path / "palette.png")
    found, remarks = read(tmp_path / "palette.png")
    assert np.array_equal(found, A[None])
    assert "first colour" in remarks[0]
    colours = np.zeros((20, 24, 4), np.uint8)
    colours[..., 3] = A * 255
    found, remarks = read(saved(tmp_path, colours, "alpha.png"))
    assert np.array_equal(found, A[None])
    assert "alpha is taken for the mask" in remarks[0]
    steps = np.linspace(2, 6, 24) * np.where(A, 1, -2)
    found, remarks = read(saved(tmp_path, steps))
    assert np.array_equal(found, A[None])
    assert "taken for logits" in remarks[0]
    _, remarks = read(saved(tmp_path, A * 2 - 1))
    assert "-1 and 1" in remarks[0]


def test_a_label_map_nan_and_what_is_no_file_of_masks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="a label map, which cannot hold an overlap"):
        read(saved(tmp_path, A + 2 * (B & ~A)))
    with pytest.raises(ValueError, match="got NaN"):
        read(saved(tmp_path, np.where(A, 1, np.nan)))
    (tmp_path / "empty.npy").touch()
    with pytest.raises(ValueError, match="cannot read"):
        read(tmp_path / "empty.npy")
    with pytest.raises(ValueError, match="masks must be two or more of one size"):
        pair_of([saved(tmp_path, A)])


def test_the_pair_that_shares_most_is_taken_of_many(tmp_path):
    far = np.roll(A, (10, 0), (0, 1))
    near = np.roll(A, (1, 1), (0, 1))
    own = pair_of([saved(tmp_path, np.stack((A, far, B, near)))])
    assert own.parts.sum((1, 2)).tolist() == [15, 49, 15]
    assert own.said[2].startswith("| 0, 3 | 15 | 49 | 15 |")


def test_inverted_masks_and_two_annotations_of_one_object_are_named(tmp_path):
    own = pair_of([saved(tmp_path, ~np.stack((A, B)))])
    assert "seem to be inverted" in own.said[-1]
    shifted = np.roll(A, 1, 0)
    own = pair_of([saved(tmp_path, np.stack((A, shifted)))])
    assert "they seem to annotate one object" in own.said[-1]
    own = pair_of([saved(tmp_path, np.stack((A, B)))])
    assert own.said[-1].startswith("COCO counts a mask")


def test_a_large_pair_is_thinned_but_keeps_each_part(tmp_path):
    a = np.zeros((200, 200), bool)
    a[3:103, 3:103] = True
    b = np.zeros((200, 200), bool)
    b[102:180, 102:180] = True
    own = pair_of([saved(tmp_path, np.stack((a, b)))])
    assert own.parts.shape == (3, 67, 67)  # one pixel in 16 would lose the shared one
    assert own.parts[1].sum() == 1
