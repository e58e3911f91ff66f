"""What does a loss do with a region that any of K instances could own? Said without training.

predict looks at the mean of a loss over the truths while the shares of the common region
change; from_masks takes two masks of one's own. A loss that is random is the mean of DRAWS,
always the same: shares whose costs differ by less than three standard errors are as good as one
another. Copied with understand.py this file needs torch alone.
"""

import math

import torch

from beyond.understand import (
    EPS,
    Understood,
    blame,
    owned,
    seeded,
    understand,
    with_background,
)

DRAWS = 64  # of a loss that is random


def pair():
    """The parts (3, 32, 32) of the pair of data.py: left own part, common region, right own
    part, of 64 pixels each."""
    left, common = torch.zeros(2, 32, 32)
    left[11:21, 4:10] = left[15:17, 10:12] = common[12:20, 12:20] = 1
    return torch.stack((left, common, left.flip(-1)))


def from_masks(mask_a, mask_b):
    """The parts (3, H, W) of two masks (H, W), 0 where off: what only a has, what both have,
    what only b has. ValueError: the masks do not fit, or one of the parts is empty."""
    a, b = (torch.as_tensor(mask) != 0 for mask in (mask_a, mask_b))
    if a.ndim != 2 or a.shape != b.shape:
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise ValueError(f"mask_a and mask_b must both be (H, W), got {shapes}")
    parts = torch.stack((a & ~b, a & b, b & ~a)).float()
    for part, name in zip(parts, ("only in mask_a", "in both masks", "only in mask_b")):
        if not part.any():
            raise ValueError(
                f"mask_a and mask_b must overlap in part: no pixel is {name}"
            )
    return parts


class Mean:
    """The mean of a loss over truths (N, K, H, W) as a function of shares (K,) of the common
    region; the own parts are learned. gradient: whether one was seen."""

    def __init__(self, u, parts, truths, progress=None):
        self.u, self.parts, self.truths = u, parts, truths.to(u.kind)
        self.progress, self.evaluations = progress, 0
        middle = 1 / (truths.shape[1] + 1)
        with torch.no_grad():
            seeds = *[0] * 9, 1  # so often, as its own random numbers may be few
            *first, other = (self(self.even(middle), seed).item() for seed in seeds)
        if max(first) - min(first) > 1e-6 * abs(max(first)) + 1e-12:
            text = "it must draw its random numbers by torch, and hold a schedule still"
            raise ValueError(f"the loss differs from call to call: {text}")
        self.random = not math.isclose(first[0], other, rel_tol=1e-6, abs_tol=1e-12)
        undecided, undecided_shares = (
            torch.full_like(parts[None, 1:], middle),
            self.even(middle),
        )
        self.gradient = bool(self.slope(self.of, undecided).any())
        # How much of a slope is due to own parts and background, which EPS keeps from being right.
        one, two = (
            self.slope(
                lambda x, k=k: self.of(owned(parts, x[None]), least=k * EPS),
                undecided_shares,
            )
            for k in (1, 2)
        )
        self.unlearned = (two - one).abs().max().item()

    def slope(self, mean, x):
        """The gradient of mean at x, 0 where there is none."""
        x, slope = x.clone().requires_grad_(), None
        with torch.enable_grad():
            try:
                value = mean(x)
            except ValueError:  # as a metric in NumPy, which knows no gradients, raises
                value = mean(x.detach())
            if value.requires_grad:
                try:
                    (slope,) = torch.autograd.grad(value, x, allow_unused=True)
                except Exception as e:  # noqa: BLE001 - whatever a loss may raise
                    raise ValueError(blame(e)) from None
        return torch.zeros_like(x) if slope is None else slope.nan_to_num()

    def even(self, share):
        """The same share for every instance, (K,)."""
        return self.parts.new_full((len(self.parts) - 1,), share)

    def __call__(self, shares, seed=None):
        return self.of(owned(self.parts, shares[None]), seed)

    def of(self, masks, seed=None, least=EPS):
        """The mean loss of masks (1, K, H, W) with all truths."""
        value = self.draws(masks, seed, least).mean()
        if not value.isfinite():
            raise ValueError(f"the loss must be finite, got {value.item()}")
        return value

    def at(self, places):
        """The loss at places, each (K,): (M, draws)."""
        values = torch.stack(
            [self.draws(owned(self.parts, x[None])) for x in places]
        ).cpu()
        if not values.isfinite().all():
            raise ValueError(
                f"the loss must be finite, got {values[~values.isfinite()][0]}"
            )
        return values

    def draws(self, masks, seed=None, least=EPS):
        """The loss of masks (1, K, H, W), kept from least to 1 - least, with all truths: (1,) or,
        if it is random, (DRAWS,)."""
        self.evaluations += 1
        if self.progress:
            self.progress(self.evaluations)
        masks = masks.clamp(least, 1 - least)
        logits = masks.logit()
        if self.u.exclusive:
            logits = with_background(masks).clamp(min=least).log()
        logits = logits.to(self.u.kind).expand(len(self.truths), -1, -1, -1)
        seeds = (seed or 0,)
        if seed is None and self.random:
            seeds = range(DRAWS)
        values = []
        for k in seeds:
            try:
                with seeded(k, masks):
                    values.append(self.u(logits.clone(), self.truths.clone()))
            except (Exception, SystemExit) as e:  # noqa: BLE001 - whatever a loss may raise
                raise ValueError(blame(e)) from None
        return torch.stack(values)

    def descend(self, shares, level, even=False):
        """Where the gradient leads shares (K,) of which it moves the logits. A slope below level
        is none. Each logit has its own step, halved when its slope turns (Rprop); even: all move
        alike."""
        shares = shares.clamp(EPS, 1 - EPS)
        rest = 1 - shares.sum() if self.u.exclusive else 1 - shares
        logits = (shares / rest.clamp(min=EPS)).log()
        step, before = torch.full_like(logits, 0.4), torch.zeros_like(logits)
        for _ in range(100):
            slope = self.slope(self, shares)
            if even:
                slope = slope.mean().expand(len(shares))
            if self.u.exclusive:
                slope = slope - (shares * slope).sum()
            way = -slope.sign().where(slope.abs() > level, 0)
            step = (step / 2).where(way * before < 0, (1.3 * step).clamp(max=3))
            logits, before, old = (logits + way * step).clamp(-14, 14), way, shares
            shares = logits.sigmoid()
            if self.u.exclusive:
                shares = torch.cat((logits.new_zeros(1), logits)).softmax(0)[1:]
            if (shares - old).abs().max() < 1e-4:
                break
        return shares.where(shares > 0.002, 0).where(shares < 0.998, 1).detach()


