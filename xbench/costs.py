"""What an explainer says that a map costs: the most passes of one image through the network."""

from collections.abc import Mapping

from xbench.components import Component, import_attr
from xbench.errors import XbenchError
from xbench.plugins import PASSES
from xbench.specs import ExplainerSpec


def declared_cost(explainer: Component, shape: tuple[int, int, int], classes: int) -> dict[str, float]:
    """Return the most passes of one image that a map of it takes; a word that is missing has no limit.

    Parameters
    ----------
    explainer
        With its parameters; a wrapper's passes come on top of those of what it wraps.
    shape, classes
        (C, H, W) of the image and the network's number of classes.

    Returns
    -------
    ``forwards`` and ``backwards``, as far as they are declared.

    Raises
    ------
    XbenchError
        The function that ``cost`` names cannot be imported, fails, or returns no such mapping. One line.
    """
    spec = explainer.spec
    assert isinstance(spec, ExplainerSpec)
    own = spec.cost if not isinstance(spec.cost, str) else _computed(spec.cost, explainer, shape, classes)
    if explainer.of is None:
        return dict(own)
    inner = declared_cost(explainer.of, shape, classes)
    return {name: own[name] + inner[name] for name in PASSES if name in own and name in inner}


def _computed(path: str, explainer: Component, shape: tuple[int, int, int], classes: int) -> Mapping[str, float]:
    params = {name: value for name, value in explainer.params.items() if name != "of" or not explainer.of}
    try:
        found = import_attr(path)(shape, classes, **params)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise XbenchError(f"{explainer.text}: its cost, the function {path!r}, cannot be told ({reason})") from error
    if not isinstance(found, Mapping) or not all(
        name in PASSES and isinstance(value, (int, float)) and value >= 0 for name, value in found.items()
    ):
        raise XbenchError(
            f"{explainer.text}: its cost {path!r} returned {found!r:.60}; {PASSES[0]} and {PASSES[1]} from 0"
        )
    return found
