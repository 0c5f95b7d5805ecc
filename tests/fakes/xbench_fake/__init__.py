"""A third-party plugin for tests: a data set with known truth, a linear classifier, and explainers broken in every way."""

from pathlib import Path

from xbench.hookspecs import hookimpl
from xbench.specs import DatasetSpec, ExplainerSpec, MetricSpec, ModelSpec, ScoreSpec

BROKEN = (
    "raises",
    "nan",
    "shape",
    "integers",
    "touches",
    "hooks",
    "exits",
    "hangs",
    "refuses",
    "no_factory",
    "complains",
    "forks",
)
NASTY = (
    "freezes",
    "vanishes",
    "slow",
    "prints",
    "closes",
    "closes_all",
    "complains_at_length",
    "greedy",
    "insatiable",
    "comes_back",
    "breaks_the_gpu",
)


@hookimpl
def xbench_explainers():
    good = [
        ExplainerSpec(name="weights", version=1, factory="xbench_fake.explainers:weights", citation="Gauss 1809"),
        ExplainerSpec(name="noise", version=1, factory="xbench_fake.explainers:noise", stochastic=True),
        ExplainerSpec(name="nowhere", version=1, factory="xbench_fake.explainers:nowhere"),
        ExplainerSpec(
            name="torchs_own",
            version=1,
            factory="xbench_fake.explainers:torchs_own",
            stochastic=True,
            citation="Poisson 1837",
        ),
        ExplainerSpec(
            name="background", version=1, factory="xbench_fake.explainers:background", polarity="non_contributing"
        ),
        ExplainerSpec(name="half", version=1, factory="xbench_fake.explainers:half"),
        ExplainerSpec(
            name="halved", version=1, factory="xbench_fake.explainers:halved", wraps=True, params={"of": None}
        ),
        ExplainerSpec(
            name="trained",
            version=1,
            factory="xbench_fake.explainers:trained",
            fit="xbench_fake.explainers:fit_trained",
        ),
        ExplainerSpec(
            name="unfit", version=1, factory="xbench_fake.explainers:trained", fit="xbench_fake.explainers:fit_fails"
        ),
    ]
    broken = [ExplainerSpec(name=name, version=1, factory=f"xbench_fake.broken:{name}") for name in BROKEN]
    broken += [ExplainerSpec(name=name, version=1, factory=f"xbench_fake.nasty:{name}") for name in NASTY]
    return good + broken


@hookimpl
def xbench_models():
    return [
        ModelSpec(name="linear", version=1, factory="xbench_fake.models:linear", datasets=("fake/*",)),
        ModelSpec(
            name="learnt",
            version=1,
            factory="xbench_fake.models:learnt",
            fit="xbench_fake.models:fit_learnt",
            params={"epochs": 3, "pause": 0.0},
            datasets=("fake/*",),
            checkpoints=True,
        ),
        ModelSpec(
            name="again",
            version=1,
            factory="xbench_fake.models:again",
            fit="xbench_fake.models:fit_again",
            params={"of": None},
            wraps=True,
        ),
        ModelSpec(name="elsewhere", version=1, factory="xbench_fake.models:linear", datasets=("other/*",)),
    ]


@hookimpl
def xbench_datasets():
    params = {"test": 150, "train": 64, "size": 8, "seed": 0}
    return [
        DatasetSpec(
            name="blobs", version=1, factory="xbench_fake.data:blobs", params=params, has=("mask", "counterfactual")
        )
    ]


@hookimpl
def xbench_metrics():
    return [
        MetricSpec(
            name=name,
            version=1,
            factory=f"xbench_fake.metrics:{name}",
            scores=(ScoreSpec(name=name, higher_is_better=True, chance=chance),),
            family="fake",
        )
        for name, chance in [("forgetful", "per_sample"), ("endless", None), ("unbounded", None), ("meddling", None)]
    ]


@hookimpl
def xbench_suites():
    return [Path(__file__).parent / "blobs.yaml"]
