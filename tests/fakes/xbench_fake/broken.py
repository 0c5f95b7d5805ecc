"""Explainers that fail, each in its own way."""

import os
import time

import torch

from xbench.errors import Unsupported, XbenchError


def raises(model):
    def explain(batch):
        raise ValueError("no idea")

    return explain


def nan(model):
    return lambda batch: batch.image[:, 0] / 0 * 0


def shape(model):
    return lambda batch: batch.image


def integers(model):
    return lambda batch: batch.image[:, 0].long()


def touches(model):
    def explain(batch):
        for value in [*model.module.parameters(), *model.module.buffers()]:
            value.data += 1
        return batch.image[:, 0]

    return explain


def hooks(model):
    def explain(batch):
        model.module.register_forward_hook(lambda *_: None)
        return batch.image[:, 0]

    return explain


def exits(model):
    return lambda batch: os._exit(7)


def hangs(model):
    def explain(batch):
        while True:
            time.sleep(0.1)

    return explain


def refuses(model):
    raise Unsupported("only works on Sundays")


def no_factory_here(model):
    return torch.zeros


def complains(model):
    def explain(batch):
        raise XbenchError("layer 'x' is not there")

    return explain


def forks(model):
    """Hangs, and leaves a child that holds the worker's pipes."""

    def explain(batch):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        time.sleep(60)

    return explain
