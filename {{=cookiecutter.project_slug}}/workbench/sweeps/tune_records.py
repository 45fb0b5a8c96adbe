"""What is kept of a sweep by Ray Tune: a file with a line for each report of each trial."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from .figures import Figure
from .space import is_same_point
from .tune_figures import draw_schedules
from .types import Objective, State, TrialRecord, Unit, Value, excesses

# What a trial is whose last line does not tell its end: nothing runs any more when this is read.
OPEN = State.STOPPED


@dataclass(frozen=True)
class Row:
    """One line of the file.

    Attributes:
        number: of the trial.
        epoch: how many epochs, or validations, it has come.
        value: the first objective after them; None where the line only tells the end.
        params: the point it trained with.
        worker: where.
        began: when the trial's process began, in seconds since 1970.
        at: when the line was written.
        state: what became of the trial, if it has ended.
        metrics: of its best epoch, if it has ended.
        error: what went wrong, in one line.
        copied: the trial whose weights it went on from, if they were not its own.
        version: which of the sweep's identities it was trained with.
    """

    number: int
    epoch: int
    value: float | None
    params: dict[str, Value]
    worker: str
    began: float
    at: float
    state: State = OPEN
    metrics: dict[str, float] | None = None
    error: str = ""
    copied: int | None = None
    version: int = 0

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> "Row":
        """A row from what was written of it."""
        return cls(**{**facts, "state": State(facts["state"])})


class TuneRecords:
    """Implements `Record` on a file in the sweep's folder.

    Args:
        folder: of the sweep.
        objectives: what is optimised.
        limits: metrics and the greatest value that is allowed of each.
        n_trials: how many trials there are to be.
        schedules: the options that change while a trial trains.
        unit: what the reports of a trial count.
    """

    def __init__(
        self,
        folder: Path,
        objectives: list[Objective],
        limits: Mapping[str, float],
        n_trials: int,
        schedules: list[str],
        unit: Unit = Unit.EPOCH,
    ) -> None:
        self.path = folder / "results.jsonl"
        self.objectives = objectives
        self.limits = limits
        self.n_trials = n_trials
        self.schedules = schedules
        self.unit = unit
        self._rows: dict[int, list[Row]] = {}
        self._kept: dict[str, dict[str, Any]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._read()

    def add(self, row: Row) -> None:
        """Write a line."""
        self._write(vars(row))
        self._take(row)

    def end(self, number: int, state: State, **facts: Any) -> None:
        """Note what became of a trial that could not tell it itself."""
        if self.knows(number):
            self.add(replace(self._rows[number][-1], value=None, state=state, **facts))

    def knows(self, number: int) -> bool:
        """Whether a trial has told anything yet."""
        return number in self._rows

    def ended(self) -> dict[int, Row]:
        """The last row of every trial that has ended."""
        last = {number: rows[-1] for number, rows in self._rows.items()}
        return {number: row for number, row in last.items() if row.state is not OPEN}

    def record(self, number: int) -> TrialRecord:
        """A trial so far."""
        rows = self._rows[number]
        last = rows[-1]
        metrics = last.metrics or {}
        steps = {row.epoch: row.value for row in rows if row.value is not None}
        state = last.state
        best = metrics.get(self.objectives[0].metric)
        return TrialRecord(
            number=number,
            state=state,
            params=last.params,
            values=(best,) if state is State.FINISHED and best is not None else (),
            steps=dict(sorted(steps.items())),
            metrics=metrics,
            started=datetime.fromtimestamp(rows[0].began),
            ended=datetime.fromtimestamp(last.at),
            worker=last.worker,
            error=last.error,
            constraints=excesses(metrics, self.limits) if metrics else {},
            version=last.version,
        )

    def records(self) -> list[TrialRecord]:
        """All trials so far."""
        return [self.record(number) for number in sorted(self._rows)]

    def is_finished(self) -> bool:
        """Whether as many trials have ended as were asked for."""
        return len(self.ended()) >= self.n_trials

    def figures(self) -> Iterator[Figure]:
        """For the report: how the options of each trial changed."""
        records = self.records()
        yield from draw_schedules(self.schedules, self._rows, records, self.objectives, self.unit)

    def remember(self, name: str, value: dict[str, Any]) -> None:
        """Keep something with the sweep."""
        self._write({"name": name, "kept": value})
        self._kept[name] = value

    def recall(self, name: str) -> dict[str, Any]:
        """What was kept under this name; empty if nothing was."""
        return self._kept.get(name, {})

    def close(self) -> None:
        """Every line is on the disk already."""

    def _write(self, line: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _read(self) -> None:
        """Read all lines, and cut off one that a kill has torn."""
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            self.path.write_bytes(whole)
        for line in whole.splitlines():
            facts = json.loads(line)
            if "kept" in facts:
                self._kept[facts["name"]] = facts["kept"]
            else:
                self._take(Row.read(facts))

    def _take(self, row: Row) -> None:
        rows = self._rows.setdefault(row.number, [])
        # After a kill the number may have come to another point.
        if rows and not is_same_point(rows[-1].params, row.params) and not self.schedules:
            rows.clear()
        rows.append(row)
