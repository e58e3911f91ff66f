"""What does a loss do with a region that an instance may own or not? Said without
training.

The own parts are taken as learned. predict looks at the mean of a loss over the truths
as a function of the shares of the common region: where it is lowest, and where its
gradient leads an undecided network. There are two instances, or one."""

import math
from dataclasses import dataclass, replace

import torch

from beyond.forms import EPS, Understood, owned
from beyond.landscape import Landscape, Measured
from beyond.understand import understand

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
    have, what only b has. ValueError: the masks do not fit, or a part is empty."""
    a = torch.as_tensor(mask_a) != 0
    b = torch.as_tensor(mask_b) != 0
    if a.ndim != 2 or a.shape != b.shape:
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise ValueError(f"mask_a and mask_b must both be (H, W), got {shapes}")
    parts = torch.stack((a & ~b, a & b, b & ~a)).float()
    for part, name in zip(parts, ("only in mask_a", "in both masks", "only in mask_b")):
        if not part.any():
            text = "mask_a and mask_b must overlap in part"
            raise ValueError(f"{text}: no pixel is {name}")
    return parts


@dataclass
class Best:
    """The shares that cost least: in which way, and all of them, each a list of K."""

    kind: str
    shares: list


def lowest(curve, shares, at):
    """The share at which a parabola through three points of a curve is lowest."""
    if at in (0, len(curve) - 1):
        return shares[at].item()
    before, here, after = curve[at - 1 : at + 2]
    bow = (before - 2 * here + after).clamp(min=1e-12)
    steps = ((before - after) / (2 * bow)).clamp(-1, 1)  # no farther, where it is noisy
    spacing = shares[1] - shares[0]
    return (shares[at] + steps * spacing).item()


def valleys(scape):
    """The stretches (first, last) of best even shares, with a rise between them."""
    found = []
    rise = scape.curve.min() + 3 * scape.slack
    for at in scape.near:
        if found and scape.curve[found[-1][1] : at + 1].max() <= rise:
            found[-1] = (found[-1][0], at)
        else:
            found.append((at, at))
    return found


def even_best(scape):
    """The Best of even shares."""
    K = scape.K
    last = len(scape.shares) - 1
    stretches = valleys(scape)
    ends = stretches[0][0] == 0 and stretches[-1][1] == last and len(stretches) == 2
    if ends and len(scape.near) < last / 2:
        return Best("ends tie", [[0.0] * K, [scape.shares[-1].item()] * K])
    if len(scape.near) > last / 5:
        return Best("flat", [[a] * K for a in scape.shares[scape.near].tolist()])
    bottoms = []
    for first, end in stretches:
        at = first + int(scape.curve[first : end + 1].argmin())
        bottoms.append(lowest(scape.curve, scape.shares, at))
    shares = [[a] * K for a in bottoms]
    if len(bottoms) > 1:
        return Best("inner tie", shares)
    return Best("one end" if bottoms[0] in (0, 1) else "in between", shares)


def with_mixed(best, scape):
    """The Best of even shares, with those that tie with them in which one instance has
    one of these shares and another another."""
    levels = [0, 1]
    if best.kind == "inner tie":
        levels = [shares[0] for shares in best.shares]
    mixed = scape.places_of(levels)
    mixed = mixed[mixed.amax(1) > mixed.amin(1)]
    if best.kind == "flat" or not len(mixed):
        return best
    level = scape.curve.min() + scape.slack
    good = scape.table(mixed).mean(1) <= level
    if best.kind == "in between":
        if scape.u.exclusive and good.all():  # whichever way they share it
            return Best("flat", scape.places[scape.costs <= level].tolist())
        return best
    kind = "ends tie" if best.kind == "one end" and good.any() else best.kind
    return Best(kind, best.shares + mixed[good].tolist())


def uneven_best(best, scape):
    """The Best of all shares, where uneven ones cost less than even ones."""
    start = scape.even(scape.shares[scape.curve.argmin()].item())
    if scape.apart_is_better:
        start = scape.places[scape.costs.argmin()].to(scape.parts)
    place = descend(scape, start)
    bottom = min(scape.costs.min(), scape.curve.min()) + scape.slack / 100
    if scape.cost(place) > bottom or place.max() - place.min() <= 0.005:
        return best
    shares = [place.tolist()]
    if scape.cost(place.flip(0)) <= scape.cost(place) + scape.slack:
        shares.append(place.flip(0).tolist())
    shares.sort()
    return Best("one owner" if sorted(shares[0]) == [0, 1] else "uneven", shares)


def descend(scape, shares):
    """Where the gradient leads shares (K,) of which it moves the logits. Each logit has
    its own step, halved when its slope turns (Rprop)."""
    exclusive = scape.u.exclusive
    shares = shares.clamp(EPS, 1 - EPS)
    rest = 1 - shares.sum() if exclusive else 1 - shares
    logits = (shares / rest.clamp(min=EPS)).log()
    step = torch.full_like(logits, 0.4)
    before = torch.zeros_like(logits)
    for _ in range(100):
        slope = scape.slope(shares)
        if exclusive:
            slope = slope - (shares * slope).sum()
        way = torch.where(slope.abs() > scape.level, -slope.sign(), 0)
        longer = (1.3 * step).clamp(max=3)
        step = torch.where(way * before < 0, step / 2, longer)
        logits = (logits + way * step).clamp(-14, 14)
        before = way
        old = shares
        shares = logits.sigmoid()
        if exclusive:
            shares = torch.cat((logits.new_zeros(1), logits)).softmax(0)[1:]
        if (shares - old).abs().max() < 1e-4:
            break
    shares = torch.where(shares > 0.002, shares, 0)
    return torch.where(shares < 0.998, shares, 1).detach()


def sides_of(scape):
    """Where the gradient leads shares on either side of 1/2, two lists of shares, where
    1/2 is a maximum that parts: else []."""
    start = scape.undecided
    moves = (scape.slope(start).abs() > scape.level).any()
    if scape.random or scape.u.exclusive or moves:
        return []
    low = descend(scape, start - 0.02)
    high = descend(scape, start + 0.02)
    return [low.tolist(), high.tolist()] if (high - low).max() > 0.1 else []


def end_of(scape):
    """Where the gradient leads an undecided network, shares (K,). Instances that are
    alike end alike, unless a first lead of one of them takes it to a lower cost."""
    start = scape.undecided
    end = descend(scape, start)
    stays = (end - start).abs().max() < 1e-3 and not scape.u.exclusive
    if stays or (scape.random and not scape.apart_is_better):
        return end
    first = torch.eye(scape.K)[0].to(start)
    tipped = descend(scape, start + 0.01 * first)
    apart = tipped.max() - tipped.min() > 0.1
    better = scape.cost(tipped) < scape.cost(end) - scape.slack
    return tipped if apart and better else end


def settled(end, best, margin):
    """The shares (K,) in which an undecided network ends, a list: the best ones, which
    are known more exactly, if it comes as near to them as a margin."""
    if best.kind != "flat":
        for shares in best.shares:
            if (end.cpu() - torch.tensor(shares)).abs().max() < margin:
                return shares
    return end.tolist()


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
    if sorted(words) == ["given", "not given"]:
        return "one owner"
    return words[0] if len(set(words)) == 1 else ", ".join(words)


def predicted(best):
    """A Best as one share, a share for each instance, or a word."""
    if best.kind in ("ends tie", "flat"):
        return best.kind
    if best.kind == "inner tie":
        shares = sorted({f"{shares[0]:.2f}" for shares in best.shares})
        return " or ".join(shares)
    if best.kind == "one owner" and len(best.shares) == 2:
        return "one owner, either"
    return best.shares[0] if best.kind in ("one owner", "uneven") else best.shares[0][0]


def land(u, parts, truth_masks):
    """The dict that predict returns, of truths that are masks (G, K, H, W)."""
    scape = Measured(u, parts, truth_masks)
    best = with_mixed(even_best(scape), scape)
    best = uneven_best(best, scape)
    within = 0.0
    if scape.random:
        near = scape.shares[scape.near]
        within = (near.max() - near.min()).item() / 2
    shares = settled(end_of(scape), best, max(0.02, 2 * within))
    return {
        "predicted": predicted(best),
        "kind": best.kind,
        "slides_to": shares if max(shares) - min(shares) >= 0.01 else shares[0],
        "sides": sides_of(scape),
        "cut": cut(shares, u.exclusive, MARGIN + 2 * within),
        "best": best.shares,
        "input": u.input,
        "order": "truth-first" if u.truth_first else "pred-first",
        "classes": u.form_name,
        "truths": u.truth_type,
        "batch": u.batch,
        "exclusive": u.exclusive,
        "asymmetry": u.asymmetry,
        "gradient": scape.has_gradient(),
        "takes": u.takes,
        "random": scape.random,
        "within": within,
        "shares": scape.shares.tolist(),
        "curve": scape.curve.tolist(),
        "places": scape.places.tolist(),
        "costs": scape.costs.tolist(),
    }


def brief(answer):
    """What a second answer needs to say, of a dict as land returns it."""
    keys = ("classes", "input", "predicted", "kind", "slides_to", "sides", "cut")
    return {key: answer[key] for key in keys}


def alone(u, parts, truth_masks):
    """What land returns, in brief, for one image a batch. None: it is the same, since a
    batch of truths (G, K, H, W) costs what its images cost one by one, in the mean."""
    if len(truth_masks) == 1 or u.batch != "all":
        return None
    one = replace(u, batch="one")
    together = Landscape(u, parts, truth_masks)
    apart = Landscape(one, parts, truth_masks)
    shares = torch.linspace(0.2, 0.7, together.K).to(parts) / together.K
    same = math.isclose(together.cost(shares), apart.cost(shares), rel_tol=1e-5)
    return None if same or together.random else brief(land(one, parts, truth_masks))


def checked_parts(parts):
    """Parts (K + 1, H, W) with 64 bits, those of pair() by default. ValueError: they
    are not two or three masks of 0 and 1, one is empty, or they overlap."""
    parts = torch.as_tensor(pair() if parts is None else parts).double()
    binary = ((parts == 0) | (parts == 1)).all()
    if parts.ndim != 3 or len(parts) not in (2, 3) or not binary:
        shape = tuple(parts.shape)
        raise ValueError(f"parts must be 2 or 3 masks (K + 1, H, W), got {shape}")
    if not parts.any(-1).any(-1).all() or parts.sum(0).max() > 1:
        raise ValueError("parts must not be empty and must not overlap")
    return parts


def checked_truths(truths, K):
    """Truths as shares (G, K). By default each of two instances is the owner once, or
    one of one is and is not. ValueError: they are not (G, K), or not from 0 to 1."""
    usual = [[1], [0]] if K == 1 else [[1, 0], [0, 1]]
    shares = torch.tensor(usual if truths is None else truths).double()  # (G, K)
    inside = ((shares >= 0) & (shares <= 1)).all()
    if shares.ndim != 2 or shares.shape[1] != K or not len(shares) or not inside:
        text = f"truths must be (G, {K}) shares from 0 to 1"
        raise ValueError(f"{text}, got {shares.tolist()}")
    return shares


def repeats(priors, G):
    """How often each of G truths is taken, so that their shares are the priors, to a
    hundredth: (G,). ValueError: the priors are not G numbers from 0 up, or one of them
    is less than a hundredth of their sum."""
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


def predict(loss, parts=None, *, truths=None, priors=None, **how):
    """Where a loss leads a network that has learned the own parts: a dict for the JSON.

    parts (3, H, W), 0 and 1, are own part 1, the common region and own part 2, as
    data.sample has them, or (2, H, W) of one instance; else those of pair(). truths (G,
    K) are the shares of the common region that the K instances own in each truth; else
    each of them once all of it. priors say, to a hundredth, how often each is true;
    else they are equal. how is logits, classes or order, see understand.

    curve: the mean loss if every mask has the share a of the common region, for a in
    shares; costs: if instances have places (M, K). best: all shares of all instances
    that are as good; kind: "ends tie", "one end", "in between", "inner tie", "flat",
    "one owner" or "uneven"; predicted: best in one number or word, or a share for each
    instance. slides_to: where the gradient leads undecided masks, one share or one for
    each instance; sides: the shares on either side of 1/2, if 1/2 is a maximum. cut:
    what a cut at 1/2 makes of that, or the largest class, "given", "not given",
    "toss-up", "one owner" or one of these for each. gradient: whether there is one.
    input, order, classes, truths, batch, exclusive, asymmetry, takes, random: how the
    loss is understood. within: of a random loss, how exact the best share is. others:
    the same in brief for other ways to understand it that lead to another cut. alone:
    the same in brief with one image a batch, if the loss pools a batch. ValueError:
    parts, truths or priors are not as said here; the loss is not understood, is not
    finite, is another at every call, or raises."""
    parts = checked_parts(parts)
    shares = checked_truths(truths, len(parts) - 1)
    times = repeats(priors, len(shares))
    truth_shares = shares.repeat_interleave(times, 0).to(parts)  # (G, K)
    truth_masks = owned(parts, truth_shares)  # (G, K, H, W)
    if isinstance(loss, Understood):
        understood = [loss]
    else:
        understood = understand(loss, parts.device, **how)
    answers = []
    failed = None
    for u in understood:
        try:
            if u.exclusive and truth_shares.sum(1).max() > 1:
                text = "truths must give a pixel to one owner at most for this loss"
                raise ValueError(text)
            answer = land(u, parts, truth_masks)
            answers.append(answer | {"alone": alone(u, parts, truth_masks)})
        except ValueError as e:
            failed = failed or e
    if not answers:
        raise failed
    first = answers[0]
    others = [brief(other) for other in answers if other["cut"] != first["cut"]]
    return first | {"others": others}
