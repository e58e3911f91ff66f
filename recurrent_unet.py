"""The recurrent U-Net of Wang et al. 2019: the U-Net of unet.py run for several passes,
one decision a pass. A pass hands its mask on to the next, concatenated to the image,
and the state of a convolutional GRU (Ballas et al. 2016) where the innermost features
are. So the second decision depends on the image and on the first one, D2 = f'(x, D1),
while the weights are the same in every pass.
"""

from functools import partial

import torch
from torch import nn

from unet import UNet, describe, initialise


class ConvGRU(nn.Module):
    """A gated recurrent unit with 3x3 convolutions for its matrix products. Maps
    features x and state h, both (n, C, H, W), to the new state (n, C, H, W)."""

    def __init__(self, channels):
        super().__init__()
        self.gates = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)
        self.candidate = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x, h):
        gates = torch.sigmoid(self.gates(torch.cat((x, h), 1)))  # (n, 2C, H, W)
        update, reset = gates.chunk(2, 1)  # each (n, C, H, W)
        new = torch.tanh(self.candidate(torch.cat((x, reset * h), 1)))
        return (1 - update) * h + update * new


class ConvDRU(nn.Module):
    """The dual-gated unit (DRU) of Wang et al. 2019, mapping as ConvGRU does.

    Without reset it is their single-gated unit (SRU). The gates look at the features
    alone, which know the last decision from its mask, and the reset gate acts on the
    features, not on the state. In place of each product Wang et al. put the innermost
    layers of the U-Net; assumed here is one 3x3 convolution, as in ConvGRU, so that the
    units alone differ.
    """

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


UNITS = {"gru": ConvGRU, "dru": ConvDRU, "sru": partial(ConvDRU, reset=False)}


class RecurrentUNet(nn.Module):
    """Maps images (n, in_channels, H, W) to logits (n, steps, out_channels, H, W).

    steps is the number of passes. feed_mask=False hides the last mask from the next
    pass, feed_state=False leaves out the unit; with both off every pass makes the same
    decision. Before the first pass the state is zero and the mask undecided, 1/2
    everywhere, so that the first two passes start nearly alike. unit is "gru",
    "dru" or "sru". The other arguments, and what raises ValueError, are those of UNet.
    Called with shown, masks (n, out_channels, H, W), the later passes see these in place
    of the last decision: to ask what a decision makes of the one before it.
    """

    handed_first = 0.5, 0.0  # what the first pass gets: a mask and a state, everywhere

    def __init__(
        self,
        in_channels=1,
        out_channels=2,
        width=16,
        depth=2,
        steps=2,
        feed_mask=True,
        feed_state=True,
        unit="gru",
        generator=None,
    ):
        super().__init__()
        sizes = {"in_channels": in_channels, "out_channels": out_channels}
        for name, value in (sizes | {"steps": steps}).items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if unit not in UNITS:
            raise ValueError(f"unit must be one of {', '.join(UNITS)}, got {unit!r}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.steps, self.feed_mask = steps, feed_mask
        seen = in_channels + out_channels * feed_mask
        self.unet = UNet(seen, out_channels, width, depth, generator)
        self.unit = UNITS[unit](width * 2**depth) if feed_state else None
        if feed_state:
            initialise(self.unit, generator)

    def forward(self, images, shown=None):
        if images.ndim != 4 or images.shape[1] != self.in_channels:
            allowed = f"(n, {self.in_channels}, H, W)"
            raise ValueError(f"images must be {allowed}, got {tuple(images.shape)}")
        n, _, H, W = images.shape
        mask = images.new_full((n, self.out_channels, H, W), self.handed_first[0])
        state, logits = None, []
        for _ in range(self.steps):
            told = (images, mask) if self.feed_mask else (images,)
            x, skips = self.unet.encode(torch.cat(told, 1))  # of (n, in + out, H, W)
            if self.unit is not None:
                if state is None:
                    state = torch.full_like(x, self.handed_first[1])
                x = state = self.unit(x, state)
            logits.append(self.unet.decode(x, skips))
            mask, state = self.hand_on(logits[-1], state, len(logits))
            mask = mask if shown is None else shown
        return torch.stack(logits, 1)  # (n, steps, out, H, W)

    def hand_on(self, logits, state, k):
        """What pass k, from 1, hands on to the next in place of mask and state. To be
        replaced where that is to be something else. Not detached: a decision's gradient
        reaches those before it."""
        return torch.sigmoid(logits), state


if __name__ == "__main__":
    describe(RecurrentUNet(), torch.zeros(2, 1, 32, 32))
