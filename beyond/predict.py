"""What does a loss do with a region that any of K instances could own? Said without
training.

The own parts are taken as learned. Each mask then has one number, its share of the
common region. predict looks at the mean of a loss over the truths as a function of
these shares: where it is lowest, and where its gradient leads an undecided network.
from_masks takes two masks of one's own. A loss that is random is the mean of DRAWS,
always the same: shares whose costs differ by less than three standard errors are as
good as one another. Copied with understand.py this file needs torch."""

import math
from dataclasses import dataclass, replace

import torch

from beyond.forms import EPS, Understood, owned, seeded
from beyond.understand import STEADY, blame, understand

DRAWS = 64  # of a loss that is random
MARGIN = 0.04  # shares differ by so much from network to network


def pair():
    """The parts (3, 32, 32) of the pair of data.py: left own part, common region, right
    own part, of 64 pixels each."""
    left, common = torch.zeros(2, 32, 32)
    left[11:21, 4:10] = 1
    left[15:17, 10:12] = 1
    common[12:20, 12:20] = 1
    return torch.stack((left, common, left.flip(-1)))


def from_masks(mask_a, mask_b):
    """The parts (3, H, W) of two masks (H, W), 0 where off: what only a has, what both
    have, what only b has. ValueError: the masks do not fit, or one of the parts is
    empty."""
    a, b = torch.as_tensor(mask_a) != 0, torch.as_tensor(mask_b) != 0
    if a.ndim != 2 or a.shape != b.shape:
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise ValueError(f"mask_a and mask_b must both be (H, W), got {shapes}")
    parts = torch.stack((a & ~b, a & b, b & ~a)).float()
    for part, name in zip(parts, ("only in mask_a", "in both masks", "only in mask_b")):
        if not part.any():
            text = "mask_a and mask_b must overlap in part"
            raise ValueError(f"{text}: no pixel is {name}")
    return parts


class Landscape:
    """The mean loss over truths (G, K, H, W) as a function of the shares (K,) of the
    common region. ValueError: the loss raises, is not finite, or differs from call to
    call."""

    def __init__(self, u, parts, truths):
        self.u, self.parts, self.truths = u, parts, truths.to(u.kind)
        self.K = truths.shape[1]
        self.background = 1 - self.truths.sum(1, keepdim=True).mean(0, keepdim=True)
        self.random = False
        self.random = self.differs_by_seed()
        # How much of a slope is due to own parts that EPS keeps from being right.
        once = self.slope(self.undecided())
        twice = self.slope(self.undecided(), 2 * EPS)
        self.unlearned = (twice - once).abs()  # (K,)

    def differs_by_seed(self):
        """Whether the loss draws random numbers. It is called several times, as those
        that it draws elsewhere may be few."""
        shares = self.undecided()
        with torch.no_grad():
            again = [self.cost(shares, seed=0).item() for _ in range(9)]
            other = self.cost(shares, seed=1).item()
        if max(again) - min(again) > 1e-6 * abs(max(again)) + 1e-12:
            raise ValueError(f"the loss differs from call to call: {STEADY}")
        return not math.isclose(again[0], other, rel_tol=1e-6, abs_tol=1e-12)

    def even(self, share):
        """The same share for every instance, (K,)."""
        return self.parts.new_full((self.K,), share)

    def undecided(self):
        """The shares (K,) of a network that cannot tell what a pixel is."""
        return self.even(1 / (self.K + 1) if self.u.exclusive else 1 / 2)

    def draws(self, masks, seed=None, least=EPS):
        """The costs of masks (1, K, H, W): (1,) or, of a random loss without a seed,
        (DRAWS,)."""
        seeds = [seed or 0]
        if self.random and seed is None:
            seeds = range(DRAWS)
        masks = masks.to(self.u.kind).expand(len(self.truths), -1, -1, -1)
        background = self.background.expand(len(self.truths), -1, -1, -1)
        values = []
        for one in seeds:
            try:
                with seeded(one, masks):
                    value = self.u.of_masks(masks, self.truths, background, least)
            except (Exception, SystemExit) as e:  # noqa: BLE001 - whatever it may raise
                raise ValueError(blame(e)) from None
            if not value.isfinite():
                raise ValueError(f"the loss must be finite, got {value.item()}")
            values.append(value)
        return torch.stack(values)

    def masks(self, shares):
        """Masks (1, K, H, W) with shares (K,) of the common region."""
        return owned(self.parts, shares[None])

    def cost(self, shares, seed=None, least=EPS):
        """The mean loss of shares (K,)."""
        return self.draws(self.masks(shares), seed, least).mean()

    def table(self, places):
        """The costs of places (M, K): (M, draws)."""
        with torch.no_grad():
            return torch.stack([self.draws(self.masks(x)) for x in places]).cpu()

    def slope(self, shares, least=EPS):
        """The gradient of cost at shares (K,), 0 where there is none."""
        return gradient(lambda x: self.cost(x, least=least), shares)

    def has_gradient(self):
        """Whether any pixel of undecided masks has a gradient."""
        masks = torch.full_like(self.parts[None, 1:], self.undecided()[0].item())
        return bool(gradient(lambda x: self.draws(x).mean(), masks).any())


