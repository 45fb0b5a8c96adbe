"""A search by Ax: its client proposes and prunes, and an Optuna study records the trials.

Each proposal is put into the study's queue and asked for there, like any other point. So several
commands share a search, crashed trials are retried, and the results are those of any other sweep.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from .. import optuna_search
from ..figures import Figure, styled
from ..loop import AskTellSweep
from ..optuna_search import OptunaSearch
from ..plan import Plan
from ..space import is_same_point
from ..types import Next, Trial, TrialOutcome, Verdict
from .client import AxClient, Proposal, load_ax, make_client


class AxSearch(OptunaSearch):
    """Implements `Search` with an Ax client.

    A proposal takes seconds, so a thread makes it, in advance while trials are running. Until it is
    ready nothing else may be asked of the client, which catches up with the study afterwards.
    """

    client: AxClient
    is_ax_pruner: bool

    def join(
        self, sampler: Mapping[str, Any], pruner: Mapping[str, Any], seed: int | None
    ) -> int | None:
        """Take a lease on the study, and build the client."""
        import torch

        self.is_ax_pruner = pruner["name"] == "ax"
        # Options that a point of `enqueue` leaves open are random.
        seed = super().join(
            {"name": "random"}, {"name": "none"} if self.is_ax_pruner else pruner, seed
        )
        # The other cores are for the trials.
        torch.set_num_threads(1)
        about = (self.space, self.objectives, self.limits, sampler, pruner)
        self.client = AxClient(*about, seed)
        self._thread = ThreadPoolExecutor(1)
        self._coming: Future[Proposal | None] | None = None
        return seed

    def ask(self, worker: str) -> Trial | None:
        """The next trial: one that waits in the queue, or a proposal once there is one."""
        proposal = None
        if self._wants_point():
            self._begin_proposal()
            if self._is_busy:
                return None
            proposal = self._take_proposal()
        if proposal is not None:
            self.study.enqueue_trial(self.space.with_texts(proposal.params))
        trial = super().ask(worker)
        if proposal is None:
            pass
        elif trial is not None and is_same_point(trial.params, proposal.params):
            self.client.link(trial.number, proposal)
        else:
            # Another command was faster.
            self.client.withdraw(proposal)
        # If no other trial is running, it is better to wait for the result of this one.
        if len(self._running) > 1 and self._wants_point():
            self._begin_proposal()
        return trial

    def report(self, number: int, step: int, value: float) -> Verdict:
        """Record a value; PRUNE if the trial is unpromising."""
        answer = super().report(number, step, value)
        if not self.is_ax_pruner or self._is_busy:
            return answer
        self.client.catch_up(self.records())
        is_behind = self.client.should_stop(number, step, value)
        return Verdict.PRUNE if is_behind else Verdict.CONTINUE

    def tell(self, number: int, outcome: TrialOutcome) -> Next:
        """Record how a trial ended."""
        decision = super().tell(number, outcome)
        self._keep()
        return decision

    def close(self) -> None:
        """Withdraw a proposal that no trial uses, and release the lease."""
        if self._coming is not None and (proposal := self._coming.result()) is not None:
            self.client.withdraw(proposal)
        self._coming = None
        self._keep()
        super().close()

    def figures(self) -> Iterator[Figure]:
        """Plots of Ax's model."""
        for title, caption, plot in self.client.analyses():
            # The axis shows names, so its title is redundant.
            plot.update_yaxes(title=None, selector={"title.text": "display_parameter_name"})
            yield Figure(f"Ax: {title}", caption, styled(plot))

    @property
    def _is_busy(self) -> bool:
        return self._coming is not None and not self._coming.done()

    def _wants_point(self) -> bool:
        return not self._look().waiting and self._has_room()

    def _begin_proposal(self) -> None:
        if self._coming is None:
            self.client.catch_up(self.records())
            self._coming = self._thread.submit(self.client.propose)

    def _take_proposal(self) -> Proposal | None:
        assert self._coming is not None
        proposal, self._coming = self._coming.result(), None
        return proposal

    def _keep(self) -> None:
        """Bring the client and its export up to date, unless a proposal is being made."""
        if not self._is_busy:
            self.client.catch_up(self.records())
            self.client.export(self.folder / "ax.json")


class AxSweep(AskTellSweep):
    """A sweep that is searched by Ax."""

    def open_study(self) -> OptunaSearch:
        """Open the study for a search by Ax."""
        return open_search(self.plan)

    def warm_up(self) -> None:
        """Import Ax too."""
        with suppress(ImportError):
            load_ax()
        super().warm_up()


def open_search(plan: Plan) -> AxSearch:
    """The study of a sweep, searched by Ax.

    Raises:
        UserError: Ax rejects the search, or the study of this name has another question.
    """
    settings = plan.settings
    # A search that Ax rejects must not create a study.
    about = (plan.space, plan.objectives, settings.limits, settings.sampler, settings.pruner)
    make_client(*about, None)
    return optuna_search.open_search(plan, lambda _: AxSearch)
