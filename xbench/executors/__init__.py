"""What carries tasks to processors: declared here, torch-free; each executor is a module of its own."""

from xbench.hookspecs import hookimpl
from xbench.specs import ExecutorSpec


@hookimpl
def xbench_executors() -> list[ExecutorSpec]:
    """Return the executors of the harness."""
    return [
        ExecutorSpec(
            name="local",
            version=1,
            factory="xbench.executors.local:LocalExecutor",
            summary="workers=N processes, each with its GPU or share of the cores; a broken explainer costs its own cells only",
        ),
        ExecutorSpec(
            name="inline",
            version=1,
            factory="xbench.executors.inline:InlineExecutor",
            summary="this very process, for debuggers: a crash or an endless loop ends the run",
        ),
    ]