def gradient(cost, x):
    """The gradient of a cost at x, 0 where there is none. ValueError: what the loss
    raises."""
    x = x.clone().requires_grad_()
    with torch.enable_grad():
        try:
            value = cost(x)
        except ValueError:  # as a metric in NumPy, which knows no gradients, raises
            value = cost(x.detach())
        if not value.requires_grad:
            return torch.zeros_like(x)
        try:
            (slope,) = torch.autograd.grad(value, x, allow_unused=True)
        except Exception as e:  # noqa: BLE001 - whatever it may raise
            raise ValueError(blame(e)) from None
    return torch.zeros_like(x) if slope is None else slope.nan_to_num()


@dataclass
class Costs:
    """What is known of a Landscape: the costs of even shares and of places."""

    shares: torch.Tensor  # (101,), the same for all instances
    even_draws: torch.Tensor  # (101, draws)
    places: torch.Tensor  # (M, K)
    place_draws: torch.Tensor  # (M, draws)
    slack: float  # costs that differ by less are the same
    level: torch.Tensor  # (K,), a slope below it is none

    @property
    def curve(self):
        return self.even_draws.mean(1)

    @property
    def costs(self):
        return self.place_draws.mean(1)

    def lowest_even(self):
        """The draws of the best even share."""
        return self.even_draws[self.curve.argmin()]

    def near(self):
        """Which even shares are as good as the best, (101,)."""
        doubt = errors(self.even_draws - self.lowest_even())
        return self.curve <= self.curve.min() + self.slack + doubt

    def as_good(self):
        """Which places are as good as the best even share, (M,)."""
        return self.costs <= self.curve.min() + self.slack + self.doubts()

    def doubts(self):
        """How far the costs of places may be off by chance, (M,)."""
        return errors(self.place_draws - self.lowest_even())

    def apart_is_better(self):
        """Whether shares that differ from instance to instance cost less than even
        ones."""
        return bool((self.costs < self.curve.min() - self.slack - self.doubts()).any())


@dataclass
class Best:
    """The shares that cost least: in which way, and all of them, each a list of K."""

    kind: str
    shares: list


@dataclass
class End:
    """Where the gradient leads an undecided network: the shares (K,), whether it moves
    at all and, where 1/2 is a maximum that parts, the shares on either side of it."""

    shares: torch.Tensor
    moved: bool
    sides: list


def errors(draws):
    """Three standard errors of the means of draws (M, N), 0 of a single draw."""
    return 3 * draws.std(1, correction=0) / draws.shape[1] ** 0.5


def grid(K, exclusive):
    """Shares (M, K) of the common region, K at a time: of two instances a grid, of more
    the corners and the ways there from the middle."""
    ends = torch.linspace(0, 1, 11 if K == 2 else 2).double()
    places = torch.cartesian_prod(*[ends] * K)
    if K > 2:
        middle = 1 / K if exclusive else 1 / 2
        ways = [middle + t * (places - middle) for t in (0.25, 0.5, 0.75, 1)]
        places = torch.cat(ways)
    return places[places.sum(1) < 1 + EPS] if exclusive else places


