"""The recurrent U-Net of Wang et al. 2019: the U-Net of unet.py run for several steps,
one decision a step.

What a step passes on to the next: its mask, concatenated to the image, and the state of
a convolutional GRU (Ballas et al. 2016) where the innermost features are. So the second
decision depends on the image and on the first one, D2 = f'(x, D1), while the weights
are the same at every step.
"""

import torch
from torch import nn

from unet import UNet, initialise


class ConvGRU(nn.Module):
    """A gated recurrent unit with 3x3 convolutions for its matrix products.

    Maps features x and state h, both (n, C, H, W), to the new state (n, C, H, W).
    """

    def __init__(self, channels):
        super().__init__()
        self.gates = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)
        self.candidate = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x, h):
        gates = torch.sigmoid(self.gates(torch.cat((x, h), 1)))  # (n, 2C, H, W)
        update, reset = gates.chunk(2, 1)  # each (n, C, H, W)
        new = torch.tanh(self.candidate(torch.cat((x, reset * h), 1)))
        return (1 - update) * h + update * new


class RecurrentUNet(nn.Module):
    """Maps images (n, in_channels, H, W) to the logits of all steps.

    Those are (n, steps, out_channels, H, W), a decision a step.

    feed_mask=False hides the last mask from the next step, feed_state=False leaves out
    the GRU; with both off every step makes the same decision. Before the first step the
    state is zero and the mask undecided, 1/2 everywhere, so that the first two steps
    start from much the same decision and neither is left behind. The other arguments,
    and what raises ValueError, are those of UNet.
    """

    def __init__(
        self,
        in_channels=1,
        out_channels=2,
        width=16,
        depth=2,
        steps=2,
        feed_mask=True,
        feed_state=True,
        generator=None,
    ):
        super().__init__()
        sizes = {"in_channels": in_channels, "out_channels": out_channels}
        for name, value in (sizes | {"steps": steps}).items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.steps, self.feed_mask = steps, feed_mask
        seen = in_channels + out_channels * feed_mask
        self.unet = UNet(seen, out_channels, width, depth, generator)
        self.gru = ConvGRU(width * 2**depth) if feed_state else None
        if feed_state:
            initialise(self.gru, generator)

    def forward(self, images):
        if images.ndim != 4 or images.shape[1] != self.in_channels:
            allowed = f"(n, {self.in_channels}, H, W)"
            raise ValueError(f"images must be {allowed}, got {tuple(images.shape)}")
        n, _, H, W = images.shape
        mask = images.new_full((n, self.out_channels, H, W), 0.5)
        state, logits = None, []
        for _ in range(self.steps):
            # (n, in + out, H, W)
            x = torch.cat((images, mask), 1) if self.feed_mask else images
            x, skips = self.unet.encode(x)
            if self.gru is not None:
                x = state = self.gru(x, torch.zeros_like(x) if state is None else state)
            logits.append(self.unet.decode(x, skips))
            # Not detached: the second decision's gradient reaches the first through it.
            mask = torch.sigmoid(logits[-1])
        return torch.stack(logits, 1)  # (n, steps, out, H, W)
