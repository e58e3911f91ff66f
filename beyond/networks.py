"""The networks that are not the paper's, and what a variant is.

All networks map images (n, 1, H, W) to logits, (n, D decisions, C, H, W) or, where one
pass makes them all, (n, D C, H, W). C = out_channels is 2, a mask an instance, unless
said. width and depth are those of UNet. The weights are drawn from generator.
"""

import copy
from dataclasses import dataclass, field, replace

import torch
from torch import nn

import data
from recurrent_unet import ConvGRU
from unet import UNet, initialise


class ToldPass(nn.Module):
    """One U-Net that is run for several passes with the same weights. It is told only
    which pass it is, by a constant channel (0, 1 and so on), and sees nothing of the
    decisions before."""

    def __init__(self, width=16, depth=2, passes=2, out_channels=2, generator=None):
        super().__init__()
        self.passes = passes
        self.unet = initialise(UNet(2, out_channels, width, depth), generator)

    def forward(self, images):
        logits = []
        for k in range(self.passes):
            told = torch.full_like(images, k)
            logits.append(self.unet(torch.cat((images, told), 1)))
        return torch.stack(logits, 1)  # (n, passes, C, H, W)


class TwoUNets(nn.Module):
    """Two U-Nets of their own weights. With feed_mask the second one sees the mask of the
    first."""

    def __init__(
        self, width=16, depth=2, feed_mask=False, out_channels=2, generator=None
    ):
        super().__init__()
        self.feed_mask = feed_mask
        seen = 1 + out_channels if feed_mask else 1
        self.first = initialise(UNet(1, out_channels, width, depth), generator)
        self.second = initialise(UNet(seen, out_channels, width, depth), generator)

    def forward(self, images):
        first = self.first(images)
        told = images
        if self.feed_mask:  # not detached, as in the recurrent network
            told = torch.cat((images, torch.sigmoid(first)), 1)  # (n, 1 + C, H, W)
        return torch.stack((first, self.second(told)), 1)


class Twins(nn.Module):
    """Two U-Nets that start alike. The weights of the second are those of the first plus
    Gaussian noise, which is noise times the spread of each tensor. Shared "encoder"
    leaves one way down and two ways up, "trunk" two heads on one U-Net."""

    def __init__(
        self,
        width=16,
        depth=2,
        shared="nothing",
        noise=1e-3,
        out_channels=2,
        generator=None,
    ):
        super().__init__()
        self.first = initialise(UNet(1, out_channels, width, depth), generator)
        self.second = copy.deepcopy(self.first)
        with torch.no_grad():
            for weights in self.second.parameters():
                spread = weights.std(correction=0)
                weights += (
                    noise * spread * torch.randn(weights.shape, generator=generator)
                )
        if shared in ("encoder", "trunk"):
            self.second.down = self.first.down
        if shared == "trunk":
            self.second.up = self.first.up
            self.second.merge = self.first.merge

    def forward(self, images):
        return torch.stack((self.first(images), self.second(images)), 1)


class Recurrent(nn.Module):
    """The recurrent U-Net of recurrent_unet.py with switches for what a pass hands on.

    feed_mask=False hides the last mask from the next pass. feed_state=False leaves out
    the unit (a GRU) that holds the state. What is handed on for a mask is its "own", the
    same "detached" from the gradient, "half" (1/2 everywhere), "noise" (uniform from 0 to
    1) or "pass" (its number, 1 and so on; the first pass sees 1/2). For a state it is its
    "own", the same "detached", or "zero", which leaves the unit without memory.
    """

    def __init__(
        self,
        width=16,
        depth=2,
        passes=2,
        out_channels=2,
        feed_mask=True,
        feed_state=True,
        mask="own",
        state="own",
        generator=None,
    ):
        super().__init__()
        self.passes = passes
        self.out_channels = out_channels
        self.feed_mask = feed_mask
        self.mask = mask
        self.state = state
        self.generator = generator  # of the noise that is handed on
        seen = 1 + out_channels if feed_mask else 1
        self.unet = UNet(seen, out_channels, width, depth)
        self.unit = ConvGRU(width * 2**depth) if feed_state else None
        initialise(self, generator)

    def forward(self, images):
        mask = torch.full_like(images, 0.5).expand(-1, self.out_channels, -1, -1)
        state = None
        logits = []
        for k in range(1, self.passes + 1):
            told = torch.cat((images, mask), 1) if self.feed_mask else images
            x, skips = self.unet.encode(told)
            if self.unit is not None:
                if state is None or self.state == "zero":
                    state = torch.zeros_like(x)
                elif self.state == "detached":
                    state = state.detach()
                state = self.unit(x, state)
                x = state
            logits.append(self.unet.decode(x, skips))  # (n, C, H, W)
            mask = self.hand_on(logits[-1], k)
        return torch.stack(logits, 1)  # (n, passes, C, H, W)

    def hand_on(self, logits, k):
        """Return what pass k hands on to the next for its mask, (n, C, H, W)."""
        mask = torch.sigmoid(logits)
        if self.mask == "detached":
            return mask.detach()
        if self.mask == "half":
            return torch.full_like(mask, 0.5)
        if self.mask == "noise":
            return torch.rand(mask.shape, generator=self.generator).to(mask)
        if self.mask == "pass":
            return torch.full_like(mask, k)
        return mask


