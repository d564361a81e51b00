"""What a person sees: MLflow's pages over a recorded sweep, in a real browser without a screen.

python -m pytest tests/test_ui.py --basetemp /tmp/kdam-ui     # the screenshots stay there

Needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver). Without them the test is skipped, or
fails where KDAM_REQUIRE_BROWSER=1 says that they must be there.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import open_browser, require_browser, wait_until

from kdam_ray.config import Place, Sweep, change
from kdam_ray.recipes import recipe
from kdam_ray.service.finished.models import described
from kdam_ray.service.records.tracking import Tracking
from kdam_ray.service.records.ui_pages import IN_TRAINING
from kdam_ray.titles import titled, varying

pytestmark = pytest.mark.slow

BETAS = (0.5, 1.0, 2.0)
PRUNED, FAILED = "b4 T3 s0", "b8 T3 s0"


@pytest.fixture(scope="module", autouse=True)
def chromium() -> None:
    """Before anything is started: there is a browser, or the tests are skipped."""
    require_browser()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A sweep of two epochs, written as the service writes it: (tracking, parent, {name: child}).

    Three cells finish, a searched member is pruned and one diverges.
    """
    place = Place(storage=str(tmp_path_factory.mktemp("runs")))
    tracking = Tracking(place.model_copy(update={"tracking_uri": f"sqlite:///{place.storage}/mlflow.db"}))
    distilled = {"teacher": "resnet_w16", "teacher_run": "0123456789ab", "distill": {"method": "plain_kd"}}
    base = change(recipe("rooms", smoke=True).student, distilled | {"dataset_hash": "feedc0ffee"})
    cells = tuple({"distill.beta": beta} for beta in BETAS)
    sweep = Sweep(name="beta_temp", table=5, base=base, cells=cells, space={"distill.beta": (0.1, 9.0)}, trials=2)
    parent, children = tracking.open_parent(sweep), {}
    ends = [(beta, "finished", 2) for beta in BETAS] + [(4.0, "pruned", 1), (8.0, "failed", 1)]
    for beta, ended, epochs in ends:
        run = change(base, {"distill.beta": beta})
        title = titled(run, base)
        child = tracking.open_member(run, sweep=sweep.name, table=5, parent=parent, title=title, params=varying(sweep))
        for epoch in range(1, epochs + 1):
            values = {
                "val/semseg/mIoU": 10 + beta + epoch,
                "val/depth/rmse": 1.25 - beta / 4,
                "val/normals/mErr": 31.5,
                "val/edge/odsF": 71.25,
                "val/delta_teacher": beta - 5.0,
            }
            tracking.log_epoch(child, values | {"train/loss": 4.0 - epoch}, epoch)
        tracking.end_member(child, ended, reason="the training loss became nan" if ended == "failed" else None)
        children[title] = child
    best = change(base, {"distill.beta": BETAS[-1]})
    folder = tmp_path_factory.mktemp("model")
    described(best).save(str(folder / "MLmodel"))
    tracking.log_model(children[titled(best, base)], best, folder, {"val/semseg/mIoU": 14.0, "val/delta_teacher": -3.0})
    tracking.write_note(parent, "### Table 5\n\n| beta | mIoU |\n|---|---|\n| 0.5 | 12.5 |\n| **2** | **14** |\n")
    tracking.end_parent(parent, {"best/delta_teacher": -3.0}, failed=True)
    return tracking, parent, children


@pytest.fixture(scope="module")
def address(recorded, tmp_path_factory) -> Iterator[str]:
    """MLflow's server on a free loopback port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", recorded[0].uri, "--host", "127.0.0.1"]
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, "--port", str(port), "--workers", "1"], stdout=output, stderr=output, start_new_session=True
        )
        try:
            wait_until(lambda: is_up(f"http://127.0.0.1:{port}/health"), f"the server did not start: {log}")
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, signal.SIGTERM)  # its own group: nothing else is in it
            server.wait(30)


def is_up(url: str) -> bool:
    with contextlib.suppress(OSError):
        return urllib.request.urlopen(url, timeout=5).status == 200
    return False


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


def page_text(browser) -> str:
    return browser.find_element("tag name", "body").text


def open_page(browser, url: str, *, until: str) -> None:
    """Loads a page of MLflow's single-page application and waits for a text on it."""
    browser.get("about:blank")
    browser.get(url)
    wait_until(lambda: until in page_text(browser), f"{until!r} did not appear on {url}: {page_text(browser)[:2000]}")