def costs_of(scape):
    """The Costs of a Landscape, and what counts as equal in it."""
    most = (1 - EPS) / scape.K if scape.u.exclusive else 1
    shares = torch.linspace(0, most, 101).double()
    places = grid(scape.K, scape.u.exclusive)
    even_draws = scape.table([scape.even(a) for a in shares.tolist()])
    place_draws = scape.table(places.to(scape.parts))
    curve = even_draws.mean(1)
    # A thousandth of what there is to lose, inside of the walls that some losses have
    # at the ends; and what numbers are exact to.
    size = curve.quantile(0.75) - curve.min()
    exact = (1e-9 if scape.u.kind == torch.float64 else 1e-6) * curve.abs().max()
    slack = max(1e-3 * size.item(), exact.item(), 3 * scape.unlearned.max().item())
    # Slopes of rounding, of what is not quite learned, and of random draws are none.
    doubt = errors(even_draws[55:56] - even_draws[45:46]) / (shares[55] - shares[45])
    level = 1e-3 * scape.slope(scape.even(0.1)).abs()  # (K,)
    level = level.maximum(3 * scape.unlearned).clamp(min=exact.item())
    level = level.clamp(min=scape.K * doubt.item())
    return Costs(shares, even_draws, places, place_draws, slack, level / scape.K)


def lowest(curve, shares, at):
    """The share near a point of a curve at which it is lowest, of the parabola through
    three."""
    if at in (0, len(curve) - 1):
        return shares[at].item()
    before, here, after = curve[at - 1 : at + 2]
    bow = (before - 2 * here + after).clamp(min=1e-12)
    steps = ((before - after) / (2 * bow)).clamp(-1, 1)  # no farther, where it is noisy
    return (shares[at] + steps * shares[1]).item()


def valleys(costs):
    """The stretches (first, last) of even shares that are as good as the best, with a
    rise between one and the next."""
    found = []
    rise = costs.curve.min() + 3 * costs.slack + 2 * errors(costs.even_draws).max()
    for at in costs.near().nonzero()[:, 0].tolist():
        if found and costs.curve[found[-1][1] : at + 1].max() <= rise:
            found[-1] = (found[-1][0], at)
        else:
            found.append((at, at))
    return found


def even_best(costs):
    """The Best of even shares."""
    K, last = costs.places.shape[1], len(costs.shares) - 1
    near = costs.near().nonzero()[:, 0]
    stretches = valleys(costs)
    ends = stretches[0][0] == 0 and stretches[-1][1] == last and len(stretches) == 2
    if ends and len(near) < len(costs.shares) / 2:
        return Best("ends tie", [[0.0] * K, [costs.shares[-1].item()] * K])
    if len(near) > len(costs.shares) / 5:
        return Best("flat", [[a] * K for a in costs.shares[near].tolist()])
    bottoms = []
    for first, end in stretches:
        at = first + int(costs.curve[first : end + 1].argmin())
        bottoms.append(lowest(costs.curve, costs.shares, at))
    if len(bottoms) > 1:
        return Best("inner tie", [[a] * K for a in bottoms])
    kind = "one end" if bottoms[0] in (0, 1) else "in between"
    return Best(kind, [[bottoms[0]] * K])


def with_mixed(best, costs, scape):
    """The Best of even shares, with those that tie with them in which some instances
    have one of these shares and others another."""
    places, as_good = costs.places, costs.as_good()
    mixed = (places.amin(1) == 0) & (places.amax(1) == 1)
    if scape.u.exclusive and best.kind == "in between" and as_good[mixed].all():
        return Best("flat", places[as_good].tolist())  # whichever way they share it
    if best.kind in ("one end", "ends tie") and as_good[mixed].any():
        return Best("ends tie", best.shares + places[mixed & as_good].tolist())
    if best.kind == "inner tie" and not scape.u.exclusive:
        bottoms = torch.tensor([shares[0] for shares in best.shares]).double()
        choices = torch.cartesian_prod(*[bottoms] * scape.K)
        others = choices[choices.amax(1) > choices.amin(1)]
        level = costs.curve.min() + costs.slack
        good = scape.table(others.to(scape.parts)).mean(1) <= level
        return Best("inner tie", best.shares + others[good].tolist())
    return best


