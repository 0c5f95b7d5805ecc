"""Work carried to a Ray cluster, or to one that Ray starts on this machine."""

from xbench.hookspecs import hookimpl
from xbench.specs import ExecutorSpec


@hookimpl
def xbench_executors() -> list[ExecutorSpec]:
    """Return the executor."""
    return [
        ExecutorSpec(
            name="ray",
            version=1,
            factory="xbench_ray.executor:RayExecutor",
            params={"address": ""},
            meanings={"address": "HOST:PORT of a running cluster; auto: this machine's; empty: one is started here"},
            summary="many machines: workers on a Ray cluster (extra `ray`); what a lost machine had not finished goes again",
        )
    ]
