"""xbench: an evaluation benchmark for explanation methods of image classifiers."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xbench.api import run
    from xbench.map_writer import write_maps
    from xbench.own_explanations import explain
    from xbench.own_maps import evaluate
    from xbench.results import Run
    from xbench.results import open_run as open

__version__ = "0.1.0"

# What each name stands for, imported when it is first asked for: `import xbench` is quick and without torch.
_FACE = {
    "Run": "xbench.results:Run",
    "evaluate": "xbench.own_maps:evaluate",
    "explain": "xbench.own_explanations:explain",
    "open": "xbench.results:open_run",
    "run": "xbench.api:run",
    "write_maps": "xbench.map_writer:write_maps",
}

__all__ = ["Run", "evaluate", "explain", "open", "run", "write_maps"]


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f"module 'xbench' has no attribute {name!r}")
    module, _, attribute = _FACE[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
