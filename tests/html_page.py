"""A parser for the tests: tables, figures and links of an HTML page."""

from html.parser import HTMLParser

VOID = {"meta", "input", "br"}


class HtmlPage(HTMLParser):
    """Parses a page; `unclosed` is empty if its elements are nested correctly."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.figures, self.links, self.headings = {}, [], [], []
        self.external, self.unclosed = [], []
        self._table = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in VOID:
            self.unclosed.append(tag)
        if tag == "table":
            self._table = self.tables.setdefault(attrs["id"], [])
        elif tag == "tr":
            self._table.append([])
        elif tag in ("td", "th"):
            self._table[-1].append("")
        elif tag == "svg":
            self.figures.append(attrs["id"])
        elif tag == "a":
            self.links.append(attrs["href"])
        elif tag in ("h1", "h2", "h3"):
            self.headings.append("")
        if tag in ("script", "link", "img", "iframe") or "src" in attrs:
            self.external.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.unclosed.pop() == tag

    def handle_data(self, data):
        if any(tag in ("td", "th") for tag in self.unclosed):
            self._table[-1][-1] += data
        elif any(tag in ("h1", "h2", "h3") for tag in self.unclosed):
            self.headings[-1] += data


def read_page(folder):
    """Parse the report in a bundle."""
    page = HtmlPage((folder / "index.html").read_text(encoding="utf-8"))
    assert not page.unclosed
    return page
