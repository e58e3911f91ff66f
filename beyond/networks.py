"""Every network that is not the paper's, and what a variant is: a network, the rule by which its
decisions count (beyond/rules.py), and what differs from the Settings of exp_recurrent.py.

All networks map images (n, 1, H, W) to logits, (n, D decisions, C, H, W) or, where one pass makes
them all, (n, D C, H, W): C = out_channels is 2, a mask an instance, unless said. width and depth
are those of UNet; the weights are drawn from generator.
"""

import copy
from dataclasses import dataclass, field, replace

import torch
from torch import nn

import data
from recurrent_unet import ConvGRU
from unet import UNet, block, initialise


class ToldPass(nn.Module):
    """One U-Net run for several passes with the same weights, told only which pass it is, by a
    constant channel, 0, 1 and so on: nothing of the decisions before."""

    def __init__(self, width=16, depth=2, steps=2, out_channels=2, generator=None):
        super().__init__()
        self.steps = steps
        self.unet = initialise(UNet(2, out_channels, width, depth), generator)

    def forward(self, images):
        passes = [torch.full_like(images, k) for k in range(self.steps)]
        return torch.stack([self.unet(torch.cat((images, k), 1)) for k in passes], 1)


class TwoUNets(nn.Module):
    """Two U-Nets of their own weights. With feed_mask the second sees the first one's mask or,
    where shown (n, C, H, W) is given, that in its place."""

    def __init__(self, width=16, depth=2, feed_mask=False, out_channels=2, generator=None):
        super().__init__()
        self.sees_mask = feed_mask
        seen = 1 + out_channels if feed_mask else 1
        self.first = initialise(UNet(1, out_channels, width, depth), generator)
        self.second = initialise(UNet(seen, out_channels, width, depth), generator)

    def forward(self, images, shown=None):
        first, x = self.first(images), images
        if self.sees_mask:  # not detached, as in the recurrent network
            mask = torch.sigmoid(first) if shown is None else shown
            x = torch.cat((images, mask), 1)  # (n, 1 + C, H, W)
        return torch.stack((first, self.second(x)), 1)


class Twins(nn.Module):
    """Two U-Nets that start alike: the second one's weights are the first one's plus Gaussian
    noise, noise times the spread of each tensor. shared "encoder" leaves them one way down and
    two ways up, "trunk" two heads on one U-Net."""

    def __init__(
        self, width=16, depth=2, shared="nothing", noise=1e-3, out_channels=2, generator=None
    ):
        super().__init__()
        self.first = initialise(UNet(1, out_channels, width, depth), generator)
        self.second = copy.deepcopy(self.first)
        with torch.no_grad():
            for p in self.second.parameters():
                p += noise * p.std(correction=0) * torch.randn(p.shape, generator=generator)
        parts = {"nothing": (), "encoder": ("down",), "trunk": ("down", "up", "merge")}
        for part in parts[shared]:
            setattr(self.second, part, getattr(self.first, part))

    def forward(self, images):
        return torch.stack((self.first(images), self.second(images)), 1)


class ConvDRU(nn.Module):
    """The dual-gated unit (DRU) of Wang et al. 2019, mapping features x and state h, both
    (n, C, H, W), to the new state; without reset it is their single-gated unit (SRU). The gates
    look at the features alone, which know the last decision from its mask. In place of each
    product Wang et al. put the innermost layers of the U-Net; here it is one 3x3 convolution."""

    def __init__(self, channels, reset=True):
        super().__init__()
        self.update = nn.Conv2d(channels, channels, 3, padding=1)
        self.reset = nn.Conv2d(channels, channels, 3, padding=1) if reset else None
        self.candidate = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x, h):
        update = torch.sigmoid(self.update(x))  # (n, C, H, W), 1 keeps the state
        if self.reset is not None:
            x = torch.sigmoid(self.reset(x)) * x
        return update * h + (1 - update) * torch.tanh(self.candidate(x))


class BlockDRU(nn.Module):
    """The unit that Wang et al. (2019) released: every product of their DRU is a block of two
    convolutions. What leaves a block is at least 0, so the update gate is at least 1/2."""

    def __init__(self, channels):
        super().__init__()
        self.update = block(channels, channels)
        self.reset = block(channels, channels)
        self.candidate = block(channels, channels)

    def forward(self, x, h):
        update = torch.sigmoid(self.update(x))  # (n, C, H, W)
        new = torch.tanh(self.candidate(torch.sigmoid(self.reset(x)) * x))
        return (1 - update) * h + update * new


UNITS = {"gru": ConvGRU, "dru": ConvDRU, "sru": lambda channels: ConvDRU(channels, reset=False)}


