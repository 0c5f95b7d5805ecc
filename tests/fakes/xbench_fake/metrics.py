"""Metrics that fail, each in its own way."""

import torch


def forgetful():
    return lambda scene: {"forgetful": torch.zeros(len(scene.batch))}


def endless():
    return lambda scene: {"endless": torch.full((len(scene.batch),), float("inf"))}


def unbounded():
    return lambda scene: {"unbounded": torch.full((len(scene.batch),), 1.5)}


def meddling():
    def measure(scene):
        scene.batch.image.zero_()
        return {"meddling": torch.zeros(len(scene.batch))}

    return measure
