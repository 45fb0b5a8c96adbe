"""A run that was cut off and resumed ends like an uninterrupted one, whatever its loaders draw."""

import pytest

from .cases import CASES
from .world import World, assert_same, some_fast

LOADERS = {
    kind: (f"data.kind={kind}",)
    for kind in (
        "shuffled",
        "dropping",
        "weighted",
        "sampler_with_generator",
        "generator",
        "batch_sampler",
        "batches_as_samples",
        "in_order",
    )
}
WORKERS = {f"{kind}, 2 workers": (*LOADERS[kind], "data.num_workers=2") for kind in LOADERS}
PERSISTENT = {
    f"{kind}, persistent": (*WORKERS[f"{kind}, 2 workers"], "data.persistent=true")
    for kind in ("shuffled", "generator")
}
COMMON = (
    "model=tutorial",
    "data=loaders",
    "objective.metric=val_acc",
    "objective.mode=max",
    "test=false",
)


# Own optimizer and schedule, objects, structures, no length, steps by hand, own hooks, two loaders.
FAST_CASES = (
    "plateau",
    "hydra_style",
    "dictionaries",
    "stream",
    "gan",
    "moving_teacher",
    "combined",
)
FAST_LOADERS = ("shuffled", "generator", "batch_sampler", "shuffled, 2 workers")


@pytest.mark.parametrize("name", some_fast(CASES, FAST_CASES))
def test_resumed_run_is_the_uninterrupted_one(world: World, name: str) -> None:
    """Cut after an epoch and within one."""
    case = CASES[name]
    run = world.in_pieces(case.batches, *case.command, within=case.is_exact_within)
    assert_same(run, world.whole(name))


@pytest.mark.parametrize("loader", some_fast(LOADERS | WORKERS | PERSISTENT, FAST_LOADERS))
def test_plain_loader_continues_where_it_was(world: World, loader: str) -> None:
    """A lost or doubled sample shows in no log; the data draw from torch, NumPy and Python.

    Workers have random numbers of their own, and fetch ahead.
    """
    options = (*COMMON, *(LOADERS | WORKERS | PERSISTENT)[loader])
    batches = 7 if "data.kind=dropping" in options else 8
    assert_same(world.in_pieces(batches, *options), world.train(*options))
