"""The mean of a loss over truths, as a function of the shares of the common region.

The own parts are taken as learned. Each mask then has one number, its share of the
common region. A loss that is random is the mean of DRAWS, always the same: costs that
differ by less than three standard errors are equal."""

import math

import torch

from beyond.forms import EPS, owned, seeded
from beyond.trial import blame

DRAWS = 64  # of a loss that is random


class Landscape:
    """The mean loss over truths (G, K, H, W) as a function of the shares (K,) of the
    common region. ValueError: the loss raises, or is not finite."""

    def __init__(self, u, parts, truths):
        self.u = u
        self.parts = parts
        self.truths = truths.to(u.dtype)  # (G, K, H, W)
        self.K = truths.shape[1]
        mean = self.truths.mean(0, keepdim=True)  # (1, K, H, W)
        self.background = 1 - mean.sum(1, keepdim=True)  # (1, 1, H, W)
        self.undecided = self.even(1 / (self.K + 1) if u.exclusive else 1 / 2)
        self.seeds = range(2)
        first, second = self.table(self.undecided[None])[0].tolist()
        self.random = not math.isclose(first, second, rel_tol=1e-6, abs_tol=1e-12)
        self.seeds = range(DRAWS if self.random else 1)

    def even(self, share):
        """The same share for every instance, (K,)."""
        return self.parts.new_full((self.K,), share)

    def places_of(self, levels):
        """All shares (M, K) of these levels, of an exclusive loss up to a sum of 1."""
        levels = torch.as_tensor(levels).double()
        places = torch.cartesian_prod(*[levels] * self.K).reshape(-1, self.K)
        return places[places.sum(1) < 1 + EPS] if self.u.exclusive else places

    def masks(self, shares):
        """Masks (1, K, H, W) with shares (K,) of the common region."""
        return owned(self.parts, shares[None])

    def draws(self, masks, least=EPS):
        """The costs of masks (1, K, H, W) by all seeds, (draws,)."""
        G = len(self.truths)
        masks = masks.to(self.u.dtype).expand(G, -1, -1, -1)  # (G, K, H, W)
        background = self.background.expand(G, -1, -1, -1)  # (G, 1, H, W)
        values = []
        for seed in self.seeds:
            try:
                with seeded(seed, masks):
                    value = self.u.of_masks(masks, self.truths, background, least)
            except (Exception, SystemExit) as e:  # noqa: BLE001 - whatever it may raise
                raise ValueError(blame(e)) from None
            if not value.isfinite():
                raise ValueError(f"the loss must be finite, got {value.item()}")
            values.append(value)
        return torch.stack(values)

    def table(self, places):
        """The costs of places (M, K): (M, draws)."""
        places = places.to(self.parts)
        with torch.no_grad():
            return torch.stack([self.draws(self.masks(x)) for x in places]).cpu()

    def cost(self, shares):
        """The mean loss of shares (K,), a float."""
        return self.table(shares[None]).mean().item()

    def slope(self, shares, least=EPS):
        """The gradient of the mean loss at shares (K,), 0 where there is none."""
        return gradient(lambda x: self.draws(self.masks(x), least).mean(), shares)

    def has_gradient(self):
        """Whether any pixel of undecided masks has a gradient."""
        masks = torch.full_like(self.parts[None, 1:], self.undecided[0].item())
        return bool(gradient(lambda x: self.draws(x).mean(), masks).any())


class Measured(Landscape):
    """A Landscape with the curve of its costs for even shares, the costs of places (M,
    K), and what counts as equal among them."""

    def __init__(self, u, parts, truths):
        super().__init__(u, parts, truths)
        most = (1 - EPS) / self.K if u.exclusive else 1
        self.shares = torch.linspace(0, most, 101).double()
        draws = self.table(self.shares[:, None].expand(-1, self.K))  # (101, draws)
        self.curve = draws.mean(1)
        self.places = self.places_of(torch.linspace(0, 1, 11))
        self.costs = self.table(self.places).mean(1)
        # How much of a slope is due to own parts that EPS keeps from being right.
        twice = self.slope(self.undecided, 2 * EPS)
        unlearned = (twice - self.slope(self.undecided)).abs()  # (K,)
        # Costs are equal but for a thousandth of what there is to lose, inside of the
        # walls that some losses have at the ends; for rounding; and for chance.
        size = (self.curve.quantile(0.75) - self.curve.min()).item()
        rounding = 1e-9 if u.dtype == torch.float64 else 1e-6
        exact = rounding * self.curve.abs().max().item()
        chance = doubts_of(draws - draws[self.curve.argmin()]).median().item()
        self.slack = max(1e-3 * size, exact, 3 * unlearned.max().item(), chance)
        # From just below the middle of the curve to just above it.
        width = (self.shares[55] - self.shares[45]).item()
        doubt = doubts_of(draws[55:56] - draws[45:46]).item() / width
        # A slope below the level (K,) is none.
        level = 1e-5 * self.slope(self.even(0.1)).abs()
        level = level.maximum(3 * unlearned).clamp(min=max(exact, self.K * doubt))
        self.level = level / self.K

    @property
    def near(self):
        """Which even shares are as good as the best, as numbers of shares."""
        return (self.curve <= self.curve.min() + self.slack).nonzero()[:, 0].tolist()

    @property
    def apart_is_better(self):
        """Whether shares that differ between instances cost less than even ones."""
        return bool(self.costs.min() < self.curve.min() - self.slack)


def gradient(cost, x):
    """The gradient of a cost at x, 0 where there is none. ValueError: it raises."""
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


def doubts_of(draws):
    """Three standard errors of the means of draws (M, N), 0 of a single draw."""
    return 3 * draws.std(1, correction=0) / draws.shape[1] ** 0.5