def elsewhere(K, exclusive):
    """Shares (M, K) of the common region, K at a time: of two instances a grid, of more the
    corners and the ways there from the middle."""
    ends = torch.linspace(0, 1, 11 if K == 2 else 2).double()
    places = torch.cartesian_prod(*[ends] * K)
    if K > 2:
        middle = 1 / K if exclusive else 1 / 2
        places = torch.cat(
            [middle + t * (places - middle) for t in (0.25, 0.5, 0.75, 1)]
        )
    return places[places.sum(1) < 1 + EPS] if exclusive else places


def lowest(curve, shares, at):
    """The share near a point of a curve at which it is lowest, of the parabola through three."""
    if at in (0, len(curve) - 1):
        return shares[at].item()
    before, here, after = curve[at - 1 : at + 2]
    bow = (before - 2 * here + after).clamp(min=1e-12)
    steps = ((before - after) / (2 * bow)).clamp(-1, 1)  # no farther, where it is noisy
    return (shares[at] + steps * shares[1]).item()


def errors(draws):
    """Three standard errors of the means of draws (M, N), 0 of a single draw."""
    return 3 * draws.std(1, correction=0) / draws.shape[1] ** 0.5


def best_even(curve, shares, near):
    """Where a curve (101,) over shares is lowest, near says where as good as that: (predicted,
    kind, all shares that are as good)."""
    near = near.nonzero()[:, 0]
    if near[-1] - near[0] == len(curve) - 1 and len(near) < len(curve) / 2:
        return "ends tie", "ends tie", [0.0, shares[-1].item()]
    if len(near) > len(curve) / 5:
        return "flat", "flat", shares[near].tolist()
    share = lowest(curve, shares, int(curve.argmin()))
    return share, "one end" if share in (0, 1) else "in between", [share]


