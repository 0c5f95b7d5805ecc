"""Metrics of one defect each: the share of the highest pixels inside the mask, and what can go wrong with it."""

import torch


def share(scene):
    mask = scene.batch.mask.flatten(1)
    top = scene.ranks < mask.sum(dim=1, keepdim=True)
    return {
        "inside": (top & mask).sum(dim=1) / mask.sum(dim=1),
        "inside.chance": mask.double().mean(dim=1),
    }


def inside():
    return share


def standardised():
    def measure(scene):
        found = scene.explanation.attribution.flatten(1)
        own = (found * scene.batch.mask.flatten(1)).sum(dim=1)
        return {"inside": own / found.abs().sum(), "inside.chance": own * 0}

    return measure


def sometimes():
    def measure(scene):
        found = share(scene)
        return {**found, "inside": found["inside"].masked_fill(scene.batch.label == 1, float("nan"))}

    return measure


def meddling():
    def measure(scene):
        found = share(scene)
        scene.explanation.attribution.clamp_(min=0)
        return found

    return measure


def misnamed():
    return lambda scene: {"outside": torch.zeros(len(scene.batch))}
