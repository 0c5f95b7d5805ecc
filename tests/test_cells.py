"""Keys and definitions put together from shared pieces are those of the plain form, to the byte."""

import fnmatch
import json

import pytest

from xbench.codehash import code_hash
from xbench.components import explainer_unmet, metric_unmet, score_facts
from xbench.config import make_config
from xbench.data import select
from xbench.fit_tasks import CONTENT_SCHEMA, ORACLE_SEED, open_dataset
from xbench.plan import MODEL_LEVEL_LIMIT, make_plan
from xbench.plugins import discover
from xbench.store import canonical, content_key

pytestmark = pytest.mark.usefixtures("fakes")


def plain_fit(config, dataset, component, seed, model=None, model_fit=None):
    test = dataset.index("test")
    return {
        "schema": CONTENT_SCHEMA,
        "component": {name: value for name, value in component.definition().items() if name != "checkpoint"},
        "data": {name: value for name, value in config.data.definition().items() if name != "params"},
        "training": code_hash("xbench.training:train_classifier"),
        "train": dataset.index("train").digest,
        "valid": dataset.index("valid").digest,
        "classes": list(test.classes),
        "shape": list(test.shape),
        "seed": seed,
        "uses": [{**model.definition(), "fit": model_fit}] if model else [],
    }


def plain_cell(config, dataset, fits, model, explainer, seed, selection):
    """Return a cell's definition the slow way; what it rests on goes to ``fits``. None: there is nothing to do."""
    test = dataset.index("test")
    data_spec, model_spec = config.data.spec, model.network.spec

    def fitted(component, seed, *uses):
        definition = plain_fit(config, dataset, component, seed, *uses)
        fits[content_key(definition)] = definition
        return content_key(definition)

    refused = not any(fnmatch.fnmatchcase(data_spec.id, pattern) for pattern in model_spec.datasets)
    unsupported = f"{model_spec.id} is for {', '.join(model_spec.datasets)}, not for {data_spec.id}" if refused else ""
    gives = explainer.spec.gives if explainer else ()
    if explainer:
        unsupported = unsupported or explainer_unmet(explainer, model_spec, data_spec, len(test.classes))
    metrics, missing = [], {}
    for metric in config.metrics:
        if metric.spec.level != ("explainer" if explainer else "model"):
            continue
        reason = metric_unmet(metric.spec, model_spec, data_spec, gives, len(test.classes))
        if (source := metric.params.get("from")) and source not in test.classes:
            reason = f"the data set has no class {source!r}; it has {', '.join(test.classes)}"
        if reason:
            missing |= {name: reason for name, _ in metric.scores()}
        else:
            metrics.append(metric)
    if not metrics and not unsupported:
        if not explainer:
            return None
        unsupported = "no metric"
    model_fit = explainer_fit = oracle_fit = None
    if not unsupported:
        model_fit = fitted(model, seed) if model.spec.fit else None
        if explainer and explainer.spec.fit:
            explainer_fit = fitted(explainer, seed, model, model_fit)
        if any("oracle" in metric.spec.uses for metric in metrics):
            oracle_fit = fitted(model.trained, seed + ORACLE_SEED)
    named = explainer and {
        **explainer.definition(),
        "text": explainer.shown,
        "control": explainer.spec.control,
    }
    return {
        "schema": CONTENT_SCHEMA,
        "suite": config.suite,
        "suite_version": config.suite_version,
        "protocol": config.protocol,
        "data": {**config.data.definition(), "digest": test.digest, "text": config.data.text},
        "classes": list(test.classes),
        "samples": selection.digest,
        "n": len(selection.ids),
        "target": config.target if explainer else None,
        "model": {**model.definition(), "text": model.text},
        "model_fit": model_fit,
        "series": model.series_text,
        "explainer": named,
        "explainer_fit": explainer_fit,
        "oracle_fit": oracle_fit,
        "seed": seed,
        "metrics": [{**metric.definition(), "scores": score_facts(metric)} for metric in metrics],
        "missing": missing,
    }


def plain(config):
    """Return the definitions of a run's cells and fits by key, made one by one."""
    dataset = open_dataset(config.data, config.data_root)
    test = dataset.index("test")
    chosen, everything = select(test, config.limit), select(test, MODEL_LEVEL_LIMIT)
    cells, fits = {}, {}
    for model in config.models:
        for seed in config.seeds:
            for explainer in (None, *config.explainers):
                selection = chosen if explainer else everything
                if made := plain_cell(config, dataset, fits, model, explainer, seed, selection):
                    cells[content_key(made)] = made
    return cells, fits


@pytest.mark.parametrize(
    "settings",
    [
        "suite=blobs model=fake/linear,fake/learnt,fake/elsewhere,fake/again[of=fake/learnt] seed=0,1 "
        "explainer=controls/*,fake/weights,fake/trained,fake/halved[of=fake/weights],fake/halved[of=fake/trained] "
        "metric=*",
        "suite=blobs model=fake/learnt@*,fake/learnt[epochs=2]@1 explainer=fake/trained,fake/noise seed=3,4",
        "suite=chestxray",
        "suite=mnist seed=0,1",
        "suite=learning",
        "suite=anole",
        "suite=food target=pizza",
    ],
)
def test_keys_and_definitions_are_those_of_the_plain_form(settings):
    config = make_config([*settings.split(), "device=cpu"], discover())
    plan, (cells, fits) = make_plan(config), plain(config)
    assert [cell.key for cell in plan.cells] == list(cells)
    assert [fit.key for fit in plan.fits] == list(fits)
    for cell in plan.cells:
        assert cell.text.encode() == canonical(cells[cell.key])
        assert cell.definition == json.loads(canonical(cells[cell.key]))
        assert content_key(cell.definition) == cell.key
    for fit in plan.fits:
        assert fit.definition == fits[fit.key]


def test_cells_of_one_model_and_explainer_hold_their_common_text_once():
    plan = make_plan(make_config(["suite=blobs", "seed=0,1,2"], discover()))
    first, *others = [cell for cell in plan.cells if cell.explainer and cell.explainer.text == "fake/weights"]
    assert len(others) == 2
    assert all(mine is yours for other in others for mine, yours in zip(first.shared, other.shared, strict=True))
