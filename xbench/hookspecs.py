"""The hooks a plugin may implement; each is called once, at discovery, and returns light specs."""

from pathlib import Path

import pluggy

from xbench.specs import DatasetSpec, ExecutorSpec, ExplainerSpec, MetricSpec, ModelSpec

hookspec = pluggy.HookspecMarker("xbench")
hookimpl = pluggy.HookimplMarker("xbench")


@hookspec
def xbench_explainers() -> list[ExplainerSpec]:  # type: ignore[empty-body]
    """Return the explanation methods of this plugin."""


@hookspec
def xbench_models() -> list[ModelSpec]:  # type: ignore[empty-body]
    """Return the classifiers of this plugin."""


@hookspec
def xbench_datasets() -> list[DatasetSpec]:  # type: ignore[empty-body]
    """Return the data sets of this plugin."""


@hookspec
def xbench_metrics() -> list[MetricSpec]:  # type: ignore[empty-body]
    """Return the metrics of this plugin."""


@hookspec
def xbench_executors() -> list[ExecutorSpec]:  # type: ignore[empty-body]
    """Return the executors of this plugin."""


@hookspec
def xbench_suites() -> list[Path]:  # type: ignore[empty-body]
    """Return the paths of this plugin's suite files (YAML)."""
