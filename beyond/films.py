"""The four films of the README: what is decided on three test images during the training.

python -m beyond.films trains the experiments of the top with their own settings, one
after the other, and saves exp_single.gif, exp_dual.gif, exp_recurrent.gif and matched.gif
(two heads, matched) in the folder of --out. It takes about two minutes.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import data
import exp_dual
import exp_recurrent
import exp_single
import unet

DPI = 80
FRAMES = 28  # of a film, at most
FRAME = 125  # milliseconds of a frame
STILL = 2500  # milliseconds for which the last frame stands still
COLOURS = 96  # of a film, beside the greys: few make a small file
GREYS = 32
PIXEL = 2 / DPI  # inches: a pixel of an image is two pixels wide
GAP = 5 / DPI  # inches between two images


def film(experiment, words, path):
    """Train an experiment of the top, by the words of its command line, and save what its
    decisions are on three test images as a GIF. Returns the last row of its history."""
    args = experiment.arguments(words)
    shape = data.Shape(args.size, args.square)
    net = unet.initialise(experiment.build(args), data.stream(args.seed, "weights"))
    net = net.to(args.device, memory_format=torch.channels_last)
    test = data.stream(args.seed, "test", args.device)
    images, parts = data.sample(args.test_images, test, shape, args.noise)
    history, frames = experiment.train(args, net, images[:3])
    title = experiment.TITLE
    if vars(args).get("matched"):
        title = "Two heads, matched"
    save(path, title, experiment.EACH, history, frames, images[:3], parts[:3])
    return history[-1]


def save(path, title, each, history, frames, images, parts):
    """Save a GIF of decisions during a training. history has a row and frames has masks
    (n, D, 2, H, W) for every recorded training step; images are (n, 1, H, W), and parts
    are (n, 3, H, W)."""
    n, D = frames[0].shape[:2]
    side = images.shape[-1] * PIXEL
    width = (1 + D) * (side + GAP) + GAP
    height = n * (side + GAP) + GAP + 0.95
    fig = Figure(figsize=(width, height), dpi=DPI)
    axes = fig.subplots(n, 1 + D, squeeze=False)
    fig.subplots_adjust(
        left=GAP / width,
        right=1 - GAP / width,
        bottom=0.5 / height,
        top=1 - 0.45 / height,
        wspace=GAP / side,
        hspace=GAP / side,
    )
    fig.suptitle(title, fontsize=9, y=1 - 0.04 / height, va="top")
    for k in range(n):
        data.show(axes[k, 0], images[k], 0 * frames[0][k, 0], parts[k])
        for d in range(D):
            data.show(axes[k, 1 + d], images[k], frames[0][k, d], parts[k])
    axes[0, 0].set_title("input", fontsize=8, pad=3)
    for d in range(D):
        axes[0, 1 + d].set_title(f"{each} {d + 1}", fontsize=8, pad=3)
    below = fig.text(0.5, 0.29 / height, "", fontsize=8, ha="center")
    outcome = fig.text(0.5, 0.09 / height, "", fontsize=8, ha="center", weight="bold")

    canvas = FigureCanvasAgg(fig)
    shown = np.linspace(0, len(history) - 1, min(FRAMES, len(history)))
    pictures = []
    for moment in shown.round().astype(int):
        row = history[moment]
        for k in range(n):
            for d in range(D):
                rgb = data.paint(images[k], frames[moment][k, d], parts[k])
                axes[k, 1 + d].images[0].set_data(rgb)
        below.set_text(f"step {row['step']}, score {row['score']:.2f}")
        ends = [decision["outcome"] for decision in row["decisions"]]
        outcome.set_text(" + ".join(ends))
        canvas.draw()
        pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]))

    palette = palette_of(pictures)
    few = []
    for picture in pictures:
        few.append(picture.quantize(palette=palette, dither=Image.Dither.NONE))
    durations = [FRAME] * (len(few) - 1) + [STILL]
    few[0].save(path, save_all=True, append_images=few[1:], duration=durations, loop=0)


def palette_of(pictures):
    """Return one palette for all these pictures, as an image, so that what stands still
    in a film stays the same: greys, and colours that are chosen from a list in which each
    colour of the pictures is once."""
    every = np.concatenate([np.asarray(picture).reshape(-1, 3) for picture in pictures])
    colours = np.unique(every // 8 * 8, axis=0)
    coloured = np.ptp(colours.astype(int), axis=1) > 16
    chosen = Image.fromarray(colours[coloured][None]).quantize(COLOURS).getpalette()
    greys = np.linspace(0, 255, GREYS).round().astype(int).repeat(3)
    palette = Image.new("P", (1, 1))
    palette.putpalette([*greys.tolist(), *chosen[: 3 * COLOURS]])
    return palette


def main(argv=None):
    """Train and film the four."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("out"), help="folder of the films")
    add("--epochs", help="of each training, in place of its own")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # the images are so small that a second thread only waits
    args.out.mkdir(parents=True, exist_ok=True)
    short = ["--epochs", args.epochs] if args.epochs else []
    film(exp_single, short, args.out / "exp_single.gif")
    film(exp_dual, short, args.out / "exp_dual.gif")
    film(exp_recurrent, short, args.out / "exp_recurrent.gif")
    # Ten epochs, as the recurrent network has, are enough where two heads are matched.
    words = ["--matched", *(short or ["--epochs", "10"])]
    film(exp_dual, words, args.out / "matched.gif")
    print(
        "Saved exp_single.gif, exp_dual.gif, exp_recurrent.gif, matched.gif in",
        args.out,
    )


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
