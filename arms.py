"""A world with more owners: in place of the pair of data.py a square that two, three or
four equal arms share. Here are its shape, for data.sample, and what decisions on it are.
"""

from collections import Counter
from dataclasses import dataclass

import torch

import data

# What becomes of one instance: it is given the square or not, a part of it, or its own part
# is not learned.
ENDS = ("given", "not given", "split", "unlearned")
ALIKE = {"given": "all", "not given": "nobody"}  # a decision whose instances end alike
# For r = b/P: the square's side; of an arm the bar next to it and the lobe at its end,
# each (across, along). An arm has P = 64, 72, 36 or 32 pixels.
SIZES = {
    1 / 8: (3, (1, 2), (7, 10)),
    1 / 4: (4, (2, 2), (6, 10)),
    1 / 2: (6, (4, 2), (8, 8)),
    1.0: (8, (2, 2), (10, 6)),  # two arms are the pair of data.Shape
    2.0: (8, (4, 2), (6, 4)),
    4.0: (12, (2, 2), (8, 4)),
    8.0: (16, (4, 2), (6, 4)),
}


@dataclass(frozen=True)
class Arms:
    """In place of a data.Shape: a square that K equal arms share, 2 to 4 of them, left, right,
    up and down, with b = rP. ValueError: a K, r or size that is not there."""

    K: int = 2
    r: float = 1.0  # see SIZES
    size: int = 32  # side of the image

    def __post_init__(self):
        for name, known in (("K", (2, 3, 4)), ("r", tuple(SIZES))):
            if getattr(self, name) not in known:
                text = f"{name} must be among {known}, got {getattr(self, name)}"
                raise ValueError(text)
        if self.size != 32:  # which the predictions of exp_owners.py are for
            raise ValueError(f"size must be 32, got {self.size}")

    @property
    def height(self):
        """Height of the figure in pixels."""
        return self.template().shape[0]

    @property
    def width(self):
        """Width of the figure in pixels."""
        return self.template().shape[1]

    def template(self):
        """The figure, (height, width) uint8: 2 is the square; 1, 3, 4, 5 are the arms."""
        square, bar, lobe = SIZES[self.r]
        reach = bar[1] + lobe[1]
        side = square + 2 * reach
        labels = torch.zeros(side, side, dtype=torch.uint8)
        # Every arm is drawn to the left and then turned about the square's centre.
        for label, turns in ((1, 0), (3, 2), (4, 3), (5, 1))[: self.K]:
            arm, x = torch.zeros_like(labels), 0
            for across, along in (lobe, bar):
                top = (side - across) // 2
                arm[top : top + across, x : x + along] = label
                x += along
            labels += arm.rot90(turns)
        labels[reach : reach + square, reach : reach + square] = 2
        drawn = labels > 0
        return labels[drawn.any(1)][:, drawn.any(0)]


def ends(masks, parts):
    """What each instance of each decision ends in, (n, D, K), as an index into ENDS, see
    data.GIVEN and data.LEARNED. masks (n, D, K, H, W), parts (n, K + 1, H, W)."""
    own = torch.cat((parts[:, :1], parts[:, 2:]), 1)  # (n, K, H, W)
    outside = (masks > 0.5) * (1 - parts[:, 1])[:, None, None]  # (n, D, K, H, W)
    learned = data.iou(outside, own[:, None])[:, :, 0] >= data.LEARNED  # (n, D, K)
    shares = data.common_shares(masks, parts)
    end = torch.full_like(shares, ENDS.index("split"), dtype=torch.long)
    end[shares >= data.GIVEN] = ENDS.index("given")
    end[shares <= 1 - data.GIVEN] = ENDS.index("not given")
    return end.where(learned, ENDS.index("unlearned"))


def goes_to(instances):
    """To whom a decision gives the common region, "all", "one", "some" or "nobody", else
    "split" or "unlearned", where one of its instances, a list of ENDS, is."""
    for end in ("unlearned", "split"):
        if end in instances:
            return end
    given = instances.count("given")
    return {0: "nobody", len(instances): "all", 1: "one"}.get(given, "some")


def measure(masks, parts, prior):
    """What the decisions of K instances are worth, as a dict for the JSON; prior weighs
    the K groupings. masks (n, D, K, H, W), parts (n, K + 1, H, W). score, oracle_exact: as
    in data.measure; decisions: for each the commonest outcome, see goes_to, and the share of
    images of every outcome; of its instances the commonest of ENDS, and the mean share of
    the common region that it gives to each; outcome: of all decisions."""
    ious = data.iou((masks > 0.5).float(), data.groupings(parts))  # (n, D, K, K)
    shares, decisions = data.common_shares(masks, parts).mean(0), []  # (D, K)
    for found, share in zip(ends(masks, parts).unbind(1), shares):
        words = [[ENDS[k] for k in image] for image in found.tolist()]  # n lists
        counts = Counter(map(goes_to, words)).most_common()
        row = {"outcome": counts[0][0]}
        row["outcome_share"] = {name: k / len(words) for name, k in counts}
        row["ends"] = [Counter(column).most_common(1)[0][0] for column in zip(*words)]
        decisions.append(row | {"shares": share.tolist()})
    best = ious.sum(-1).amax(1).mean(0)  # (K,), against each grouping
    score = sum(p * x for p, x in zip(prior, best.tolist()))
    exact = (ious >= data.EXACT).all(-1).any(1).float().mean().item()
    row = {"outcome": " + ".join(d["outcome"] for d in decisions), "score": score}
    return row | {"oracle_exact": exact, "decisions": decisions}
