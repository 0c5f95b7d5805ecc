"""Maps that were made elsewhere, for methods that cannot be shipped: read from a folder that `xbench.write_maps` wrote."""

from xbench.hookspecs import hookimpl
from xbench.specs import ExplainerSpec


@hookimpl
def xbench_explainers() -> list[ExplainerSpec]:
    """Return the one explainer."""
    return [
        ExplainerSpec(
            name="maps",
            version=1,
            factory="xbench_precomputed.maps:maps",
            params={"maps": ""},
            meanings={"maps": "the folder of maps, as `xbench.write_maps` writes it"},
            stored=True,
            summary="maps made elsewhere, from the folder maps=DIR; metrics that ask an explainer again have no answer",
        ),
    ]
