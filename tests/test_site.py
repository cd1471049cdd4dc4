"""The documentation site is built strictly, and its pages load nothing from elsewhere."""

import re
import subprocess
from pathlib import Path

from tests.installing import ROOT
from tests.interop.node import require


def test_the_site_is_whole_and_by_itself(tmp_path: Path) -> None:
    require("npm")
    done = subprocess.run(
        [ROOT / "scripts" / "docs", str(tmp_path)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.relative_to(tmp_path / "html"): path.read_text() for path in (tmp_path / "html").rglob("*.html")}
    assert {Path("index.html"), Path("docs/runbook/index.html"), Path("CHANGELOG/index.html")} <= set(pages)
    loaded = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//[^>]*>""")
    assert [found for text in pages.values() for found in loaded.findall(text)] == []
    for name in ("architecture", "delivery"):
        assert '<pre class="mermaid">' in pages[Path(f"docs/{name}/index.html")]
    assert all("mermaid.min.js" in text for path, text in pages.items() if path != Path("404.html"))