def uneven_best(best, costs, scape):
    """The Best of all shares, where those that differ from instance to instance cost
    less."""
    start = scape.even(costs.shares[costs.curve.argmin()].item())
    if costs.apart_is_better():
        start = costs.places[costs.costs.argmin()].to(scape.parts)
    place = descend(scape, start, costs.level)
    bottom = min(costs.costs.min(), costs.curve.min()) + costs.slack / 100
    with torch.no_grad():
        deeper = scape.cost(place).cpu() <= bottom
    if not deeper or place.max() - place.min() <= 0.005:
        return best
    if sorted(place.tolist()) == [0] * (scape.K - 1) + [1]:
        return Best("one owner", owners_as_good(costs, place.tolist()))
    shares = [place.tolist()]
    if scape.K == 2:
        with torch.no_grad():
            if scape.cost(place.flip(0)) <= scape.cost(place) + costs.slack:
                shares.append(place.flip(0).tolist())
    return Best("uneven", shares)


def owners_as_good(costs, owner):
    """The places in which one instance owns all, that cost as little as that of an
    owner."""
    level = costs.costs.min() + costs.slack + costs.doubts()
    found = []
    for place, good in zip(costs.places.tolist(), (costs.costs <= level).tolist()):
        if good and sorted(place) == sorted(owner):
            found.append(place)
    return found or [owner]


def descend(scape, shares, level, even=False):
    """Where the gradient leads shares (K,) of which it moves the logits. A slope below
    level is none. Each logit has its own step, halved when its slope turns (Rprop);
    even: all move alike."""
    exclusive = scape.u.exclusive
    shares = shares.clamp(EPS, 1 - EPS)
    rest = 1 - shares.sum() if exclusive else 1 - shares
    logits = (shares / rest.clamp(min=EPS)).log()
    step, before = torch.full_like(logits, 0.4), torch.zeros_like(logits)
    for _ in range(100):
        slope = scape.slope(shares)
        if even:
            slope = slope.mean().expand(scape.K)
        if exclusive:
            slope = slope - (shares * slope).sum()
        way = -slope.sign().where(slope.abs() > level, 0)
        step = (step / 2).where(way * before < 0, (1.3 * step).clamp(max=3))
        logits, before, old = (logits + way * step).clamp(-14, 14), way, shares
        shares = logits.sigmoid()
        if exclusive:
            shares = torch.cat((logits.new_zeros(1), logits)).softmax(0)[1:]
        if (shares - old).abs().max() < 1e-4:
            break
    return shares.where(shares > 0.002, 0).where(shares < 0.998, 1).detach()


def interchangeable(scape, slack):
    """Whether the cost stays when instances change places."""
    shares = torch.linspace(0.15, 0.75, scape.K).to(scape.parts) / scape.K
    with torch.no_grad():
        difference = scape.cost(shares, seed=0) - scape.cost(shares.roll(1), seed=0)
    return abs(difference.item()) <= slack / 10


def end_of(scape, costs):
    """The End of an undecided network. Instances that are alike end alike, unless a
    first lead of one of them takes it to where the cost is lower."""
    start = scape.undecided()
    alike = interchangeable(scape, costs.slack)
    if scape.random and not costs.apart_is_better():
        alike = True  # what differs is by chance
    end = descend(scape, start, costs.level, alike)
    moved = bool((end - start).abs().max() > 1e-3)
    if not moved and not scape.random and not scape.u.exclusive:
        low = descend(scape, start - 0.02, costs.level, alike)
        high = descend(scape, start + 0.02, costs.level, alike)
        if (high - low).max() > 0.1:
            return End(end, False, [low.tolist(), high.tolist()])
    if (moved or scape.u.exclusive) and not (scape.random and alike):
        first = torch.eye(scape.K)[0].to(start)
        tipped = descend(scape, start + 0.01 * first, costs.level)
        with torch.no_grad():
            better = scape.cost(tipped) < scape.cost(end) - costs.slack
        if tipped.max() - tipped.min() > 0.1 and (better or not alike):
            end = tipped
    return End(end, moved, [])