def cut(shares, exclusive, margin=0.04):
    """What becomes of shares that differ by a margin from network to network: of each at a cut at
    1/2 or, where they exclude one another, if the largest class counts."""
    words = []
    for k, share in enumerate(shares):
        rivals = (
            [*shares[:k], *shares[k + 1 :], 1 - sum(shares)]
            if exclusive
            else [1 - share]
        )
        ahead = share - max(rivals)
        words.append(
            "given" if ahead > margin else "not given" if ahead < -margin else "toss-up"
        )
    if words.count("given") == 1 and words.count("not given") == len(words) - 1:
        return "one owner"
    return words[0] if len(set(words)) == 1 else ", ".join(words)


def checked(parts, truths, priors):
    """Parts (K + 1, H, W), and truths (G, K), each as often as priors say, see predict."""
    parts = torch.as_tensor(pair() if parts is None else parts).double()
    masks = (
        parts.ndim == 3 and 2 < len(parts) < 12 and ((parts == 0) | (parts == 1)).all()
    )
    if not (masks and parts.any(-1).any(-1).all() and parts.sum(0).max() == 1):
        text = "parts must be masks (K + 1, H, W), K from 2 to 10, none empty, none overlapping"
        raise ValueError(f"{text}, got {tuple(parts.shape)}, {parts.unique()[:5]}")
    K = len(parts) - 1
    try:
        truths = torch.eye(K) if truths is None else torch.as_tensor(truths)
        priors = None if priors is None else torch.as_tensor(priors).double().tolist()
    except (TypeError, ValueError) as e:
        raise ValueError(f"truths and priors must be numbers: {e}") from None
    inside = truths.ndim == 2 and ((truths >= 0) & (truths <= 1)).all()
    if not inside or truths.shape[1] != K or not len(truths):
        raise ValueError(
            f"truths must be (G, {K}) shares from 0 to 1, got {truths.tolist()}"
        )
    if priors is None:
        return parts, truths.to(parts)
    one_each = isinstance(priors, list) and len(priors) == len(truths)
    if not one_each or min(priors) < 0 or not 0 < sum(priors) < math.inf:
        raise ValueError(
            f"priors must be {len(truths)} numbers from 0 up, got {priors}"
        )
    times = [round(100 * p / sum(priors)) for p in priors]
    if any(p and not k for p, k in zip(priors, times)):
        raise ValueError(
            f"priors must be 0 or at least a hundredth of their sum, got {priors}"
        )
    times = torch.tensor([k // math.gcd(*times) for k in times])
    return parts, truths.repeat_interleave(times, 0).to(parts)


def predict(loss, parts=None, *, truths=None, priors=None, progress=None, **how):
    """Where a loss leads a network that has learned the own parts: a dict for the JSON.

    parts (K + 1, H, W), 0 and 1, are own part 1, the common region, own part 2 to K, as
    data.sample has them; else those of pair(). truths (G, K) are the shares of the common region
    that instances own in each truth; else each of them once all of it. priors say, to a
    hundredth, how often each is true; else they are equal. progress is called with the number of
    evaluations so far. how is logits, classes or order, see understand.

    curve: the mean loss if every mask has the share a of the common region, for a in shares;
    costs: if instances have places (M, K). predicted: the a of the lowest, "ends tie", "flat",
    "one owner, either", or a share for each instance; kind: "ends tie", "one end", "in between",
    "flat", "one owner" or "uneven"; best: all shares of all instances that are as good.
    slides_to: where the gradient leads undecided masks, one share or one for each instance;
    cut: what a cut at 1/2 makes of that, or the largest class, "given", "not given", "toss-up",
    "one owner" or one of these for each; gradient: whether there is one. input, order, classes,
    exclusive, takes, random: how the loss is understood; within: of a random loss, how exact the
    best share is.
    ValueError: parts, truths or priors that are none; a loss that is not understood, not finite,
    or another at every call; what it raises.
    """
    parts, owners = checked(parts, truths, priors)
    K = owners.shape[1]
    u = loss if isinstance(loss, Understood) else understand(loss, parts, **how)
    if u.exclusive and owners.sum(1).max() > 1:
        raise ValueError("truths must give a pixel to one owner at most for this loss")
    mean = Mean(u, parts, owned(parts, owners), progress)
    shares = torch.linspace(0, (1 - EPS) / K if u.exclusive else 1, 101).double()
    places = elsewhere(K, u.exclusive)
    with torch.no_grad():
        curves = mean.at([mean.even(a) for a in shares.tolist()])  # (101, draws)
        many = mean.at(places.to(parts))  # (M, draws)
    curve, costs = curves.mean(1), many.mean(1)
    best_draws = curves[curve.argmin()]
    # Costs that differ by less are the same: a thousandth of what there is to lose, inside of the
    # walls that some losses have at the ends; and what numbers are exact to.
    size = curve.quantile(0.75) - curve.min()
    exact = (1e-9 if u.kind == torch.float64 else 1e-6) * curve.abs().max()
    slack = max(1e-3 * size, exact, 3 * mean.unlearned)
    # A slope below this is none: of rounding, of what is not quite learned, of random draws.
    steep = mean.slope(mean, mean.even(0.1)).abs().max().cpu()
    doubt = errors(curves[55:56] - curves[45:46]) / (shares[55] - shares[45])
    level = max(1e-3 * steep, exact, K * doubt.item(), 3 * mean.unlearned) / K
    near = curve <= curve.min() + slack + errors(curves - best_draws)
    within = 0.0
    if mean.random:
        within = (shares[near].max() - shares[near].min()).item() / 2
    predicted, kind, best = best_even(curve, shares, near)
    best = [[a] * K for a in best]
    doubts = errors(many - best_draws)
    as_good = costs <= curve.min() + slack + doubts
    mixed = (places.amin(1) == 0) & (
        places.amax(1) == 1
    )  # some have it and others have not
    if u.exclusive and kind == "in between" and as_good[mixed].all():
        predicted = kind = "flat"  # whichever way they share it
        best = places[as_good].tolist()
    elif kind in ("one end", "ends tie") and as_good[mixed].any():
        predicted = kind = "ends tie"
        best += places[mixed & as_good].tolist()

    # Where shares that differ are better.
    apart = bool((costs < curve.min() - slack - doubts).any())
    place = (
        places[costs.argmin()] if apart else mean.even(shares[curve.argmin()].item())
    )
    place = mean.descend(place.to(parts), level)
    with torch.no_grad():
        deeper = mean(place).cpu() <= min(costs.min(), curve.min()) + slack / 100
    if deeper and place.max() - place.min() > 0.005:
        owner = sorted(place.tolist()) == [0] * (K - 1) + [1]
        best = (
            places[costs <= costs.min() + slack + doubts].tolist()
            if owner
            else [place.tolist()]
        )
        if (
            not owner
            and K == 2
            and mean(place.flip(0)).cpu() <= mean(place).cpu() + slack
        ):
            best.append(place.flip(0).tolist())
        kind = "one owner" if owner else "uneven"
        predicted = "one owner, either" if owner and len(best) == K else place.tolist()

    # Where undecided masks go, and where if the first has slightly more than the others.
    start = mean.even(1 / (K + 1) if u.exclusive else 1 / 2)
    alike = mean.random and not apart  # what differs is by chance
    end = mean.descend(start, level, alike)
    moved = bool((end - start).abs().max() > 1e-3)
    if not alike and (moved or u.exclusive):
        tipped = mean.descend(start + 0.01 * torch.eye(K)[0].to(start), level)
        end = tipped if tipped.max() - tipped.min() > 0.1 else end
    slides_to = end.tolist()
    if end.max() - end.min() < 0.01:
        slides_to = end.mean().item()
        low = max(int((shares - slides_to).abs().argmin()) - 1, 0)
        at = low + int(curve[low : low + 3].argmin())
        if (
            mean.random
            and kind == "in between"
            and abs(predicted - slides_to) < 2 * within
        ):
            slides_to = predicted
        elif moved and kind != "flat" and abs(shares[at] - slides_to) < 0.02:
            slides_to = lowest(curve, shares, at)  # as exact as predicted
        if moved and kind == "flat" and curve.max() - curve.min() <= slack:
            # The value is the same everywhere, but the gradient, which trains, is not 0.
            predicted, best = slides_to, [[slides_to] * K]
            kind = "one end" if slides_to in (0, 1) else "in between"
        end = mean.even(slides_to)
    return {
        "predicted": predicted,
        "kind": kind,
        "slides_to": slides_to,
        "cut": cut(end.tolist(), u.exclusive, 0.04 + 2 * within),
        "best": best,
        "input": u.input,
        "order": "truth-first" if u.truth_first else "pred-first",
        "classes": u.form,
        "exclusive": u.exclusive,
        "gradient": mean.gradient,
        "takes": u.takes,
        "random": mean.random,
        "within": within,
        "shares": shares.tolist(),
        "curve": curve.tolist(),
        "places": places.tolist(),
        "costs": costs.tolist(),
    }
