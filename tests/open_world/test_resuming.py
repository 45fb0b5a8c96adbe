"""A run that was cut off and resumed ends like an uninterrupted one, whatever its loaders draw."""

import pytest

from .cases import CASES
from .world import World, assert_same

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


@pytest.mark.parametrize("name", CASES)
def test_resumed_run_is_the_uninterrupted_one(world: World, name: str) -> None:
    """Cut after an epoch and within one."""
    case = CASES[name]
    run = world.in_pieces(case.batches, *case.command, within=case.is_exact_within)
    assert_same(run, world.whole(name))


@pytest.mark.parametrize("loader", LOADERS)
def test_plain_loader_continues_where_it_was(world: World, loader: str) -> None:
    """A lost or doubled sample shows in no log; the data draw from torch, NumPy and Python."""
    check(world, *LOADERS[loader])


@pytest.mark.slow
@pytest.mark.parametrize("loader", [*WORKERS, *PERSISTENT])
def test_plain_loader_with_workers_continues_where_it_was(world: World, loader: str) -> None:
    """Workers have random numbers of their own, and fetch ahead."""
    check(world, *(WORKERS | PERSISTENT)[loader])


def check(world: World, *options: str) -> None:
    whole = world.train(*COMMON, *options)
    batches = 7 if "data.kind=dropping" in options else 8
    assert_same(world.in_pieces(batches, *COMMON, *options), whole)
