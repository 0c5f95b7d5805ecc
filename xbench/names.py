"""Which installed components a name means that is written short: ``gradcam`` for ``cam/gradcam``."""

from collections.abc import Sequence

from xbench.plugins import Registry


def full_ids(kind: str, name: str, registry: Registry, home: str = "") -> list[str]:
    """Return the installed ids that a name can mean: itself, or those whose last part it is, of which ``home``'s comes alone.

    What is written short is recorded in full: another plugin may make a short name mean two things, never another one.
    """
    installed = registry.of_kind(kind)
    if name in installed or "/" in name:
        return [name] * (name in installed)
    if f"{home}/{name}" in installed:
        return [f"{home}/{name}"]
    return sorted(one for one in installed if one.endswith(f"/{name}"))


def several(kind: str, name: str, ids: Sequence[str]) -> str:
    """Return the line that says which components a short name can mean."""
    return f"{kind} {name!r} can be {', '.join(ids[:-1])} or {ids[-1]}; write one of them"
