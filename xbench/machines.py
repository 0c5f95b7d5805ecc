"""What a worker takes of a machine of any cluster, and for how many of them there is room."""

from collections.abc import Mapping, Sequence

from xbench.errors import XbenchError

Resources = Mapping[str, float]
"""Of a machine, or of a worker: how many ``CPU`` and ``GPU``."""


def takes(device: str, threads: int, machines: Sequence[Resources]) -> dict[str, int]:
    """Return what a worker takes: its threads, and a GPU where the device is one, or may be and some machine has one.

    Raises
    ------
    XbenchError
        No machine has that.
    """
    gpu = device == "cuda" or (device == "auto" and any(each.get("GPU", 0) for each in machines))
    needs = {"CPU": threads, **({"GPU": 1} if gpu else {})}
    if not room(machines, needs):
        has = ", ".join(f"{name}: {sum(each.get(name, 0) for each in machines):g}" for name in ("CPU", "GPU"))
        wanted = " and ".join(f"{need} {name}" for name, need in needs.items())
        raise XbenchError(
            f"a worker takes {wanted}, and no machine of the cluster has that (machines: {len(machines)}, {has}); "
            "device=cpu takes no GPU, threads=N as many CPU"
        )
    return needs


def room(machines: Sequence[Resources], needs: Mapping[str, int]) -> int:
    """Return how many workers fit, each on one machine."""
    return sum(min(int(each.get(name, 0) // need) for name, need in needs.items()) for each in machines)


def takes_to_train(machines: Sequence[Resources], needs: Mapping[str, int]) -> dict[str, int]:
    """Return what a training takes: on the CPU a whole machine, for the number of threads decides how sums are rounded."""
    if "GPU" in needs:
        return dict(needs)
    return {"CPU": int(min((each["CPU"] for each in machines if room([each], needs)), default=needs["CPU"]))}
