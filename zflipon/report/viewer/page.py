"""The page that shows tracks: igv.js above a list of calls, one click away each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 0; color: #222; display: flex; height: 100vh; }
nav { width: 21rem; flex: none; overflow-y: auto; border-right: 1px solid #ccc; padding: 0.5rem;
  box-sizing: border-box; }
main { flex: 1; overflow: auto; padding: 0.5rem; }
h1 { font-size: 1rem; margin: 0 0 0.3rem; }
p { margin: 0 0 0.5rem; color: #666; font-size: 0.8rem; }
button { display: flex; width: 100%; border: 0; background: none; font: inherit; font-size: 0.8rem;
  padding: 0.15rem 0.3rem; cursor: pointer; text-align: left; justify-content: space-between; gap: 0.5rem; }
button:hover, button:focus { background: #eee8f5; }
button[aria-current="true"] { background: #d9cbe9; }
.score { color: #4a1486; font-variant-numeric: tabular-nums; }
#error { color: #a00; }
"""

_SCRIPT = """
const told = JSON.parse(document.getElementById("told").textContent);
const buttons = [...document.querySelectorAll("nav button")];
function fail(error) { document.getElementById("error").textContent = String(error && error.message || error); }
igv.createBrowser(document.getElementById("igv"), told).then(browser => {
  window.browser = browser;
  buttons.forEach(button => button.addEventListener("click", () => {
    buttons.forEach(other => other.removeAttribute("aria-current"));
    button.setAttribute("aria-current", "true");
    browser.search(button.dataset.locus).catch(fail);
  }));
  document.body.dataset.ready = "true";
}).catch(fail);
"""


@dataclass(frozen=True)
class Locus:
    """A call of the list.

    Attributes
    ----------
    name : str
        Contig, start and end, as people write them.
    shown : str
        What the browser is to show: the call with its neighbourhood.
    score : float or None
        Mean probability.
    """

    name: str
    shown: str
    score: float | None


def page(title: str, settings: Mapping[str, object], loci: Sequence[Locus], told: str) -> str:
    """Return the page: HTML.

    Parameters
    ----------
    title : str
    settings : mapping
        Of igv.js: reference, tracks and locus.
    loci : sequence of Locus
    told : str
        What the list is.
    """
    buttons = "\n".join(
        f'<button data-locus="{escape(locus.shown)}"><span>{escape(locus.name)}</span>'
        f'<span class="score">{"" if locus.score is None else f"{locus.score:.3f}"}</span></button>'
        for locus in loci
    )
    # an end of a script inside the JSON would end the element
    content = json.dumps(settings).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style></head>
<body>
<nav><h1>{escape(title)}</h1><p>{escape(told)}</p>
{buttons}
</nav>
<main><div id="error" role="alert"></div><div id="igv"></div></main>
<script id="told" type="application/json">{content}</script>
<script src="/igv.js"></script>
<script>{_SCRIPT}</script>
</body>
</html>
"""
