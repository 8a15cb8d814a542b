"""MLflow's pages of a real search, as a browser shows them to somebody who has set up nothing."""

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from faults.rig import ONE_AT_A_TIME
from test_serving import free_port

from gsda.validators import DEFAULT_METRIC
from tune import views

ROOT = Path(__file__).parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
COLUMNS = [DEFAULT_METRIC, "oracle/target_accuracy", "alpha", "beta", "n_groups", "tau", "state"]
PATIENCE_MS = 60_000


def find_browser() -> str:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("NO CHROMIUM IS INSTALLED: MLFLOW'S PAGES ARE NOT TESTED")
    return found


@dataclass(frozen=True)
class Site:
    """A running server.

    Attributes:
        said: what the search printed. experiment: MLflow's id of the task.
    """

    address: str
    said: str
    experiment: str

    @property
    def trials(self) -> str:
        """The address that the search printed, at this server's port."""
        found = re.search(rf"  Open: +{re.escape(views.LOCAL_PAGES)}(\S+)", self.said)
        assert found, self.said
        return self.address + found.group(1)


@pytest.fixture(scope="module")
def site(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    find_browser()
    pytest.importorskip("playwright", reason="NO PLAYWRIGHT: MLFLOW'S PAGES ARE NOT TESTED")
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(empty_store, folder / "mlflow.db")
    search = [sys.executable, str(ROOT / "tune/search.py"), "--task", "W2D", "--trials", "2"]
    short = ["--steps", "6", "--evaluate-every", "3", "--seed", "1", *ONE_AT_A_TIME]
    done = subprocess.run([*search, *short], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"experiments/(\d+)/", done.stdout)
    assert found
    port = free_port()
    store = f"sqlite:///{folder / 'mlflow.db'}"
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--backend-store-uri", store],
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(f"{address}/health", server, folder / "server.log")
            yield Site(address, done.stdout, found.group(1))
        finally:
            os.killpg(server.pid, 15)
            server.wait(timeout=30)


def _wait(address: str, server: Any, log: Path) -> None:
    end = time.monotonic() + PATIENCE_MS / 1000
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"no answer:\n{log.read_text()}")


@pytest.fixture
def page(site: Site, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """An empty browser; what it shows in the end is kept as a picture."""
    from playwright.sync_api import sync_playwright

    pictures = Path(os.environ.get("GSDA_PICTURES", tmp_path))
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": 2400, "height": 1000})
        shown.set_default_timeout(PATIENCE_MS)
        yield shown
        shown.screenshot(path=pictures / f"{request.node.name}.png")
        browser.close()


def headers(page: Any) -> list[str]:
    """Columns from left to right."""
    page.locator(".ag-header-cell", has_text="Duration").wait_for()
    cells = page.locator(".ag-header-cell").all()
    placed = [(cell.bounding_box()["x"], cell.inner_text().strip()) for cell in cells]
    return [text for _, text in sorted(placed) if text]


def names(page: Any) -> list[str]:
    """Runs from the top, by their links."""
    links = page.locator(".ag-row a[href*='/runs/']").all()
    placed = [(link.bounding_box()["y"], link.inner_text().strip()) for link in links]
    return [text for _, text in sorted(placed)]


def test_the_trials_have_the_columns_that_matter(page: Any, site: Site) -> None:
    page.goto(site.trials)
    assert headers(page) == ["Run Name", "Created", *COLUMNS, "search", "Duration"]
    shown = names(page)
    assert sorted(name[:4] for name in shown[:4]) == ["0000", "0001", "0002", "0003"]
    values = page.locator(f".ag-row [col-id='metrics.`{DEFAULT_METRIC}`']").all()
    placed = sorted((cell.bounding_box()["y"], cell.inner_text()) for cell in values)
    numbers = [float(text) for _, text in placed[:4]]
    assert numbers == sorted(numbers, reverse=True)


def test_comparing_draws_the_searched_values(page: Any, site: Site) -> None:
    page.goto(site.trials)
    headers(page)
    rows = page.locator(".ag-row:has(.ag-checkbox-input)")
    for name in ("0001 paper", "0002 searched", "0003 searched"):  # source-only differs in more
        rows.filter(has_text=name).first.locator(".ag-checkbox-input").check(force=True)
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("Comparing 3 Runs").wait_for()
    axes = page.locator(".parcoords .axis-title, .js-plotly-plot .axis-title")
    axes.first.wait_for()
    assert set(texts(axes)) >= {"alpha", "beta", "n_groups"}  # MLflow begins with three
    picker = page.locator("input[role=combobox]").first
    picker.click()
    page.keyboard.type("tau")
    page.keyboard.press("Enter")
    axes.filter(has_text="tau").first.wait_for()
    assert set(texts(axes)) >= {"alpha", "beta", "n_groups", "tau"}


def texts(locator: Any) -> list[str]:
    return [text.strip() for text in locator.all_text_contents()]


def test_all_searched_settings_side_by_side(page: Any, site: Site) -> None:
    """The second link of the experiment's note."""
    page.goto(f"{site.address}/#/experiments/{site.experiment}/runs")
    with page.context.expect_page() as opened:
        page.get_by_text("settings side by side").click()
    page = opened.value
    page.set_default_timeout(PATIENCE_MS)
    page.get_by_text("Searched settings").first.wait_for()
    axes = page.locator("svg text")
    axes.filter(has_text="n_groups").first.wait_for()
    assert set(texts(axes)) >= {"alpha", "beta", "n_groups", "tau", DEFAULT_METRIC}


def test_a_search_folds_its_trials(page: Any, site: Site) -> None:
    """Without the view, by the address that anybody would try."""
    page.goto(f"{site.address}/#/experiments/{site.experiment}/runs")
    page.get_by_text("Trials, best first").wait_for()
    page.locator(".ag-row a[href*='/runs/']").first.wait_for()
    assert names(page) == ["glyph31-W2D-001"]
    toggle = page.locator(".ag-row button:has([role=img][aria-label*=plus i]), .ag-row button")
    toggle.first.click()
    page.get_by_role("link", name="0003 searched").wait_for()
    assert len(names(page)) == 5
    toggle.first.click()
    page.get_by_role("link", name="0003 searched").wait_for(state="detached")
    assert names(page) == ["glyph31-W2D-001"]


def test_the_champion_explains_itself(page: Any, site: Site) -> None:
    page.goto(f"{site.address}/#/models/gsda-glyph31-W2D/versions/1")
    page.get_by_text("built-in drawn letters").wait_for()
    shown = page.locator("body").inner_text()
    assert "champion" in shown
    for words in ("labelled images of W, unlabelled ones of D", "which reads no target label"):
        assert words in shown
    assert 'load_model("models:/gsda-glyph31-W2D/1")' in shown
    assert "MIT licence" in shown


def test_the_table_of_versions_says_what_each_is(page: Any, site: Site) -> None:
    page.goto(f"{site.address}/#/models/gsda-glyph31-W2D")
    page.get_by_text("Best models of glyph31/W2D").wait_for()
    row = page.locator("tr, [role=row]").filter(has_text="Version 1").first
    row.wait_for()
    row.get_by_text("glyph31/W2D by ").wait_for()  # of the rest MLflow shows dots
