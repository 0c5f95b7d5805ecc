"""Every installed component of our own keeps the laws that a stranger's must keep."""

import os
import socket

import pytest

from xbench.plugins import discover
from xbench.testing import CHECKS, conforms, subjects

pytest_plugins = ["xbench.testing.fixtures"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Data that would have to be fetched are not there."""

    def refuse(*_):
        raise OSError("tests need no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def first_party(*kinds):
    installed = discover()
    own = {plugin.module for plugin in installed.plugins if plugin.distribution == "xbench-xai"}
    packages = {module.removeprefix("xbench_").split(".")[0] for module in own}
    return [name for kind in kinds for name, spec in installed.of_kind(kind).items() if spec.package in packages]


@pytest.mark.slow
@conforms(*first_party("explainer"))
def test_explainers(check):
    check()


@conforms(*first_party("metric"))
def test_metrics(check):
    check()


@conforms(*first_party("dataset"))
def test_datasets(check):
    check()


@pytest.mark.slow
@conforms(*first_party("model"))
def test_models(check):
    check()


def test_all_kinds_and_first_party_components_are_there():
    assert set(CHECKS) == {"explainer", "metric", "dataset", "model"}
    names = first_party(*CHECKS)
    assert {"cam/gradcam", "deletion", "mnist/digits", "anole/slim"} <= set(names)
    assert len({subject.what for subject in subjects(names)}) >= len(set(names))


def test_a_cell_of_the_toys_gives_scores(run_cell, toy_model, toy_batch):
    found = run_cell("gradients/input_x_gradient", ["relevance_mass", "deletion"])
    assert found["score/relevance_mass"].shape == (24,)
    assert (found["score/deletion"] <= 1).all()
    assert run_cell("controls/oracle", ["localisation_precision"])["score/localisation_precision"].min() == 1
    assert run_cell("mask_auroc", samples=4)["score/mask_auroc"].shape == (4,)
    assert toy_model.logits(toy_batch.image).shape == (6, 2)
    assert os.environ.get("XBENCH_CACHE")