class Recurrent(nn.Module):
    """The recurrent U-Net of recurrent_unet.py with switches for what a pass hands on.

    feed_mask=False hides the last mask from the next pass, feed_state=False leaves out the unit,
    which is "gru", "dru" or "sru". What is handed on for a mask is its "own", the same
    "detached" from the gradient, "half" (1/2 everywhere), "noise" (even in [0, 1]) or "pass" (its
    number, 1 and so on; the first pass sees 1/2); for a state its "own", "detached" or "zero".
    Where shown (n, C, H, W) is given, the later passes see that in place of the last mask.
    """

    handed_first = 0.5, 0.0  # what the first pass gets: a mask and a state, everywhere

    def __init__(
        self,
        width=16,
        depth=2,
        steps=2,
        out_channels=2,
        feed_mask=True,
        feed_state=True,
        unit="gru",
        mask="own",
        state="own",
        generator=None,
    ):
        super().__init__()
        self.steps, self.out_channels, self.feed_mask = steps, out_channels, feed_mask
        self.mask, self.state, self.generator = mask, state, generator
        self.sees_mask = feed_mask and mask in ("own", "detached")
        seen = 1 + out_channels if feed_mask else 1
        self.unet = UNet(seen, out_channels, width, depth)
        self.unit = UNITS[unit](width * 2**depth) if feed_state else None
        initialise(self, generator)

    def forward(self, images, shown=None):
        first_mask, first_state = self.handed_first
        mask = torch.full_like(images, first_mask).expand(-1, self.out_channels, -1, -1)
        state, logits = None, []
        for k in range(1, self.steps + 1):
            told = torch.cat((images, mask), 1) if self.feed_mask else images
            x, skips = self.unet.encode(told)
            if self.unit is not None:
                state = torch.full_like(x, first_state) if state is None else state
                x = state = self.unit(x, state)
            logits.append(self.unet.decode(x, skips))
            mask = self.hand_on(logits[-1], k) if shown is None else shown
            if self.state == "zero":
                state = None
            elif self.state == "detached":
                state = state.detach()
        return torch.stack(logits, 1)  # (n, steps, C, H, W)

    def hand_on(self, logits, k):
        """What pass k hands on to the next for its mask, (n, C, H, W)."""
        mask = torch.sigmoid(logits)
        if self.mask == "detached":
            return mask.detach()
        if self.mask == "noise":
            return torch.rand(mask.shape, generator=self.generator).to(mask)
        if self.mask in ("half", "pass"):
            return torch.full_like(mask, 0.5 if self.mask == "half" else k)
        return mask


class Released(Recurrent):
    """The recurrent U-Net with what the code of Wang et al. (2019) does otherwise.

    As their dru in ptsemseg/models/dru.py: the products of the DRU are blocks; the next pass sees
    logits; mask and state are 1 before the first pass; the blocks on the way up are bare, without
    normalisation. Each can be left out. Their width of 8 and four poolings are settings. Not
    copied: their unit stands in place of the innermost block, and their normalisation has 8
    groups. Their release has GRU networks too (gruunet, recmid).
    """

    def __init__(self, blocks=True, logits=True, ones=True, bare=True, generator=None, **options):
        super().__init__(generator=generator, **options)
        if blocks:
            self.unit = initialise(BlockDRU(self.unet.down[-1][0].out_channels), generator)
        if bare:
            for merge in self.unet.merge:
                merge[1] = merge[4] = nn.Identity()
                for conv in merge[0], merge[3]:  # which then have a bias of their own
                    conv.bias = nn.Parameter(torch.zeros(conv.out_channels))
        self.logits, self.sees_mask = logits, not logits
        if ones:
            self.handed_first = 1.0, 1.0
        elif logits:
            self.handed_first = 0.0, 0.0

    def hand_on(self, logits, k):
        return logits if self.logits else torch.sigmoid(logits)


class Started(nn.Module):
    """A U-Net whose masks are start on average before it is trained, by the bias of its last
    layer, as RetinaNet's are 0.01 (Lin et al. 2017). Those of UNet are 1/2."""

    def __init__(self, start, width=16, depth=2, out_channels=2, generator=None):
        super().__init__()
        self.unet = initialise(UNet(1, out_channels, width, depth), generator)
        nn.init.constant_(self.unet.head.bias, torch.logit(torch.tensor(start)).item())

    def forward(self, images):
        return self.unet(images)


