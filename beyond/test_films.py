"""The films of the README: how long their frames are shown, and what is painted."""

import numpy as np
import pytest
import torch
from PIL import Image

import data
import exp_single
from beyond import films


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A film of one decision that goes from nothing to "both"."""
    images, parts = data.sample(3, torch.Generator().manual_seed(0))
    left = parts[:, 0] + parts[:, 1]
    right = parts[:, 1] + parts[:, 2]
    both = torch.stack((left, right), 1)[:, None]  # (3, 1, 2, H, W)
    history = []
    frames = []
    for k in range(1, 41):
        masks = both * k / 40
        frames.append(masks)
        history.append({"step": k, **data.measure(masks, parts)})
    path = tmp_path_factory.mktemp("films") / "film.gif"
    films.save(path, "One decision", "decision", history, frames, images, parts)
    return Image.open(path)


def pixels_like(film, frame, colour):
    """How many pixels of a frame have this colour, but for a tenth."""
    film.seek(frame)
    rgb = np.asarray(film.convert("RGB")) / 255
    return (abs(rgb - np.array(colour)).max(-1) < 0.1).sum()


def test_a_film_has_a_frame_a_moment_and_its_end_stands_still(film):
    assert film.n_frames == films.FRAMES
    film.seek(0)
    assert abs(film.info["duration"] - films.FRAME) <= 5  # in hundredths of 1 s
    film.seek(films.FRAMES - 1)
    assert film.info["duration"] == films.STILL


def test_both_ends_orange_and_what_is_unlearned_is_not(film):
    assert pixels_like(film, films.FRAMES // 3, data.ORANGE) < 10
    assert pixels_like(film, films.FRAMES - 1, data.ORANGE) > 200
    assert pixels_like(film, films.FRAMES - 1, data.RED) > 200


def test_an_experiment_is_trained_and_filmed_by_its_own_words(tmp_path):
    words = ["--epochs", "1", "--steps-per-epoch", "2", "--test-images", "4"]
    last = films.film(exp_single, words, tmp_path / "exp_single.gif")
    assert last["step"] == 2
    assert Image.open(tmp_path / "exp_single.gif").n_frames == 2