def refined(end, best, costs, within):
    """The share at which an even End lies, as exact as the best one."""
    share = end.shares.mean().item()
    low = max(int((costs.shares - share).abs().argmin()) - 1, 0)
    at = low + int(costs.curve[low : low + 3].argmin())
    if best.kind == "in between" and abs(best.shares[0][0] - share) < 2 * within:
        return best.shares[0][0]
    if end.moved and best.kind != "flat" and abs(costs.shares[at] - share) < 0.02:
        return lowest(costs.curve, costs.shares, at)
    return share


def cut(shares, exclusive, margin=MARGIN):
    """What becomes of shares that differ by a margin from network to network: of each
    at a cut at 1/2 or, where they exclude one another, if the largest class counts."""
    words = []
    for k, share in enumerate(shares):
        rivals = [1 - share]
        if exclusive:
            rivals = shares[:k] + shares[k + 1 :] + [1 - sum(shares)]
        ahead = share - max(rivals)
        if abs(ahead) <= margin:
            words.append("toss-up")
        else:
            words.append("given" if ahead > 0 else "not given")
    if words.count("given") == 1 and words.count("not given") == len(words) - 1:
        return "one owner"
    return words[0] if len(set(words)) == 1 else ", ".join(words)


def predicted(best, K):
    """A Best as one share, a share for each instance, or a word."""
    if best.kind in ("ends tie", "flat"):
        return best.kind
    if best.kind == "inner tie":
        shares = sorted({f"{shares[0]:.2f}" for shares in best.shares})
        return " or ".join(shares)
    if best.kind == "one owner" and len(best.shares) == K:
        return "one owner, either"
    return best.shares[0] if best.kind in ("one owner", "uneven") else best.shares[0][0]


def land(u, parts, truths):
    """Where a loss that is understood leads: the dict that predict returns."""
    scape = Landscape(u, parts, truths)
    costs = costs_of(scape)
    best = with_mixed(even_best(costs), costs, scape)
    best = uneven_best(best, costs, scape)
    end = end_of(scape, costs)
    within = 0.0
    if scape.random:
        near = costs.shares[costs.near()]
        within = (near.max() - near.min()).item() / 2
    slides_to = end.shares.tolist()
    if max(slides_to) - min(slides_to) < 0.01:
        slides_to = refined(end, best, costs, within)
    shares = slides_to if isinstance(slides_to, list) else [slides_to] * scape.K
    return {
        "predicted": predicted(best, scape.K),
        "kind": best.kind,
        "slides_to": slides_to,
        "parts_to": end.sides,
        "cut": cut(shares, u.exclusive, MARGIN + 2 * within),
        "best": best.shares,
        "input": u.input,
        "order": "truth-first" if u.truth_first else "pred-first",
        "classes": u.name,
        "truths": u.truths,
        "batch": u.batch,
        "exclusive": u.exclusive,
        "asymmetry": u.asymmetry,
        "gradient": scape.has_gradient(),
        "takes": u.takes,
        "random": scape.random,
        "within": within,
        "shares": costs.shares.tolist(),
        "curve": costs.curve.tolist(),
        "places": costs.places.tolist(),
        "costs": costs.costs.tolist(),
    }


def pools(u, parts, truths):
    """Whether a batch of truths costs other than its images one by one, in the mean."""
    K = truths.shape[1]
    shares = torch.linspace(0.2, 0.7, K).to(parts) / K
    masks = owned(parts, shares[None]).to(u.kind).expand(len(truths), -1, -1, -1)
    with torch.no_grad(), seeded(0, parts):
        together = u.of_masks(masks, truths.to(u.kind)).item()
    with torch.no_grad(), seeded(0, parts):
        alone = replace(u, batch="one").of_masks(masks, truths.to(u.kind)).item()
    return not math.isclose(together, alone, rel_tol=1e-5, abs_tol=1e-9)


def checked_parts(parts):
    """Parts (K + 1, H, W) with 64 bits, those of pair() by default. ValueError: they
    are none."""
    parts = torch.as_tensor(pair() if parts is None else parts).double()
    if parts.ndim != 3 or len(parts) < 3 or not ((parts == 0) | (parts == 1)).all():
        raise ValueError(f"parts must be masks (K + 1, H, W), got {tuple(parts.shape)}")
    if not parts.any(-1).any(-1).all() or parts.sum(0).max() > 1:
        raise ValueError("parts must not be empty and must not overlap")
    return parts


