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
            params={"address": "", "cpus": 1},
            meanings={
                "address": "HOST:PORT of a running cluster, auto: that of this machine; empty: one is started here",
                "cpus": "cores of a worker on a running cluster, 1 or more; one that is started here is shared out evenly",
            },
            summary="many machines: workers on a Ray cluster (extra `ray`); what a lost machine had not finished goes again",
        )
    ]
