"""The films of the README: frames, how long they are shown, and what is painted."""

import numpy as np
import pytest
import torch
from PIL import Image

import data
import exp_single
from beyond import films


def small_film(path, steps=40):
    """A film of one decision that goes from nothing to "both"."""
    images, parts = data.sample(3, torch.Generator().manual_seed(0))
    left = parts[:, 0] + parts[:, 1]
    right = parts[:, 1] + parts[:, 2]
    both = torch.stack((left, right), 1)[:, None]  # (3, 1, 2, H, W)
    history = []
    frames = []
    for k in range(1, steps + 1):
        masks = both * k / steps
        frames.append(masks)
        history.append({"step": k, **data.measure(masks, parts)})
    films.save(path, "One decision", "decision", history, frames, images, parts)
    return parts


def test_a_film_has_a_frame_a_moment_and_its_end_stands_still(tmp_path):
    small_film(tmp_path / "film.gif")
    film = Image.open(tmp_path / "film.gif")
    assert film.n_frames == films.FRAMES
    durations = []
    for k in range(film.n_frames):
        film.seek(k)
        durations.append(film.info["duration"])
    assert durations[-1] == films.STILL
    assert set(durations[:-1]) <= {films.FRAME, films.FRAME - 5}  # in hundredths of 1 s


def colour_of_common_region(film, parts):
    """The mean colour of the first image's common region in the second column."""
    rgb = np.asarray(film.convert("RGB")) / 255
    side = 32 * films.PIXEL * films.DPI
    gap = films.GAP * films.DPI
    y, x = parts[0, 1].nonzero().float().mean(0).tolist()
    top = 0.45 * films.DPI + y * side / 32
    left = 2 * gap + side + x * side / 32
    patch = rgb[int(top) - 4 : int(top) + 6, int(left) - 4 : int(left) + 6]
    return patch.mean((0, 1))


def test_both_ends_orange_and_what_is_unlearned_is_blue(tmp_path):
    parts = small_film(tmp_path / "film.gif")
    film = Image.open(tmp_path / "film.gif")
    film.seek(film.n_frames // 3)
    red, _, blue = colour_of_common_region(film, parts)
    assert blue > red
    film.seek(film.n_frames - 1)
    assert film.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    # A quarter of its pixels are dots, which are darker, and its edge is dashed.
    expected = np.array(data.ORANGE) * 0.9
    assert colour_of_common_region(film, parts) == pytest.approx(expected, abs=0.08)


def test_an_experiment_is_trained_and_filmed_by_its_own_words(tmp_path):
    words = ["--epochs", "1", "--steps-per-epoch", "2", "--test-images", "4"]
    last = films.film(exp_single, words, tmp_path / "exp_single.gif")
    assert last["step"] == 2
    assert Image.open(tmp_path / "exp_single.gif").n_frames == 2
