"""What explainers cost beside the bare forward and backward passes they need, same model, same run."""

from timing import classifier, forwards, gradients, partial_gradients, ratio

from xbench.components import import_attr, resolve
from xbench.plugins import discover


def rows(case, device, rounds):
    """Yield the rows of one case."""
    model, batch = classifier(case, device)
    registry = discover()
    layer = model.default_layer(batch.image)
    image, target = batch.image, batch.target
    once = gradients(model, image, target)
    partial = partial_gradients(model, image, target, layer)
    small = image.shape[2] < 100

    def made(text):
        mistakes = []
        component = resolve("explainer", text, registry, mistakes)
        assert not mistakes, mistakes
        return import_attr(component.spec.factory)(model, **component.params)

    def against(text, bare, bound, note, often=rounds, own=None):
        explain = made(text)
        return ratio(text, case, lambda: explain(batch.clone()), bare, device, often, bound=bound, note=note, own=own)

    def passes(text):
        explain, before = made(text), model.passes.forwards
        explain(batch.clone())
        return (model.passes.forwards - before) // len(batch)

    few = min(3, rounds)
    yield against("gradients/gradient", once, 1.15, "a forward and a backward pass")
    fifty = gradients(model, image, target, 50)
    yield against("gradients/smoothgrad[n=50]", fifty, 1.08, "50 forward and backward passes", few)
    yield against("captum/integrated_gradients", fifty, 1.15, "50 forward and backward passes", few)
    for name in ("cam/gradcam", "cam/gradcam_pp", "cam/layercam"):
        yield against(name, partial, 1.4, f"a forward pass, and a backward one to {layer}")
    for name in ("relevance/deep_taylor", "relevance/lrp"):
        yield against(name, once, 3.0, "a forward and a backward pass")
    n = 400 if small else 100
    window = "window=4,stride=2" if small else "window=56,stride=28"
    for text, bound in (
        (f"perturbation/rise[n={n}]", 1.08),
        (f"perturbation/occlusion[{window}]", 1.08),
        (f"perturbation/lime[n={n}]", 1.5),
        (f"perturbation/kernel_shap[n={n}]", 1.5),
    ):
        count = passes(text)
        bare, own = forwards(model, image, count), forwards(model, image, count, own=True)
        yield against(text, bare, bound, f"{count} forward passes", few, own)
