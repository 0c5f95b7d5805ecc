"""Explainers of one defect each."""

import numpy as np
import torch
from torch.nn import functional as F

from xbench.seeds import uniform


def slope(model, batch):
    """The gradient of the target's logit times the image."""
    image = batch.image.detach().requires_grad_(True)
    gradient = torch.autograd.grad(model.score(image, batch.target).sum(), image)[0]
    return (gradient * batch.image).sum(dim=1)


def sound(model):
    return lambda batch: slope(model, batch)


def noisy(model):
    return lambda batch: slope(model, batch) * (1 + uniform(batch.keys, "defects", batch.image.shape[2:]))


def leaks_a_hook(model):
    def explain(batch):
        model.module[0].register_forward_hook(lambda *_: None)
        return slope(model, batch)

    return explain


def changes_weights(model):
    def explain(batch):
        found = slope(model, batch)
        model.module[0].weight.data.mul_(1.01)
        return found

    return explain


def leaves_train_mode(model):
    def explain(batch):
        found = slope(model, batch)
        model.module.train()
        return found

    return explain


def leaves_gradients(model):
    def explain(batch):
        model.module.requires_grad_(True)
        image = batch.image.detach().clone().requires_grad_(True)
        model.score(image, batch.target).sum().backward()
        model.module.requires_grad_(False)
        return (image.grad * batch.image).sum(dim=1)

    return explain


def forgets_a_hook_after_an_exception(model):
    def explain(batch):
        handle = model.module[0].register_forward_hook(lambda *_: None)
        found = slope(model, batch)
        handle.remove()
        return found

    return explain


def couples_the_batch(model):
    def explain(batch):
        found = slope(model, batch)
        return found / found.abs().max()

    return explain


def ignores_the_target(model):
    return lambda batch: slope(model, batch.with_target(torch.zeros_like(batch.target)))


def draws_unseeded(model):
    generator = np.random.default_rng(0)

    def explain(batch):
        found = slope(model, batch)
        return found * torch.as_tensor(generator.uniform(1, 2, found.shape)).to(found)

    return explain


def divides_by_the_range(model):
    def explain(batch):
        spread = batch.image.amax(dim=(1, 2, 3)) - batch.image.amin(dim=(1, 2, 3))
        return slope(model, batch) / spread[:, None, None]

    return explain


def upsamples_to_a_square(model):
    def explain(batch):
        small = F.avg_pool2d(slope(model, batch)[:, None], 2)
        side = batch.image.shape[2]
        return F.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)[:, 0]

    return explain


def gives_the_layer_size(model):
    return lambda batch: F.avg_pool2d(slope(model, batch)[:, None], 2)[:, 0]


def makes_cpu_tensors(model):
    def explain(batch):
        found = slope(model, batch)
        return found * torch.linspace(1, 2, found.shape[2])

    return explain


def changes_the_image(model):
    def explain(batch):
        found = slope(model, batch)
        batch.image.sub_(batch.image.mean())
        return found

    return explain


def keeps_every_map(model):
    kept = []

    def explain(batch):
        kept.append(slope(model, batch))
        return kept[-1]

    return explain


def keeps_every_array(model):
    kept = {}

    def explain(batch):
        found = slope(model, batch)
        kept[batch.sample_id] = found.cpu().numpy().copy()
        return found

    return explain


def squeezes_the_batch(model):
    return lambda batch: slope(model, batch).squeeze()


def wants_three_channels(model):
    def explain(batch):
        red, green, blue = batch.image.unbind(dim=1)
        return slope(model, batch) * (red + green + blue)

    return explain


def keeps_what_is_overwritten(model):
    def explain(batch):
        kept = []
        handle = model.module[0].register_forward_hook(lambda module, inputs, output: kept.append(output))
        try:
            found = slope(model, batch)
        finally:
            handle.remove()
        return found * (1 + F.interpolate(kept[0].detach().mean(dim=1, keepdim=True), size=found.shape[1:])[:, 0])

    return explain


def asks_the_module(model):
    def explain(batch):
        image = batch.image.detach().requires_grad_(True)
        score = model.module(image).gather(1, batch.target[:, None]).sum()
        return (torch.autograd.grad(score, image)[0] * batch.image).sum(dim=1)

    return explain


def costs_twice(model):
    return lambda batch: (slope(model, batch) + slope(model, batch)) / 2


def explains_again_in_company(model):
    def explain(batch):
        for _ in range(len(batch) - 1):
            slope(model, batch)
        return slope(model, batch)

    return explain
