"""What `gsda train` shows of a run, and how Ctrl-C stops it where it can go on from."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gsda.console import Bar
from gsda.sealed import ACCURACY

if TYPE_CHECKING:
    from gsda.run import Run

# Title of a column, and the metric that it shows; columns without a value in a run are left out.
COLUMNS = {
    "C": "loss/C",
    "D_dom": "loss/D_dom",
    "D_grp": "loss/D_grp",
    "D_cls": "loss/D_cls",
    "syn": "loss/syn",
    "guarded": "val/guarded_ami",
    "bnm": "val/bnm",
    "confidence": "val/confidence",
    "classes": "predicted/effective_classes",
    "accuracy": ACCURACY,
}
_WIDTH = 7


class Watcher:
    """Listens to a run (`gsda.train.Listener`) and tells of it.

    Rows go to standard output; what only a watcher wants, such as the bar, to standard error.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet, self.stopping = quiet, False
        self._bar = Bar("", 0, quiet=True)
        self._decoding: Bar | None = None
        self._titles: list[str] = []

    def listener(self) -> Any:
        """What `gsda.train.train` is given."""
        from gsda.train import Listener

        return Listener(
            preparing=self.preparing,
            begun=self.begun,
            stepped=self.stepped,
            evaluated=self.evaluated,
            note=self.note,
            stop=lambda: self.stopping,
        )

    def preparing(self, done: int, total: int) -> None:
        if self._decoding is None:
            self._decoding = Bar("preparing images", total, self.quiet)
        self._decoding.show(done)
        if done >= total:
            self._decoding.clear()
            self._decoding = None

    def begun(self, run: "Run") -> None:
        """Say what is trained, and from now on stop at Ctrl-C where the run can go on from."""
        signal.signal(signal.SIGINT, self._interrupted)
        signal.signal(signal.SIGTERM, self._interrupted)
        config = run.config
        self._bar = Bar(str(run.task), config.steps, self.quiet)
        self._bar.start_at(run.step_count)
        if self.quiet:
            return
        counts = f"{len(run.pair.source)} source and {len(run.pair.target)} target images"
        print(f"{run.task}: {counts}, {len(run.pair.classes)} classes; {run.device}")
        words = f"alpha {config.alpha:g}, beta {config.beta:g}, {config.n_groups} groups"
        levels = ", ".join(config.levels) or "none"
        print(f"{config.backbone}; {words}, tau {config.tau:g}, levels {levels}")
        if run.step_count:
            print(f"going on after step {run.step_count}")
        sys.stdout.flush()

    def _interrupted(self, number: int, _: Any) -> None:
        """Stop after this step; at the second time at once, as if there were no handler."""
        if self.stopping:
            raise KeyboardInterrupt
        self.stopping = True
        self._bar.clear()
        print("Stopping after this step; once more to stop at once.", file=sys.stderr, flush=True)

    def stepped(self, step: int, losses: dict[str, float]) -> None:
        shown = {title: losses[name] for title, name in COLUMNS.items() if name in losses}
        self._bar.show(step, "  ".join(f"{title} {value:.3f}" for title, value in shown.items()))

    def evaluated(self, row: dict[str, float]) -> None:
        """One line of the table; its head before the first."""
        if self.quiet:
            return
        self._bar.clear()
        if not self._titles:
            self._titles = [title for title, name in COLUMNS.items() if name in row]
            print(_line("step", [title.rjust(_WIDTH) for title in self._titles]))
        values = [
            _shown(title, row.get(COLUMNS[title])).rjust(max(_WIDTH, len(title)))
            for title in self._titles
        ]
        print(_line(str(int(row["step"])), values), flush=True)

    def note(self, sentence: str) -> None:
        print(f"gsda: {sentence}", file=sys.stderr)


def _line(first: str, rest: list[str]) -> str:
    return "  ".join([first.rjust(_WIDTH), *rest])


def _shown(title: str, value: float | None) -> str:
    if value is None:
        return ""
    if title == "accuracy":
        return f"{100 * value:.1f}%"
    return f"{value:.1f}" if title == "classes" else f"{value:.3f}"


@contextmanager
def kept_signals() -> Iterator[None]:
    """What Ctrl-C and SIGTERM do is, afterwards, what it was."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
