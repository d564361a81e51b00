"""What a person sees: MLflow's pages over a recorded sweep, in a real browser without a screen.

python -m pytest tests/test_ui.py --basetemp /tmp/kdam-ui     # the screenshots stay there

Needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver). Without them the test is skipped, or
fails where KDAM_REQUIRE_BROWSER=1 says that they must be there.
"""

import contextlib
import json
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
from kdam_ray.service.records.tracking import Tracking

pytestmark = pytest.mark.slow

BETAS = (0.5, 1.0, 2.0)


@pytest.fixture(scope="module", autouse=True)
def chromium() -> None:
    """Before anything is started: there is a browser, or the tests are skipped."""
    require_browser()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A sweep with three children of two epochs, written as the service writes it: (place, parent, {beta: child})."""
    place = Place(storage=str(tmp_path_factory.mktemp("runs")))
    tracking = Tracking(place.model_copy(update={"tracking_uri": f"sqlite:///{place.storage}/mlflow.db"}))
    distilled = {"teacher": "resnet_w16", "teacher_run": "0123456789ab", "distill": {"method": "plain_kd"}}
    base = change(recipe("rooms", smoke=True).student, distilled)
    sweep = Sweep(name="beta_temp", table=5, base=base, cells=tuple({"distill.beta": beta} for beta in BETAS))
    parent, children = tracking.open_parent(sweep), {}
    for beta in BETAS:
        run = change(base, {"distill.beta": beta})
        child = tracking.open_member(run, sweep=sweep.name, table=5, parent=parent, title=f"beta {beta:g}")
        for epoch in (1, 2):
            values = {
                "val/semseg/mIoU": 10 + beta + epoch,
                "val/depth/rmse": 1.25 - beta / 4,
                "val/normals/mErr": 31.5,
                "val/edge/odsF": 71.25,
            }
            tracking.log_epoch(child, values | {"train/loss": 4.0 - epoch}, epoch)
        tracking.end_member(child, "finished")
        children[beta] = child
    tracking.end_parent(parent, {}, failed=False)
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


def test_the_parent_unfolds_into_its_nested_children(browser, address, recorded, tmp_path):
    tracking, parent, children = recorded
    experiment = tracking.experiment("rooms", "beta_temp")
    open_page(browser, f"{address}/#/experiments/{experiment}/runs", until="4 matching runs")
    link = f"//a[contains(@href, '{parent}')]"
    wait_until(lambda: browser.find_elements("xpath", link), "the parent is not in the list")
    assert not any(
        browser.find_elements("xpath", f"//a[contains(@href, '{child}')]") for child in children.values()
    )  # folded
    browser.find_element("xpath", f"{link}/ancestor::*[contains(@class, 'ag-cell-value')][1]//button").click()
    for beta, child in children.items():
        found = wait_until(
            lambda child=child: browser.find_elements("xpath", f"//a[contains(@href, '{child}')]"),
            f"beta {beta} is not nested",
        )
        assert found[0].text == f"beta {beta:g}"
    screenshot(browser, tmp_path / "nested.png")


def test_children_are_compared_by_their_val_metrics(browser, address, recorded, tmp_path):
    tracking, _, children = recorded
    experiment = tracking.experiment("rooms", "beta_temp")
    query = f"runs={json.dumps(list(children.values()), separators=(',', ':'))}&experiments={json.dumps([experiment])}"
    open_page(browser, f"{address}/#/compare-runs?{query}", until="val/semseg/mIoU")
    text = page_text(browser)
    assert "Comparing 3 Runs from 1 Experiment" in text
    lines = text.splitlines()
    for metric in ("val/semseg/mIoU", "val/depth/rmse", "val/normals/mErr", "val/edge/odsF", "train/loss"):
        assert metric in lines, text
    for beta in BETAS:
        assert f"{12 + beta:g}" in lines  # mIoU of the last epoch
        assert f"{1.25 - beta / 4:g}" in lines
        assert f"beta {beta:g}" in lines
    assert any(line.startswith("distill.beta ") and set(line.split()[1:]) == {"0.5", "1.0", "2.0"} for line in lines)
    screenshot(browser, tmp_path / "compare.png")
    metrics = browser.find_elements("xpath", "//*[text()='val/semseg/mIoU']")[-1]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", metrics)
    screenshot(browser, tmp_path / "compare-metrics.png")
