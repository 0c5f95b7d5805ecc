"""Classifiers of one defect each; all know that the square is left or right."""

import numpy as np
import torch
from torch import nn

from xbench.testing.toys import Squares, linear


class Sides(nn.Module):
    """Sums up the sides of an image; a convolution that does nothing comes first."""

    def __init__(self, shape):
        super().__init__()
        self.conv = nn.Conv2d(shape[0], shape[0], 1, groups=shape[0], bias=False)
        nn.init.ones_(self.conv.weight)
        self.sides = linear(Squares(shape, 2)).module

    def forward(self, image):
        return self.sides(self.conv(image))


def sound(shape, classes):
    return Sides(shape)


class Outside(Sides):
    """Wants its images normalised: squares are above .9 then."""

    def forward(self, image):
        seen = nn.functional.leaky_relu(self.conv(image) - 0.9, 1e-3)
        return self.sides(seen) + torch.tensor([0.5, 0.0])


def normalised_outside(shape, classes):
    return Outside(shape)


class Statistics(Sides):
    def forward(self, image):
        return super().forward(image - image.mean(dim=0, keepdim=True) * 0.5)


def batch_statistics(shape, classes):
    return Statistics(shape)


class Dropping(Sides):
    def forward(self, image):
        return super().forward(nn.functional.dropout(image, 0.1, training=True))


def always_dropping(shape, classes):
    return Dropping(shape)


class Rounds(Sides):
    def forward(self, image):
        return super().forward((image * 255).round() / 255)


def rounds(shape, classes):
    return Rounds(shape)


class Many(Sides):
    def forward(self, image):
        found = super().forward(image)
        return torch.cat([found, found], dim=1)


def too_many_logits(shape, classes):
    return Many(shape)


def own_draws(shape, classes):
    made = Sides(shape)
    with torch.no_grad():
        made.conv.weight.mul_(torch.as_tensor(np.random.default_rng().uniform(0.9, 1.1, made.conv.weight.shape)))
    return made
