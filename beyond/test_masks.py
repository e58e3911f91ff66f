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


def test_a_stack_that_could_be_meant_otherwise_says_how_it_is_read(tmp_path):
    many = np.stack([A, B] * 3, -1)  # (H, W, 6)
    found, remarks = read(saved(tmp_path, many))
    assert found.shape == (6, *A.shape)
    height, width = A.shape
    assert remarks == [f"masks.npy: read as (H, W, n): 6 masks of {height} x {width}"]


def test_one_mask_of_every_layout_and_pair_of_values_is_read(tmp_path):
    for array in (A[None], A[..., None], A, A * 255, A * 2.0 - 1):
        found, _ = read(saved(tmp_path, array))
        assert np.array_equal(found, A[None])


def test_a_picture_of_any_case_is_read(tmp_path):
    saved(tmp_path, (A * 255).astype(np.uint8), "a.png").rename(tmp_path / "a.PNG")
    assert np.array_equal(read(tmp_path / "a.PNG")[0], A[None])


def is_a(path, said):
    """Check that a file is read as the mask A, with a remark that says this."""
    found, remarks = read(path)
    assert np.array_equal(found, A[None])
    assert said in remarks[0]


def test_a_picture_that_was_compressed_is_cut_at_half_and_said_so(tmp_path):
    saved(tmp_path, (A * 255).astype(np.uint8), "a.jpg")
    blurred = np.asarray(Image.open(tmp_path / "a.jpg"))
    assert (blurred > 0).sum() > A.sum()  # what is not 0 is more than the mask
    is_a(saved(tmp_path, blurred, "a.png"), "cut at")


def test_the_first_colour_of_a_palette_is_the_background(tmp_path):
    palette = Image.fromarray(A.astype(np.uint8), "P")
    palette.putpalette([200, 200, 200, 10, 10, 10])  # the background is bright
    palette.save(tmp_path / "palette.png")
    is_a(tmp_path / "palette.png", "first colour")


def test_an_alpha_is_the_mask_where_the_colour_is_everywhere_the_same(tmp_path):
    colours = np.zeros((20, 24, 4), np.uint8)
    colours[..., 3] = A * 255
    is_a(saved(tmp_path, colours, "alpha.png"), "alpha is taken for the mask")


def test_values_of_both_signs_are_cut_at_0(tmp_path):
    logits = np.linspace(2, 6, 24) * np.where(A, 1, -2)
    is_a(saved(tmp_path, logits), "taken for logits")
    is_a(saved(tmp_path, A * 2 - 1), "-1 and 1")


def test_a_label_map_is_refused(tmp_path):
    with pytest.raises(ValueError, match="a label map, which cannot hold an overlap"):
        read(saved(tmp_path, A + 2 * (B & ~A)))


def test_nan_is_refused(tmp_path):
    with pytest.raises(ValueError, match="got NaN"):
        read(saved(tmp_path, np.where(A, 1, np.nan)))


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.npy").touch()
    with pytest.raises(ValueError, match="cannot read"):
        read(tmp_path / "empty.npy")


def test_a_mask_without_another_is_refused(tmp_path):
    with pytest.raises(ValueError, match="masks must be two or more of one size"):
        pair_of([saved(tmp_path, A)])


def test_the_pair_that_shares_most_is_taken_of_many(tmp_path):
    far = np.roll(A, (10, 0), (0, 1))
    near = np.roll(A, (1, 1), (0, 1))
    own = pair_of([saved(tmp_path, np.stack((A, far, B, near)))])
    assert own.parts.sum((1, 2)).tolist() == [15, 49, 15]
    assert own.said[2].startswith("| 0, 3 | 15 | 49 | 15 |")


def last_said(folder, *masks):
    """What is said last of masks in one file."""
    return pair_of([saved(folder, np.stack(masks))]).said[-1]


def test_inverted_masks_are_named(tmp_path):
    assert "seem to be inverted" in last_said(tmp_path, ~A, ~B)


def test_two_annotations_of_one_object_are_named(tmp_path):
    shifted = np.roll(A, 1, 0)
    assert "they seem to annotate one object" in last_said(tmp_path, A, shifted)


def test_two_instances_that_overlap_need_no_warning(tmp_path):
    assert last_said(tmp_path, A, B).startswith("COCO counts a mask")


def test_a_large_pair_is_thinned_but_keeps_each_part(tmp_path):
    a = np.zeros((200, 200), bool)
    a[3:103, 3:103] = True
    b = np.zeros((200, 200), bool)
    b[102:180, 102:180] = True
    own = pair_of([saved(tmp_path, np.stack((a, b)))])
    assert own.parts.shape == (3, 67, 67)  # one pixel in 16 would lose the shared one
    assert own.parts[1].sum() == 1
