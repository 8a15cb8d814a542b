"""How MLflow's pages show the trials of a task: a named view, kept at the experiment.

Which columns a page of runs shows is built into MLflow's pages (source, models, dataset), and no
server can say otherwise. But an experiment may carry views: its pages offer them in a menu, and an
address can name one. Their form is that of MLflow 3.17's own saved views; an MLflow that does not
know it ignores the tag.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gsda.sealed import ACCURACY
from gsda.tracking import hide_password

TAG = "mlflow.sharedViewState."
NOTE = "mlflow.note.content"
LOCAL_PAGES = "http://127.0.0.1:5000"  # of `mlflow ui`
_ABOUT = ("tags.`state`", "tags.`search`", "attributes.`Duration`")
_WIDTHS = {"params": 85, "metrics": 95}
_SECTION = "searched-settings"


@dataclass(frozen=True)
class View:
    """What a page of runs shows.

    Attributes:
        fields: searched settings. metric: that guided the search, and sorts the runs.
    """

    fields: Sequence[str]
    metric: str

    @property
    def key(self) -> str:
        """Under which an address names it: the same for equal views."""
        return re.sub(r"[^A-Za-z0-9_]+", "-", "-".join(["gsda", self.metric, *self.fields]))

    @property
    def name(self) -> str:
        """For the menu."""
        return f"Trials by {self.metric}: {', '.join(self.fields)}"

    def tag(self, made: float) -> dict[str, str]:
        """The tag that keeps it at an experiment; `made`: seconds since the epoch."""
        times = dict.fromkeys(("createdAt", "updatedAt"), int(made * 1000))
        value = {"name": self.name, **times, "state": json.dumps(self._state())}
        return {TAG + self.key: json.dumps(value)}

    def _state(self) -> dict[str, Any]:
        scores = [_column("metrics", name) for name in (self.metric, ACCURACY)]
        settings = [_column("params", name) for name in self.fields]
        columns = [*scores, *settings, *_ABOUT]
        return {
            "selectedColumns": columns,
            "columnOrder": columns,
            "columnWidths": {name: _width(name) for name in columns},
            "orderByKey": scores[0],
            "orderByAsc": False,
            "runsHiddenMode": "SHOW_ALL",
            "isAccordionReordered": True,  # or the sections stand in the order of their names
            "compareRunSections": [_section()],
            "compareRunCharts": [self._parallel()],
        }

    def _parallel(self) -> dict[str, Any]:
        return {
            "uuid": "parallel-coordinates",
            "type": "PARALLEL",
            "metricSectionId": _SECTION,
            "runsCountToCompare": 10,
            "showAllRuns": True,
            "selectedParams": list(self.fields),
            "selectedMetrics": [self.metric],
            "deleted": False,
            "isGenerated": False,
        }

    def address(self, pages: str, experiment: str, chart: bool = False) -> str:
        """Of the experiment's runs as this view shows them, or of the parallel coordinates."""
        mode = "&compareRunsMode=CHART" if chart else ""
        query = f"workflowType=machine_learning&viewStateShareKey={self.key}{mode}"
        return f"{pages}/#/experiments/{experiment}/runs?{query}"


def view_of(spec: Mapping[str, Any]) -> View:
    """The view of a search's trials."""
    return View(tuple(spec["search"]), spec["metric"])


def note(spec: Mapping[str, Any], experiment: str) -> str:
    """What the experiment's page says above its runs."""
    view = view_of(spec)
    table, chart = (view.address("", experiment, chart) for chart in (False, True))
    return (
        f"{opening(spec)} ({spec['data_title']}): a run for each search, and below it one for each "
        f"trial. **[Trials, best first]({table})**, their "
        f"**[settings side by side]({chart})**; more views in the menu above."
    )


def opening(spec: Mapping[str, Any]) -> str:
    """The first words of a note of ours: one that begins otherwise is a user's."""
    return f"Searches of {spec['task']}"


def address(spec: Mapping[str, Any], uri: str, experiment: str) -> str:
    """Where a browser finds the trials."""
    return view_of(spec).address(pages(uri), experiment)


def pages(uri: str) -> str:
    """Where MLflow's pages are: at the server, or at `mlflow ui` as it starts here."""
    return hide_password(uri).rstrip("/") if uri.startswith("http") else LOCAL_PAGES


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"


def _width(column: str) -> int:
    kind, name = column.split(".", 1)
    return 165 if name == f"`{ACCURACY}`" else _WIDTHS.get(kind, 95)


def _section() -> dict[str, Any]:
    return {
        "uuid": _SECTION,
        "name": "Searched settings",
        "display": True,
        "columns": 1,
        "cardHeight": 420,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
    }
