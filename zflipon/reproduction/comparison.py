"""Printed values next to measured ones, as text, and the list of the paper's tables as text and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from zflipon.explain.table_files import align_columns
from zflipon.reproduction.catalogue import PaperItem, paper_items, recipe_differences
from zflipon.training.result_tables import markdown_table

EQUAL = "equal"


@dataclass(frozen=True)
class Comparison:
    """A printed value and a measured one.

    Attributes
    ----------
    row : str
        Row of the table, or model.
    name : str
        Measure or token.
    paper : float or None
        As printed; None if it is not printed.
    measured : float or None
        None if there is no such figure, for example because the token does not occur.
    """

    row: str
    name: str
    paper: float | None
    measured: float | None

    @property
    def verdict(self) -> str:
        """`EQUAL` if the values differ by less than a unit of the last printed digit, else the difference."""
        if self.paper is None or self.measured is None:
            return ""
        difference = self.measured - self.paper
        return EQUAL if abs(difference) < 10.0 ** -_decimals(self.paper) else f"{difference:+.4f}"


@dataclass
class Reproduction:
    """A table of the paper, reproduced.

    Attributes
    ----------
    item : PaperItem
    comparisons : list of Comparison
    notes : list of str
        What to know about the measured values, one sentence each.
    is_comparable : bool
        Whether the measured values can be compared with the printed ones; those of small models cannot.
    """

    item: PaperItem
    comparisons: list[Comparison] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_comparable: bool = True

    def to_text(self) -> str:
        """Return the comparison as aligned columns, with title and notes."""
        rows = [
            [each.row, each.name, _printed(each.paper), _measured(each), each.verdict]
            for each in self.comparisons
        ]
        heads = ["", "", "paper", "measured", "difference"]
        if not self.is_comparable:
            rows, heads = [row[:-1] for row in rows], heads[:-1]
        number = self.item.id if self.item.id.startswith("section") else f"Table {self.item.id}"
        lines = [f"{number}: {self.item.title}", align_columns(heads, rows)]
        lines += [f"note: {note}" for note in (*self.notes, self.item.note) if note]
        return "\n".join(lines)


def _decimals(value: float) -> int:
    """Return the number of decimals of a value as it was printed."""
    return len(f"{value:.10f}".rstrip("0").partition(".")[2])


def _printed(value: float | None) -> str:
    return "" if value is None else repr(value)


def _measured(each: Comparison) -> str:
    if each.measured is None:
        return "none"
    return f"{each.measured:.10g}" if each.measured == each.paper else f"{each.measured:.4f}"


def list_items() -> str:
    """Return the tables and sections with what they need and their recipes, as text."""
    rows = [["table", "content", "needs", "recipes"]]
    rows += [
        [
            item.id,
            item.title,
            _needs(item),
            ", ".join(dict.fromkeys(row.recipe for row in item.rows if row.recipe)),
        ]
        for item in paper_items()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join(
        [*lines, "", "zflipon reproduce TABLE runs one; --as notebook uses the notebooks' recipes."]
    )


def _needs(item: PaperItem) -> str:
    return ", ".join(item.needs) or "nothing"


def items_markdown() -> str:
    """Return the tables and sections as Markdown: command, content, recipes, needs, result; then how recipes differ."""
    rows = [
        [f"`zflipon reproduce {item.id}`", item.title, _code(_recipes(item)), _needs(item), item.result]
        for item in paper_items()
    ]
    headings = ["command", "content", "recipes as printed", "needs", "result"]
    notes = [f"- **{item.id}**: {item.note}" for item in paper_items() if item.note]
    pairs = dict.fromkeys(
        (row.recipe, row.notebook) for item in paper_items() for row in item.rows if row.notebook
    )
    differences = [
        [_code([notebook]), _code([printed]), ", ".join(recipe_differences(printed, notebook))]
        for printed, notebook in pairs
    ]
    recipe_headings = ["as in the notebook", "as printed", "differs in"]
    return "\n".join(
        [
            markdown_table(headings, rows, text_columns=len(headings)),
            "",
            *notes,
            "",
            markdown_table(recipe_headings, differences, text_columns=len(recipe_headings)),
        ]
    )


def _recipes(item: PaperItem) -> list[str]:
    return list(dict.fromkeys(row.recipe for row in item.rows if row.recipe))


def _code(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
