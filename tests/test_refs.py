"""What a user writes and what a component calls itself are one language; every mistake gets a line that helps."""

import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xbench.components import Component, expand, resolve
from xbench.plugins import Registry
from xbench.refs import Ref, convert_scalar, matching, parse_ref, split_outside_brackets, typed_params
from xbench.specs import ExplainerSpec, MetricSpec, ModelSpec, ScoreSpec

law = settings(max_examples=150, deadline=None, derandomize=True)
words = st.text(string.ascii_lowercase + string.digits + "_.-/", min_size=1, max_size=8)


def explainer(package, name, **other):
    return ExplainerSpec(name=name, version=1, factory="x:y", package=package, **other)


CAM = explainer("cam", "gradcam", params={"score": "logit", "layer": None}, choices={"score": ("logit", "prob")})
SMOOTH = explainer("gradients", "smoothgrad", params={"n": 50, "noise": 0.15, "square": False})
PLAIN = explainer("gradients", "gradient")
BLUR = explainer("controls", "blur", params={"of": None, "sigma": 2.0}, wraps=True)
NET = ModelSpec(name="s2", version=1, factory="x:y", package="mnist", params={"epochs": 3}, checkpoints=True)
SMALL = ModelSpec(name="small", version=1, factory="x:y", package="chest")
REGISTRY = Registry(
    explainers={spec.id: spec for spec in (CAM, SMOOTH, PLAIN, BLUR)},
    models={spec.id: spec for spec in (NET, SMALL)},
)


def resolved(kind, text):
    mistakes = []
    found = resolve(kind, text, REGISTRY, mistakes)
    assert mistakes == []
    return found


def wrong(kind, text):
    mistakes = []
    resolve(kind, text, REGISTRY, mistakes)
    return mistakes


# Reading.


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        (" a , b ,, ", ["a", "b"]),
        ("a[x=1,y=2],b", ["a[x=1,y=2]", "b"]),
        ("w[of=a[x=1,y=2],z=3],b[c=d]@4", ["w[of=a[x=1,y=2],z=3]", "b[c=d]@4"]),
        ("a[x=1,b", ["a[x=1,b"]),
    ],
)
def test_commas_split_outside_brackets_only(text, parts):
    assert split_outside_brackets(text) == parts


nested = st.recursive(words, lambda inner: st.builds("{}[x={},y=2]".format, words, inner), max_leaves=5)


@law
@given(st.lists(nested, max_size=5))
def test_splitting_undoes_joining(parts):
    assert split_outside_brackets(", ".join(parts)) == parts


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("cam/gradcam", Ref("cam/gradcam")),
        (" cam/* ", Ref("cam/*")),
        ("a/b[]", Ref("a/b")),
        ("a/b[x=1]", Ref("a/b", (("x", "1"),))),
        ("a/b[ x = 1 , y = two ]@12", Ref("a/b", (("x", "1"), ("y", "two")), 12)),
        ("a/b@3", Ref("a/b", (), 3)),
        ("w/w[of=a/b[x=1,y=2]@3,z=x=y]", Ref("w/w", (("of", "a/b[x=1,y=2]@3"), ("z", "x=y")))),
    ],
)
def test_a_written_component_is_read(text, ref):
    assert parse_ref(text) == ref


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "'' is not written like package/name[param=value]@checkpoint"),
        ("a/b@x", "'a/b@x' is not written like package/name[param=value]@checkpoint"),
        ("a/b[x=1", "'a/b[x=1' is not written like package/name[param=value]@checkpoint"),
        ("a/b]", "'a/b]' is not written like package/name[param=value]@checkpoint"),
        ("a b", "'a b' is not written like package/name[param=value]@checkpoint"),
        ("a/b@3[x=1]", "'a/b@3[x=1]' is not written like package/name[param=value]@checkpoint"),
        ("a/b[x]", "'x' in 'a/b[x]' is not written param=value"),
        ("a/b[x=1,y]", "'y' in 'a/b[x=1,y]' is not written param=value"),
        ("a/b[x=1,y=3,x=2]", "'a/b[x=1,y=3,x=2]' sets 'x' twice"),
    ],
)
def test_what_is_not_a_component_is_refused_with_its_text(text, complaint):
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}$"):
        parse_ref(text)


# Writing and reading again.

values = {"score": st.sampled_from(["logit", "prob"]), "layer": st.none() | st.integers(-9, 999) | words}