def checked_truths(truths, K):
    """Truths (G, K), by default each instance the owner once. ValueError: they are
    none."""
    truths = torch.eye(K) if truths is None else torch.tensor(truths).double()
    inside = truths.ndim == 2 and len(truths) and ((truths >= 0) & (truths <= 1)).all()
    if not inside or truths.shape[1] != K:
        text = f"truths must be (G, {K}) shares from 0 to 1"
        raise ValueError(f"{text}, got {truths.tolist()}")
    return truths


def repeats(priors, G):
    """How often each of G truths is taken, so that their shares are the priors, to a
    hundredth: (G,). ValueError: priors that are none."""
    if priors is None:
        return torch.ones(G, dtype=torch.long)
    if len(priors) != G or min(priors) < 0 or not 0 < sum(priors) < math.inf:
        raise ValueError(f"priors must be {G} numbers from 0 up, got {priors}")
    times = [round(100 * p / sum(priors)) for p in priors]
    lost = [p for p, k in zip(priors, times) if p and not k]
    if lost:
        text = "priors must be 0 or at least a hundredth of their sum"
        raise ValueError(f"{text}, got {priors}")
    return torch.tensor(times) // math.gcd(*times)


def brief(answer):
    """What a second answer needs to say, of a dict as predict returns it."""
    keys = ("classes", "input", "predicted", "kind", "slides_to", "parts_to", "cut")
    return {key: answer[key] for key in keys}


def predict(loss, parts=None, *, truths=None, priors=None, **how):
    """Where a loss leads a network that has learned the own parts: a dict for the JSON.

    parts (K + 1, H, W), 0 and 1, are own part 1, the common region, own part 2 to K, as
    data.sample has them; else those of pair(). truths (G, K) are the shares of the
    common region that instances own in each truth; else each of them once all of it.
    priors say, to a hundredth, how often each is true; else they are equal. how is
    logits, classes or order, see understand.

    curve: the mean loss if every mask has the share a of the common region, for a in
    shares; costs: if instances have places (M, K). best: all shares of all instances
    that are as good; kind: "ends tie", "one end", "in between", "inner tie", "flat",
    "one owner" or "uneven"; predicted: best in one number or word, or a share for each
    instance. slides_to: where the gradient leads undecided masks, one share or one for
    each instance; parts_to: the shares on either side of 1/2, if 1/2 is a maximum. cut:
    what a cut at 1/2 makes of that, or the largest class, "given", "not given",
    "toss-up", "one owner" or one of these for each. gradient: whether there is one.
    input, order, classes, truths, batch, depth, exclusive, asymmetry, takes, random:
    how the loss is understood. within: of a random loss, how exact the best share is.
    others: the same in brief for other ways to understand it that lead to another cut.
    alone: the same in brief with one image a batch, if the loss pools a batch.
    ValueError: parts, truths or priors that are none; a loss that is not understood,
    not finite, or another at every call; what it raises."""
    parts = checked_parts(parts)
    K = len(parts) - 1
    owners = checked_truths(truths, K)
    owners = owners.repeat_interleave(repeats(priors, len(owners)), 0).to(parts)
    known = [loss]
    if not isinstance(loss, Understood):
        known = understand(loss, parts.device, **how)
    answers, failed = [], None
    for u in known:
        try:
            if u.exclusive and owners.sum(1).max() > 1:
                text = "truths must give a pixel to one owner at most for this loss"
                raise ValueError(text)
            answers.append(land_and_alone(u, parts, owned(parts, owners)))
        except ValueError as e:
            failed = failed or e
    if not answers:
        raise failed
    answer = answers[0]
    others = [other for other in answers if other["cut"] != answer["cut"]]
    answer["others"] = [brief(other) for other in others]
    return answer


def land_and_alone(u, parts, truths):
    """What land returns, and in brief for one image a batch where the loss pools a
    batch."""
    answer = land(u, parts, truths)
    answer["alone"] = None
    if len(truths) == 1 or u.batch != "all" or answer["random"]:
        return answer
    if pools(u, parts, truths):
        answer["alone"] = brief(land(replace(u, batch="one"), parts, truths))
    return answer
