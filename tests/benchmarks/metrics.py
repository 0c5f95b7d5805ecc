"""What metrics cost beside the bare forward passes of the same model: curves, ROAD, random sets, localisation, complexity."""

from functools import partial

import torch
from timing import Row, classifier, clock, forwards, ratio
from torch.nn import functional as F

from xbench.metrics.complexity import complexity
from xbench.metrics.faithfulness import deletion, insertion, normalised_area, srg
from xbench.metrics.localisation import localisation_precision, pointing_game, relevance_mass
from xbench.metrics.retrieval import average_precision, iou, mask_auroc
from xbench.metrics.road import road
from xbench.metrics.sampling import faithfulness_correlation, infidelity
from xbench.metrics.tuned import iou_tuned
from xbench.scene import Backdrop, Scene
from xbench.tensors import Explanation

STEPS, SHARES, RUNS = 28, 9, 50


def rows(case, device, rounds):
    """Yield the rows of one case."""
    model, batch = classifier(case, device)
    size, small = batch.image.shape[2:], batch.image.shape[2] < 100
    mean = torch.full((batch.image.shape[1],), 0.5, device=device)
    noise = torch.rand(len(batch), *size, device=device)

    def scored(metrics, attribution=noise, backdrop=None):

        scene = Scene(backdrop or Backdrop(model, batch, mean), Explanation(attribution))
        return [metric(scene) for metric in metrics]

    def needed(work):
        before = model.passes.forwards
        work()
        return (model.passes.forwards - before) // len(batch)

    def against(name, work, bound, note):
        passes = needed(work)
        return ratio(
            name,
            case,
            work,
            forwards(model, batch.image, passes),
            device,
            rounds,
            bound=bound,
            note=f"{passes} passes; {note}",
            own=forwards(model, batch.image, passes, own=True),
        )

    once = forwards(model, batch.image), forwards(model, batch.image, own=True)
    yield ratio(
        "a pass of the harness", case, once[1], once[0], device, rounds, note="channels innermost", times=(5, 5)
    )

    curves = [
        deletion("mean", STEPS),
        insertion("mean", STEPS),
        srg("mean", STEPS),
        normalised_area("mean", STEPS, 0.05),
    ]
    yield against(
        "curves of one fill", lambda: scored(curves), 1.10, "deletion, insertion, SRG, LeRF, AOPC, normalised areas"
    )
    two = [deletion("mean", STEPS), insertion("blur", STEPS)]
    yield against("deletion and insertion", lambda: scored(two), 1.10, "mean and blur")
    yield from rough(case, device, rounds, model, batch, scored)
    sampled = [faithfulness_correlation(RUNS, 0.15, "mean", "prob"), infidelity(RUNS, 0.1, "prob")]
    yield against(
        "random sets and noise",
        lambda: scored(sampled),
        1.5,
        "correlation, infidelity; the first explainer, who pays",
    )

    kept = Backdrop(model, batch, mean)
    scored([road(SHARES, 0.01)], backdrop=kept)  # the clean prediction and the noise are every explainer's
    for kind, attribution in (("single pixels", noise), ("wide patches", smooth(noise)), ("a disc", disc(noise))):
        yield against(
            f"ROAD, {kind}", lambda a=attribution: scored([road(SHARES, 0.01)], a, kept), 1.5, f"{SHARES} shares"
        )

    bundle = [
        localisation_precision(),
        pointing_game(0.0),
        relevance_mass(),
        average_precision(),
        mask_auroc(),
        iou("otsu"),
        iou("half"),
        iou_tuned(),
        complexity(0.05),
    ]
    yield ratio(
        "localisation and complexity",
        case,
        lambda: scored(bundle, backdrop=kept),
        once[0],
        device,
        rounds,
        bound=0.3 if small else 0.15,
        note="of one pass; 11 scores of 9 metrics",
        times=(5, 5),
        own=once[1],
    )


def rough(case, device, rounds, model, batch, scored):
    """Yield the rows of a deletion curve in bfloat16: its cost and its speed."""
    count = STEPS - 1

    def bare():
        with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16):
            for _ in range(count):
                model.module(batch.image)

    work = partial(scored, [deletion("mean", STEPS, "bf16")])
    yield ratio(
        "deletion in bfloat16", case, work, bare, device, rounds, bound=1.11, note=f"{count} passes in bfloat16"
    )
    exact = partial(scored, [deletion("mean", STEPS)])
    yield ratio("bfloat16 against float32", case, work, exact, device, rounds, note="of the time of a deletion curve")
    speed = sorted(count * len(batch) / clock(work, device) for _ in range(rounds))
    demanded = 8_000 if "resnet50" in case else None
    middle = speed[len(speed) // 2]
    yield Row("perturbed images a second", case, middle, demanded, speed[0], speed[-1], note="bfloat16", at_least=True)


def smooth(noise):
    """Return maps as smooth as those of a class activation map."""
    coarse = torch.rand(len(noise), 1, 7, 7, device=noise.device)
    return F.interpolate(coarse, size=noise.shape[1:], mode="bicubic")[:, 0]


def disc(noise):
    """Return maps that fall off from the middle."""
    _, height, width = noise.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return -torch.hypot(y - height / 2, x - width / 2).expand(len(noise), -1, -1).to(noise.device)