@law
@given(st.fixed_dictionaries({}, optional=values))
def test_text_of_a_component_reads_back_as_itself(given_params):
    written = ",".join(f"{name}={value}" for name, value in given_params.items())
    one = resolved("explainer", f"cam/gradcam[{written}]")
    again = resolved("explainer", one.text)
    assert again == one
    assert again.text == one.text
    changed = {name: value for name, value in one.params.items() if CAM.params[name] != value}
    assert dict(parse_ref(one.text).params) == {name: str(value) for name, value in changed.items()}


@law
@given(st.integers(-(10**6), 10**6), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
def test_numbers_survive_writing_exactly(n, noise, square):
    one = Component(SMOOTH, {"n": n, "noise": noise, "square": square})
    again = resolved("explainer", one.text).params
    assert again == one.params
    assert [type(value) for value in again.values()] == [int, float, bool]


def test_text_leaves_out_defaults_and_keeps_checkpoint_and_what_is_wrapped():
    assert resolved("explainer", "gradients/smoothgrad[n=50,noise=.15,square=no]").text == "gradients/smoothgrad"
    assert (
        resolved("explainer", "gradients/smoothgrad[square=YES,n=1_000]").text
        == "gradients/smoothgrad[n=1000,square=true]"
    )
    assert resolved("model", "mnist/s2[epochs=3]@12").text == "mnist/s2@12"
    assert resolved("model", "mnist/s2[epochs=5]@0").text == "mnist/s2[epochs=5]@0"
    inner = "controls/blur[of=gradients/smoothgrad[n=3,noise=0.5],sigma=1.5]"
    outer = resolved("explainer", f"controls/blur[sigma=3, of={inner}]")
    assert outer.text == f"controls/blur[of={inner},sigma=3.0]"
    assert resolved("explainer", outer.text) == outer
    assert outer.of.of.params == {"n": 3, "noise": 0.5, "square": False}
    assert (
        resolved("explainer", "controls/blur[of=gradients/gradient[]]").text == "controls/blur[of=gradients/gradient]"
    )


def test_scores_of_a_metric_carry_its_parameters():
    score = ScoreSpec(name="deletion", higher_is_better=False)
    spec = MetricSpec(
        name="deletion", version=1, factory="x:y", params={"fill": "mean", "steps": 28}, scores=(score,), family="f"
    )
    assert Component(spec, {"fill": "mean", "steps": 28}).scores() == [("deletion", score)]
    assert Component(spec, {"fill": "zero", "steps": 28}).scores() == [("deletion[fill=zero]", score)]


# Parameters.


@pytest.mark.parametrize(
    ("default", "raw", "value"),
    [
        (1, "7", 7),
        (1, 7, 7),
        (1, "1_000", 1000),
        (0.5, "1e-3", 0.001),
        (0.5, 2, 2.0),
        (True, "no", False),
        (False, "True", True),
        (False, True, True),
        ("text", "12", "12"),
        ("text", True, "true"),
        (None, "none", None),
        (None, None, None),
        (None, "3", 3),
        (None, "3.5", 3.5),
        (None, "word", "word"),
        (None, True, "true"),
    ],
)
def test_a_defaults_type_decides_what_a_value_becomes(default, raw, value):
    spec = explainer("a", "b", params={"x": default})
    params, mistakes = typed_params(spec, [("x", raw)])
    assert mistakes == []
    assert params == {"x": value}
    assert type(params["x"]) is type(value)


@pytest.mark.parametrize(
    ("spec", "name", "raw", "complaint"),
    [
        (CAM, "scor", "prob", "explainer 'cam/gradcam' has no parameter 'scor'; did you mean 'score'?"),
        (CAM, "zzz", "1", "explainer 'cam/gradcam' has no parameter 'zzz'; its parameters: score, layer"),
        (PLAIN, "n", "1", "explainer 'gradients/gradient' has no parameter 'n'; its parameters: none"),
        (CAM, "score", "probs", "cam/gradcam[score=probs] is not possible; did you mean 'prob'?"),
        (CAM, "score", "x", "cam/gradcam[score=x] is not possible; one of logit, prob"),
        (SMOOTH, "n", "3.5", "gradients/smoothgrad[n=3.5]: '3.5' is not a whole number (its default is 50)"),
        (SMOOTH, "n", True, "gradients/smoothgrad[n=True]: True is not a whole number (its default is 50)"),
        (SMOOTH, "noise", "much", "gradients/smoothgrad[noise=much]: 'much' is not a number (its default is 0.15)"),
        (SMOOTH, "noise", "nan", "gradients/smoothgrad[noise=nan]: 'nan' is not a finite number (its default is 0.15)"),
        (SMOOTH, "square", "2", "gradients/smoothgrad[square=2]: '2' is not true or false (its default is False)"),
        (CAM, "score", [1], "cam/gradcam[score=[1]]: [1] is not a single value"),
    ],
)
def test_a_wrong_parameter_is_named_with_its_value_and_what_would_be_right(spec, name, raw, complaint):
    params, mistakes = typed_params(spec, [(name, raw)])
    assert mistakes == [complaint]
    assert params.keys() == spec.params.keys()


def test_all_mistakes_come_at_once_and_defaults_are_never_changed():
    params, mistakes = typed_params(SMOOTH, [("n", "x"), ("noise", "y"), ("square", "yes"), ("m", "1")])
    assert len(mistakes) == 3
    assert params == {"n": 50, "noise": 0.15, "square": True}
    assert SMOOTH.params["square"] is False


@pytest.mark.parametrize("raw", ["inf", "-inf", "nan", float("inf")])
def test_no_number_is_infinite(raw):
    with pytest.raises(ValueError, match="is not a finite number"):
        convert_scalar(raw, float, "")


# Names and patterns.


def test_star_and_question_mark_are_the_only_wildcards():
    names = ["a/b", "a/bc", "a/b[x]", "ab/c"]
    assert matching("a/*", names) == ["a/b", "a/b[x]", "a/bc"]
    assert matching("a/b?", names) == ["a/bc"]
    assert matching("a/b[x]", names) == ["a/b[x]"]
    assert matching("a/[bc]", names) == []


def test_a_list_expands_in_order_each_component_once_and_no_wrapper_by_a_pattern():
    mistakes = []
    texts = [
        "gradients/gradient",
        " gradients/* ",
        "*/*",
        "controls/blur[of=cam/gradcam]",
        "gradients/smoothgrad[n=50]",
    ]
    found = expand("explainer", texts, REGISTRY, mistakes)
    assert mistakes == []
    assert [one.text for one in found] == [
        "gradients/gradient",
        "gradients/smoothgrad",
        "cam/gradcam",
        "controls/blur[of=cam/gradcam]",
    ]


def test_a_star_behind_the_at_is_every_epoch_that_is_trained():
    mistakes = []
    found = expand("model", ["mnist/s2[epochs=2]@*", "mnist/s2@3"], REGISTRY, mistakes)
    assert mistakes == []
    assert [one.text for one in found] == ["mnist/s2[epochs=2]@1", "mnist/s2[epochs=2]@2", "mnist/s2@3"]
    assert [one.series_text for one in found] == ["mnist/s2[epochs=2]@*"] * 2 + [None]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("mnist/s2@4", "mnist/s2@4: it is trained for 3 epochs; one from 1 to 3 is needed"),
        ("mnist/s2@0", "mnist/s2@0: it is trained for 3 epochs; one from 1 to 3 is needed"),
        ("chest/small@*", "chest/small@*: model 'chest/small' keeps no checkpoints; write it without @*"),
    ],
)
def test_an_epoch_that_will_not_be_there_is_told_before_anything_runs(text, line):
    mistakes = []
    expand("model", [text], REGISTRY, mistakes)
    assert mistakes[0] == line


