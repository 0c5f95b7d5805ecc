"""A third-party plugin in which every component has one defect, named after it, and is otherwise sound."""

from xbench.hookspecs import hookimpl
from xbench.specs import DatasetSpec, ExplainerSpec, MetricSpec, ModelSpec, ScoreSpec

EXPLAINERS = (
    "leaks_a_hook",
    "changes_weights",
    "leaves_train_mode",
    "leaves_gradients",
    "forgets_a_hook_after_an_exception",
    "couples_the_batch",
    "ignores_the_target",
    "draws_unseeded",
    "divides_by_the_range",
    "upsamples_to_a_square",
    "gives_the_layer_size",
    "makes_cpu_tensors",
    "changes_the_image",
    "keeps_every_map",
    "keeps_every_array",
    "squeezes_the_batch",
    "wants_three_channels",
    "keeps_what_is_overwritten",
    "asks_the_module",
    "explains_again_in_company",
)


@hookimpl
def xbench_explainers():
    made = [
        ExplainerSpec(name=name, version=1, factory=f"xbench_defects.explainers:{name}", citation="Nobody, never")
        for name in EXPLAINERS
    ]
    sound = {"version": 1, "factory": "xbench_defects.explainers:sound", "citation": "Gauss 1809"}
    cited = {"citation": "Nobody, never"}
    noisy = {**sound, "factory": "xbench_defects.explainers:noisy"}
    return [
        *made,
        ExplainerSpec(name="sound", **sound, cost=COST),
        ExplainerSpec(name="uncited", version=1, factory=sound["factory"]),
        ExplainerSpec(name="falsely_positive", **sound, polarity="positive"),
        ExplainerSpec(name="falsely_stochastic", **sound, stochastic=True),
        ExplainerSpec(name="falsely_still", **noisy),
        ExplainerSpec(name="nowhere", version=1, factory="xbench_defects.explainers:nobody", citation="Nobody, never"),
        ExplainerSpec(
            name="costs_twice", version=1, factory="xbench_defects.explainers:costs_twice", **cited, cost=COST
        ),
        ExplainerSpec(name="known", **sound, stochastic=True, known_failures={STOCHASTIC: "a joke"}),
        ExplainerSpec(name="wrongly_known", **sound, known_failures={STOCHASTIC: "a joke"}),
        ExplainerSpec(name="unknown_known", **sound, known_failures={"bears a blank imag": "a slip"}),
    ]


STOCHASTIC = "another seed, another map only if stochastic"
COST = {"forwards": 1, "backwards": 1}


@hookimpl
def xbench_metrics():
    def one(name, factory, **score):
        return MetricSpec(
            name=f"defective_{name}",
            version=1,
            factory=f"xbench_defects.metrics:{factory}",
            scores=(ScoreSpec(name="inside", **{"higher_is_better": True, "chance": "per_sample", **score}),),
            family="defects",
            needs=("attribution", "mask"),
        )

    return [
        one("not", "inside"),
        one("direction", "inside", higher_is_better=False),
        one("chance", "inside", chance=0.5),
        one("bounds", "inside", bounds=(0.0, 0.5)),
        one("company", "standardised", bounds=(-100.0, 100.0), chance=None),
        one("value", "sometimes"),
        one("scene", "meddling"),
        one("score", "misnamed"),
    ]


@hookimpl
def xbench_datasets():
    names = {
        "overlapping_splits": {},
        "shared_groups": {},
        "shifted_mask": {},
        "in_bytes": {},
        "ids_twice": {},
        "sorted_loads": {},
        "new_every_time": {},
        "undeclared_mask": {"has": ("mask",)},
    }
    sound = {"version": 1, "has": ("mask", "counterfactual")}
    return [
        DatasetSpec(name="sound", factory="xbench_defects.data:Sound", **sound),
        *(
            DatasetSpec(name=name, factory=f"xbench_defects.data:{name}", **{**sound, **other})
            for name, other in names.items()
        ),
    ]


@hookimpl
def xbench_models():
    def one(name, **other):
        return ModelSpec(
            name=name, version=1, factory=f"xbench_defects.models:{name}", datasets=("defects/sound",), **other
        )

    return [
        one("sound"),
        one("normalised_outside"),
        one("batch_statistics"),
        one("always_dropping"),
        one("rounds", has=("gradients",)),
        one("too_many_logits"),
        one("own_draws"),
    ]
