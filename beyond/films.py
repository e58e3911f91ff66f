"""The four films of the README: what is decided on three test images during the training.

python -m beyond.films trains the experiments of the top with their own settings and saves
exp_single.gif, exp_dual.gif, exp_recurrent.gif and matched.gif (two heads, matched). It
takes about two minutes.
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
COLOURS = 96  # of a film: few make a small file


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
    title = experiment.TITLE.split(": ")[-1].capitalize()
    if vars(args).get("matched"):
        title = "Two heads, matched"
    save(path, title, experiment.DECISION, history, frames, images[:3], parts[:3])
    return history[-1]


def picture(title, each, row, masks, images, parts):
    """Return an image of decisions at one moment of a training. row is that of its
    history, masks are (n, D, 2, H, W), images (n, 1, H, W) and parts (n, 3, H, W)."""
    n, D = masks.shape[:2]
    fig = Figure((0.9 * (1 + D), 0.9 * n + 0.9), dpi=DPI, layout="constrained")
    axes = fig.subplots(n, 1 + D, squeeze=False)
    for k in range(n):
        data.show(axes[k, 0], images[k], 0 * masks[k, 0], parts[k])
        for d in range(D):
            data.show(axes[k, 1 + d], images[k], masks[k, d], parts[k])
    axes[0, 0].set_title("input", fontsize=8)
    for d in range(D):
        axes[0, 1 + d].set_title(f"{each} {d + 1}", fontsize=8)
    ends = " + ".join(decision["outcome"] for decision in row["decisions"])
    fig.suptitle(title, fontsize=9)
    fig.supxlabel(f"step {row['step']}, score {row['score']:.2f}\n{ends}", fontsize=8)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])


def save(path, title, each, history, frames, images, parts):
    """Save a GIF of decisions during a training. history has a row and frames has masks
    for every recorded training step, see picture()."""
    shown = np.linspace(0, len(history) - 1, min(FRAMES, len(history)))
    pictures = []
    for k in shown.round().astype(int):
        pictures.append(picture(title, each, history[k], frames[k], images, parts))
    # One palette for all, so that what stands still in a film stays the same.
    palette = Image.fromarray(np.concatenate(pictures)).quantize(
        COLOURS, Image.Quantize.MAXCOVERAGE
    )
    few = []
    for one in pictures:
        few.append(one.quantize(palette=palette, dither=Image.Dither.NONE))
    durations = [FRAME] * (len(few) - 1) + [STILL]
    few[0].save(path, save_all=True, append_images=few[1:], duration=durations, loop=0)


def main(argv=None):
    """Train and film the four."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("out"), help="their folder")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # the images are so small that a second thread only waits
    args.out.mkdir(parents=True, exist_ok=True)
    film(exp_single, [], args.out / "exp_single.gif")
    film(exp_dual, [], args.out / "exp_dual.gif")
    film(exp_recurrent, [], args.out / "exp_recurrent.gif")
    # Ten epochs, as the recurrent network has, are enough where two heads are matched.
    film(exp_dual, ["--matched", "--epochs", "10"], args.out / "matched.gif")
    print(f"Saved the four films in {args.out}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
