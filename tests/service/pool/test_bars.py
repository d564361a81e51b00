"""Bars on a terminal: drawn above nothing else, gone when they are closed.

python -m pytest tests/service/pool/test_bars.py
"""

import sys

from kdam_ray.service.pool.bars import Bars


def test_bars_come_and_go(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert Bars.wanted()
    stdout = sys.stdout
    bars = Bars()
    bars.show("cohort 1/2", 0.25, "epoch 1/4")
    assert sys.stdout is stdout  # a document is printed there
    print("a line", file=sys.stderr)
    bars.show("cohort 1/2", 0.5, "epoch 2/4")
    bars.end("cohort 1/2")
    bars.end("cohort 1/2")
    bars.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert "a line\n" in err.replace("\r", "")


def test_a_log_gets_none():
    assert not Bars.wanted()