def screenshot(browser, path: Path) -> None:
    time.sleep(1)  # plots fade in
    assert browser.save_screenshot(str(path))
    print(f"screenshot: {path}")


def colours_of(browser, run: str) -> set[str]:
    """The colours of the icons in a run's row of the runs table: green, red, of a button."""
    cell = f"//a[contains(@href, '{run}')]/ancestor::*[@role='row'][1]"
    row = browser.find_element("xpath", cell).get_attribute("row-id")
    icons = browser.find_elements("xpath", f"//*[@row-id='{row}']//*[@role='gridcell']//*[name()='svg']")
    return {browser.execute_script("return getComputedStyle(arguments[0]).color", icon) for icon in icons}


def test_the_runs_table_shows_names_and_scores_and_no_red_pruned_run(browser, address, recorded, tmp_path):
    """By the link of the experiment's note, from wherever MLflow opens the experiment."""
    tracking, parent, children = recorded
    experiment = tracking.experiment("rooms", "beta_temp")
    open_page(browser, f"{address}/#/experiments/{experiment}", until="Runs with their scores as columns")
    note = browser.find_element("xpath", "//a[text()='Runs with their scores as columns']").get_attribute("href")
    open_page(browser, note, until="6 matching runs")
    link = f"//a[contains(@href, '{parent}')]"
    wait_until(lambda: browser.find_elements("xpath", link), "the parent is not in the list")
    assert not any(browser.find_elements("xpath", f"//a[contains(@href, '{run}')]") for run in children.values())
    browser.find_element("xpath", f"{link}/ancestor::*[contains(@class, 'ag-cell-value')][1]//button").click()
    for name, child in children.items():
        found = wait_until(
            lambda child=child: browser.find_elements("xpath", f"//a[contains(@href, '{child}')]"),
            f"{name} is not nested",
        )
        assert found[0].text == "pruned " * (name == PRUNED) + name
    screenshot(browser, tmp_path / "runs.png")
    lines = page_text(browser).splitlines()
    assert {"val/delta_teacher", "val/semseg/mIoU", "val/depth/rmse", "distill.beta"} <= set(lines), lines
    assert "Playground" not in lines  # of the other view, of language models
    failed, pruned, finished = (colours_of(browser, children[name]) for name in (FAILED, PRUNED, "b1 T3 s0"))
    assert pruned == finished != failed


def test_a_member_shows_its_data_its_model_and_what_it_differs_in(browser, address, recorded, tmp_path):
    tracking, _, children = recorded
    experiment, best = tracking.experiment("rooms", "beta_temp"), children["b2 T3 s0"]
    open_page(browser, f"{address}/#/experiments/{experiment}/runs/{best}?{IN_TRAINING}", until="Logged models (1)")
    text = page_text(browser)
    for shown in ("rooms train (feedc0ffee)", "Parameters (2)", "Finished", "Ready"):
        assert shown in text
    screenshot(browser, tmp_path / "member.png")


def test_the_note_of_a_sweep_links_to_its_finished_members_compared(browser, address, recorded, tmp_path):
    tracking, parent, _ = recorded
    experiment = tracking.experiment("rooms", "beta_temp")
    open_page(browser, f"{address}/#/experiments/{experiment}/runs/{parent}?{IN_TRAINING}", until="Compare the 3")
    assert "Table 5" in page_text(browser)
    screenshot(browser, tmp_path / "sweep.png")
    compare = browser.find_element("xpath", "//a[contains(@href, 'compare-runs')]").get_attribute("href")
    open_page(browser, compare, until="val/semseg/mIoU")
    text = page_text(browser)
    assert "Comparing 3 Runs from 1 Experiment" in text
    lines = text.splitlines()
    for metric in ("val/semseg/mIoU", "val/depth/rmse", "val/normals/mErr", "val/edge/odsF", "train/loss"):
        assert metric in lines, text
    for beta in BETAS:
        assert f"{12 + beta:g}" in lines  # mIoU of the last epoch
        assert f"{1.25 - beta / 4:g}" in lines
        assert f"b{beta:g} T3 s0" in lines
    assert any(line.startswith("distill.beta ") and set(line.split()[1:]) == {"0.5", "1.0", "2.0"} for line in lines)
    assert "optim.lr" not in text  # what never differs is the sweep's
    screenshot(browser, tmp_path / "compare.png")
