"""A compact U-Net (Ronneberger et al. 2015) in the variant of Wang et al. 2019: padded
3x3 convolutions with group normalisation, transposed convolutions on the way up,
channels doubled at every level. exp_single.py and exp_dual.py train it as it is, and
recurrent_unet.py runs the same one several times.
"""

import torch
from torch import nn


def block(in_channels, out_channels):
    """Two 3x3 convolutions, each with group normalisation (4 groups) and ReLU, from
    (n, in_channels, H, W) to (n, out_channels, H, W)."""
    layers = []
    for channels in (in_channels, out_channels):
        # No bias, since the normalisation has one of its own.
        layers.append(nn.Conv2d(channels, out_channels, 3, padding=1, bias=False))
        layers += [nn.GroupNorm(4, out_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def initialise(net, generator):
    """Draw all weights anew from a generator: PyTorch's uniform ones, biases zero."""
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_uniform_(module.weight, a=5**0.5, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class UNet(nn.Module):
    """Maps images (n, in_channels, H, W) to logits (n, out_channels, H, W).

    width is the number of channels of the first level, a multiple of 4 (the groups),
    depth the number of poolings; H and W must be multiples of 2^depth. generator (on
    the CPU) draws the weights; without it they come from PyTorch's global one.
    ValueError: an argument out of range, or an image that does not fit.
    """

    def __init__(
        self, in_channels=1, out_channels=2, width=16, depth=2, generator=None
    ):
        super().__init__()
        sizes = {"in_channels": in_channels, "out_channels": out_channels}
        for name, value in (sizes | {"depth": depth}).items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if width < 4 or width % 4:
            raise ValueError(f"width must be a positive multiple of 4, got {width}")
        if width * 2**depth > 2**12:  # channels of the innermost level
            raise ValueError(
                f"width * 2^depth must be at most 4096, got {width, depth}"
            )
        self.in_channels, self.depth = in_channels, depth
        widths = [width * 2**level for level in range(depth + 1)]
        pairs = zip([in_channels] + widths, widths)
        self.down = nn.ModuleList(block(i, o) for i, o in pairs)
        self.pool = nn.MaxPool2d(2)
        ups = [nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[:-1]]
        self.up = nn.ModuleList(ups)
        self.merge = nn.ModuleList(block(2 * w, w) for w in widths[:-1])
        self.head = nn.Conv2d(width, out_channels, 1)
        initialise(self, generator)

    def encode(self, x):
        """The way down: images (n, in_channels, H, W) -> (innermost features, skips). The
        features are (n, width 2^depth, H / 2^depth, W / 2^depth); skips is a list of
        what each level had before its pooling. ValueError: see UNet."""
        shape, multiple = tuple(x.shape), 2**self.depth
        if len(shape) != 4 or shape[1] != self.in_channels:
            allowed = f"(n, {self.in_channels}, H, W)"
            raise ValueError(f"x must have shape {allowed}, got {shape}")
        if shape[2] % multiple or shape[3] % multiple:
            raise ValueError(
                f"H and W of x must be multiples of {multiple}, got {shape}"
            )
        skips = []
        for down in self.down[:-1]:
            skips.append(down(x))
            x = self.pool(skips[-1])
        return self.down[-1](x), skips

    def decode(self, x, skips):
        """The way up: what encode returns -> logits (n, out_channels, H, W)."""
        for level in reversed(range(self.depth)):
            x = self.merge[level](torch.cat((skips[level], self.up[level](x)), 1))
        return self.head(x)

    def forward(self, x):
        return self.decode(*self.encode(x))


def describe(net, images):
    """Print a network's weights, part by part, and the shapes of one forward pass."""
    sizes = {k: sum(p.numel() for p in v.parameters()) for k, v in net.named_children()}
    parts = ", ".join(f"{name} {size:,}" for name, size in sizes.items() if size)
    print(f"{type(net).__name__}: {sum(sizes.values()):,} weights ({parts})")
    print(f"images {tuple(images.shape)} -> logits {tuple(net(images).shape)}")


if __name__ == "__main__":
    describe(UNet(), torch.zeros(2, 1, 32, 32))