class Led(nn.Module):
    """Two heads on one U-Net, of which one starts ahead: lead is by how much decision 1 scores more
    than decision 2 before the training, on 32 images of the paper's world that are always the
    same. The bias of the other head is lowered until it is so."""

    def __init__(self, lead, width=16, depth=2, out_channels=4, generator=None):
        super().__init__()
        self.unet = initialise(UNet(1, out_channels, width, depth), generator)
        behind = slice(2, 4) if lead > 0 else slice(0, 2)
        images, parts = data.sample(32, torch.Generator().manual_seed(0))
        with torch.no_grad():
            logits = self.unet(images)  # (n, 4, H, W)
            low, high = -12.0, 12.0  # the more it is lowered, the larger the lead
            for _ in range(60):
                middle = (low + high) / 2
                shifted = logits.clone()
                shifted[:, behind] += middle
                masks = torch.sigmoid(shifted).unflatten(1, (2, 2))
                scores = data.score(masks, data.groupings(parts)).mean((0, 2))  # (2,)
                ahead = (scores[0] - scores[1]) * (1 if lead > 0 else -1)
                if ahead > abs(lead):
                    low = middle
                else:
                    high = middle
            self.unet.head.bias[behind] += middle

    def forward(self, images):
        return self.unet(images)


class Monai(nn.Module):
    """A U-Net of MONAI, by the name of its class. Its weights are its own draw, seeded. OSError:
    the library is not there."""

    def __init__(self, name, out_channels=2, width=16, depth=2, generator=None):
        super().__init__()
        try:
            from monai.networks import nets
        except ImportError:
            raise OSError(f"MONAI's {name} needs MONAI: pip install monai") from None
        widths = [width * 2**level for level in range(5)]
        options = {"channels": widths[: depth + 1], "strides": [2] * depth}
        if name == "BasicUNet":  # of four poolings, always
            options = {"features": (*widths, width)}
        elif name == "UNet":
            options["num_res_units"] = 2
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            self.net = getattr(nets, name)(2, 1, out_channels, **options)

    def forward(self, images):
        return self.net(images)


def unet(width, depth, out_channels, generator):
    """The U-Net of unet.py."""
    return initialise(UNet(1, out_channels, width, depth), generator)


# By the names that rows have for them.
NETWORKS = {
    "UNet": unet,
    "RecurrentUNet": Recurrent,
    "Handing": Recurrent,
    "Released": Released,
    "ToldPass": ToldPass,
    "TwoUNets": TwoUNets,
    "Twins": Twins,
    "Started": Started,
    "Led": Led,
    "Monai": Monai,
}


@dataclass(frozen=True)
class Variant:
    """What a variant is called and what it changes; the rest is as in the Settings."""

    title: str
    net: str  # one of NETWORKS
    options: dict = field(default_factory=dict)  # of the network
    rule: str = "soft"  # see beyond/rules.py
    coin: bool = False  # one truth drawn for each image in place of both, weighted
    other: dict = field(default_factory=dict)  # than in Settings, {"beta": 10.0, "shape.size": 64}
    momentum: float = 0.0  # of SGD; without one it is Adam
    shown: float = 0.0  # the share of images that show who owns the common region

    def settings(self, s):
        """The Settings, changed as it says."""
        own = {name: value for name, value in self.other.items() if "." not in name}
        sizes = {n.removeprefix("shape."): value for n, value in self.other.items() if "." in n}
        return replace(s, shape=replace(s.shape, **sizes), **own)

    def build(self, s, generator):
        """Its network, with its weights drawn from a generator."""
        s = self.settings(s)
        options = {"width": s.width, "depth": s.depth, "generator": generator}
        if self.net in ("RecurrentUNet", "Handing", "Released", "ToldPass"):
            options["steps"] = s.steps
        return NETWORKS[self.net](**options | self.options)

    def begin(self, s, seed, device):
        """A new network on a device and the generator of its training images, as in the
        experiments."""
        net = self.build(s, torch.Generator().manual_seed(seed))
        net = net.to(device, memory_format=torch.channels_last)  # faster on a CPU
        return net, torch.Generator(device).manual_seed(seed + data.SEEDS)

    def optimiser(self, net, s):
        """What trains its network."""
        s = self.settings(s)
        if self.momentum:
            return torch.optim.SGD(net.parameters(), s.learning_rate, momentum=self.momentum)
        return torch.optim.Adam(net.parameters(), s.learning_rate, fused=True)

    def change(self):
        """What it changes, as a dict for its rows."""
        return {name: value for name, value in vars(self).items() if name != "title"}


def decide(net, images, *shown, instances=2):
    """The decisions of any variant's network: probabilities (n, D, instances, H, W)."""
    masks = torch.sigmoid(net(images, *shown))  # (n, D, C, H, W) or (n, D C, H, W)
    return masks if masks.ndim == 5 else masks.unflatten(1, (-1, instances))