class Led(nn.Module):
    """Two heads on one U-Net, of which one starts ahead. lead is by how much decision 1
    scores more than decision 2 before the training, on 32 images of the paper's world
    that are always the same. The bias of the other head is lowered until it is so."""

    def __init__(self, lead, width=16, depth=2, out_channels=4, generator=None):
        super().__init__()
        self.unet = initialise(UNet(1, out_channels, width, depth), generator)
        behind = slice(2, 4) if lead > 0 else slice(0, 2)  # the channels of that head
        images, parts = data.sample(32, torch.Generator().manual_seed(0))
        truths = data.groupings(parts)
        with torch.no_grad():
            logits = self.unet(images)  # (n, 4, H, W)
            low = -12.0  # the more it is lowered, the larger the lead
            high = 12.0
            for _ in range(60):
                middle = (low + high) / 2
                shifted = logits.clone()
                shifted[:, behind] += middle
                masks = torch.sigmoid(shifted).unflatten(1, (2, 2))
                one, other = data.score(masks, truths).mean((0, 2))
                ahead = one - other if lead > 0 else other - one
                if ahead > abs(lead):
                    low = middle
                else:
                    high = middle
            self.unet.head.bias[behind] += middle

    def forward(self, images):
        return self.unet(images)


class Monai(nn.Module):
    """The BasicUNet of MONAI, which always has four poolings, whatever the depth. MONAI
    draws the weights itself, from the seed of the generator. ValueError: MONAI is not
    installed."""

    def __init__(self, out_channels, width, depth, generator):
        super().__init__()
        try:
            from monai.networks.nets import BasicUNet
        except ImportError:
            raise ValueError("MONAI's BasicUNet needs: pip install monai") from None
        features = [width * 2**level for level in range(5)]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(generator.initial_seed())
            self.net = BasicUNet(2, 1, out_channels, features=(*features, width))

    def forward(self, images):
        return self.net(images)


def unet(width, depth, out_channels, generator):
    """Return the U-Net of unet.py."""
    return initialise(UNet(1, out_channels, width, depth), generator)


NETWORKS = {
    "UNet": unet,
    "ToldPass": ToldPass,
    "TwoUNets": TwoUNets,
    "Twins": Twins,
    "Recurrent": Recurrent,
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
    number: float | None = None  # of the rule, if it has one
    coin: bool = False  # one truth is drawn for each image in place of both, weighed
    other: dict = field(default_factory=dict)  # than in Settings, {"shape.size": 64}
    shown: float = 0.0  # the share of the images that show who owns the common region
    shuffled: bool = False  # the instances of each image's truths are in random order

    def settings(self, s):
        """Return the Settings, changed as it says."""
        own = {}
        sizes = {}
        for name, value in self.other.items():
            if name.startswith("shape."):
                sizes[name.removeprefix("shape.")] = value
            else:
                own[name] = value
        return replace(s, shape=replace(s.shape, **sizes), **own)

    def build(self, s, generator):
        """Return its network, with the weights drawn from a generator."""
        s = self.settings(s)
        options = {"width": s.width, "depth": s.depth, "generator": generator}
        if self.net in ("Recurrent", "ToldPass"):
            options["passes"] = s.passes
        options.update(self.options)
        return NETWORKS[self.net](**options)

    def begin(self, s, seed, device):
        """Return a new network on a device, and the generator of its training images,
        both as in the experiments."""
        net = self.build(s, data.stream(seed, "weights"))
        net = net.to(device, memory_format=torch.channels_last)  # faster on a CPU
        return net, data.stream(seed, "training", device)

    def optimiser(self, net, s):
        """Return what trains its network."""
        rate = self.settings(s).learning_rate
        return torch.optim.Adam(net.parameters(), rate, fused=True)

    def change(self):
        """Return what it changes, as a dict for its rows."""
        changes = dict(vars(self))
        del changes["title"]
        return changes


def decide(net, images, instances=2):
    """Return the decisions of any variant's network, which are probabilities: (n, D,
    instances, H, W)."""
    masks = torch.sigmoid(net(images))  # (n, D, C, H, W) or (n, D C, H, W)
    if masks.ndim == 4:
        masks = masks.unflatten(1, (-1, instances))
    return masks
