"""The page in a real browser; skipped where there is none."""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.report.runs import TASKS, column, run_of

from shardwise.report.page import write_report

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--allow-file-access-from-files",
    "--virtual-time-budget=4000",
]
HARNESS = """<!DOCTYPE html><body>{frames}<script>
addEventListener("load", () => {{
  const sizes = [...document.querySelectorAll("iframe")].map(frame => {{
    const page = frame.contentDocument.scrollingElement;
    return [frame.name, page.scrollWidth, page.clientWidth, page.scrollHeight];
  }});
  document.body.textContent = JSON.stringify(sizes);
}});
</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_no_page_scrolls_sideways_on_a_phone(tmp_path: Path) -> None:
    for task in TASKS:
        columns = [column(f"{'long_name_' * 9}{i}", flags=["constant"]) for i in range(30)]
        asked = {"data": ["s3://bucket/" + "folder/" * 40], "target": "goal"}
        write_report(run_of(task, columns=columns, asked=asked, title="a" * 300), tmp_path / f"{task}.html")
    sizes = measured(tmp_path, {f"{task}-{width}": (f"{task}.html", width) for task in TASKS for width in (390, 1280)})
    assert len(sizes) == 2 * len(TASKS)
    for name, scroll_width, client_width, height in sizes:
        assert client_width == int(name.split("-")[1]), name
        assert scroll_width <= client_width, name
        assert height > 1000, name


def measured(folder: Path, frames: dict[str, tuple[str, int]]) -> list[tuple[str, int, int, int]]:
    """Name, scroll width, client width and scroll height of each page in a frame of the given width."""
    tags = [
        f'<iframe name="{name}" src="{html.escape(file)}" style="width:{width}px;height:800px;border:0"></iframe>'
        for name, (file, width) in frames.items()
    ]
    harness = folder / "harness.html"
    harness.write_text(HARNESS.format(frames="".join(tags)))
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={folder / 'user'}", "--dump-dom", harness.as_uri()]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=True, env={**os.environ, "HOME": str(folder)}
    )
    found = re.search(r"<body>(\[.*\])", done.stdout, re.DOTALL)
    assert found is not None, done.stdout[-2000:]
    return [tuple(size) for size in json.loads(html.unescape(found[1]))]