def test_a_pattern_gives_its_parameters_to_everything_it_matches():
    mistakes = []
    found = expand("explainer", ["cam/*[score=prob]"], REGISTRY, mistakes)
    assert ([one.text for one in found], mistakes) == (["cam/gradcam[score=prob]"], [])


@pytest.mark.parametrize(
    ("kind", "text", "complaint"),
    [
        (
            "explainer",
            "cam/gradcm",
            "explainer 'cam/gradcm' is not installed; did you mean 'cam/gradcam'? (xbench list explainers)",
        ),
        ("model", "zzz", "model 'zzz' is not installed (xbench list models)"),
        ("model", "chest/small@3", "chest/small@3: model 'chest/small' keeps no checkpoints; write it without @3"),
        ("explainer", "controls/blur", "controls/blur: say what it wraps, for example controls/blur[of=cam/gradcam]"),
        ("explainer", "controls/blur[of=cam/gradcm]", "'cam/gradcm' is not installed; did you mean 'cam/gradcam'?"),
        (
            "explainer",
            "controls/blur[of=cam/gradcam[score=x]]",
            "cam/gradcam[score=x] is not possible; one of logit, prob",
        ),
        ("explainer", "cam/gradcam[score=prob", "is not written like package/name[param=value]@checkpoint"),
    ],
)
def test_a_component_that_cannot_be_used_gets_one_line_that_helps(kind, text, complaint):
    (line,) = wrong(kind, text)
    assert complaint in line


def test_a_pattern_that_matches_nothing_is_a_mistake():
    mistakes = []
    assert expand("explainer", ["camm/*"], REGISTRY, mistakes) == ()
    assert mistakes == ["explainer 'camm/*' matches nothing that is installed (xbench list explainers)"]
