"""A linear classifier: right half minus left half; and the same learnt."""

import time

import torch
from torch import nn

from xbench.training import train_classifier


class Halves(nn.Module):
    def __init__(self, shape):
        super().__init__()
        _, height, width = shape
        weight = torch.ones(height, width)
        weight[:, : width // 2] = -1
        self.register_buffer("weight", weight * 4 / height)

    def forward(self, image):
        score = (image.mean(dim=1) * self.weight).flatten(1).sum(dim=1)
        return torch.stack([-score, score], dim=1)


def linear(shape, classes):
    return Halves(shape)


def learnt(shape, classes, *, epochs, pause):
    channels, height, width = shape
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(4 * height * width, len(classes)),
    )


def fit_learnt(context):
    report = context.report

    def slowly(done, total, text):
        report(done, total, text)
        time.sleep(context.params["pause"])

    context.report = slowly
    return train_classifier(context, epochs=context.params["epochs"], batch=16, lr=0.01)


def again(shape, classes, *, of):
    return of


def fit_again(context):
    return context.wrapped_fit(context)
