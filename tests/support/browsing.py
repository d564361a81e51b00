"""A real browser without a screen, for tests of pages; they are skipped where there is none.

Needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver). Without them a test is skipped, or
fails where KDAM_REQUIRE_BROWSER=1 says that they must be there.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import pytest

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
PATIENCE = 90  # seconds for a page on a loaded machine
FLAGS = ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-dev-shm-usage")

Found = TypeVar("Found")


def require_browser() -> None:
    """Goes on if there is a browser; else the test is skipped, or fails where there must be one."""
    if not (BROWSER and DRIVER):
        reason = "no chromium and chromedriver on the PATH (Debian: apt-get install chromium chromium-driver)"
        pytest.fail(reason) if os.environ.get("KDAM_REQUIRE_BROWSER") == "1" else pytest.skip(reason)


@contextmanager
def open_browser(profile: Path) -> Iterator[Any]:
    """A driver of a browser that keeps its profile in that folder, 1900 x 1200 pixels."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={profile}")
    options.add_argument("--window-size=1900,1200")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def wait_until(true: Callable[[], Found], message: str, seconds: float = PATIENCE) -> Found:
    """What `true` gives as soon as that is something; the test fails with the message where it takes too long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := true():
            return value
        time.sleep(0.5)
    pytest.fail(message)


def emulate(driver: Any, *, width: int, dark: bool = False) -> None:
    """A window of that many CSS pixels, and what its user prefers."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def violations(driver: Any) -> list[str]:
    """What axe finds wrong on the open page: each rule with the first element that breaks it, contrast told everywhere.

    axe (MPL-2.0) comes with the package axe-core-python and is run as it is; nothing is loaded.
    """
    driver.execute_script(files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    driver.execute_script(  # over a gradient, and of what is folded, it could not tell the contrast
        "document.querySelectorAll('.wide').forEach((element) => element.style.background = 'none');"
        "document.querySelectorAll('details').forEach((element) => element.open = true)"
    )
    found = driver.execute_async_script(
        "const done = arguments[arguments.length - 1]; axe.run().then(done, (error) => done({error: String(error)}))"
    )
    assert "error" not in found, found["error"]
    assert "color-contrast" in [item["id"] for item in found["passes"]]
    drawn = "<text"  # letters of a drawing, among lines: no tool can tell what is behind them
    untold = [
        item | {"nodes": nodes}
        for item in found["incomplete"]
        if (nodes := [node for node in item["nodes"] if not node["html"].startswith(drawn)])
    ]
    return [
        f"{item['id']}: {item['help']}: {item['nodes'][0]['html'][:200]}" for item in (*found["violations"], *untold)
    ]
