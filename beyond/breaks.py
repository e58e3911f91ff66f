"""What breaks it? The recurrent network with one setting changed at a time.

Each setting of exp_recurrent.py is changed in turn. Two heads are trained too where a
change might help them.

Without arguments the recorded runs are drawn. --variants and --seeds train what is
missing among them; with --anew recorded runs are trained again. New rows go to the folder
of --out.
"""

from dataclasses import replace

import data
from beyond import runs, sweep


def changed(title, **other):
    """Return the recurrent network with these settings changed."""
    return replace(runs.RECURRENT, title=title, other=other)


def heads(key):
    """Return two heads with the settings of one of SETTINGS."""
    v = SETTINGS[key]
    return replace(runs.TWO_HEADS, title=f"two heads, {v.title}", other=v.other)


def matched(key):
    """Return one of SETTINGS in which each decision takes a grouping of its own."""
    v = SETTINGS[key]
    return replace(v, title=f"{v.title}, matched", rule="matched")


def sizes(**shape):
    """Return settings of the images: the names of data.Shape, in pixels."""
    return {f"shape.{name}": pixels for name, pixels in shape.items()}


TWICE = {name: 2 * pixels for name, pixels in vars(data.Shape()).items()}
SETTINGS = {
    "as-is": changed("as it is"),
    "image-48": changed("image of 48 pixels (32), same shapes", **sizes(size=48)),
    "image-64": changed("image of 64 pixels (32), same shapes", **sizes(size=64)),
    "double": changed("everything twice as large", **sizes(**TWICE)),
    "noise-3": changed("noise 0.3 (0.1)", noise=0.3),
    "noise-5": changed("noise 0.5 (0.1)", noise=0.5),
    "width-8": changed("width 8 (16)", width=8),
    "width-32": changed("width 32 (16)", width=32),
    "depth-3": changed("three poolings (2)", depth=3),
    "batch-1": changed("batch 1 (4)", batch=1),
    "batch-16": changed("batch 16 (4)", batch=16),
    "step-quarter": changed("step size 0.0005 (0.002)", learning_rate=5e-4),
    "step-four": changed("step size 0.008 (0.002)", learning_rate=8e-3),
    "b-quarter": changed("b/P = 1/4 (1)", **sizes(square=4)),
    "b-four": changed("b/P = 4 (1), image of 48", **sizes(square=16, size=48)),
    "m-55": changed("m = 0.55 (0.5)", m=0.55),
    "m-70": changed("m = 0.7 (0.5)", m=0.7),
}
FOR_HEADS = ("noise-5", "width-32", "batch-16", "step-quarter", "step-four")
FOR_HEADS += ("b-quarter", "b-four", "m-70")
HEADS = {f"heads-{key}": heads(key) for key in FOR_HEADS}
FOR_MATCHED = ("image-64", "noise-5", "b-four")
MATCHED = {f"{key}-matched": matched(key) for key in FOR_MATCHED}
VARIANTS = {**SETTINGS, **HEADS, **MATCHED}
TABLES = {
    "The recurrent network, one setting changed (in brackets what is usual)": SETTINGS,
    "Two heads, one setting changed": HEADS,
    "The recurrent network, each decision takes a grouping of its own": MATCHED,
}


def report(found):
    """Return no figure, and a text that says what the runs came to, with the tables."""
    rows = runs.summarise(found, VARIANTS)
    recurrent = [row for row in rows if row["variant"] in SETTINGS]
    fails = [row["variant"] for row in recurrent if row["found"] < row["of"]]
    all_find = len(recurrent) - len(fails)
    text = [
        f"With {all_find} of {len(recurrent)} settings every recurrent run finds both.",
        runs.said("Runs that do with the others", rows, fails),
        runs.tables(rows, TABLES),
    ]
    return {}, "\n\n".join(filter(None, text))


QUESTION = sweep.Question(
    name="breaks",
    about=__doc__,
    variants=VARIANTS,
    run=runs.run,
    loss=runs.loss,
    report=report,
    settings=runs.Settings(),
    fixed=runs.FIXED,
    default=(*SETTINGS, *HEADS, *MATCHED),
    seeds=10,
)

if __name__ == "__main__":
    sweep.main(QUESTION)
