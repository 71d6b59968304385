"""Results of one class of cases: tried, fine, fault."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Report:
    """Results of one class of cases.

    Attributes
    ----------
    name : str
    tried : int
    refused, same, other : int
        Cases that ended with a message of one line, with the result of the clean input, or with another result.
    faults : list of (str, str)
        Kind of each fault, and its case.
    skipped : str
        Why the class was not tried, empty if it was.
    """

    name: str
    tried: int = 0
    refused: int = 0
    same: int = 0
    other: int = 0
    faults: list[tuple[str, str]] = field(default_factory=list)
    skipped: str = ""

    HEADER = f"{'class':34}{'tried':>7}{'fine':>7}{'refused':>9}{'same':>7}{'other':>7}{'fault':>7}"

    def add_fault(self, fault: str, case: str) -> None:
        """Count a fault; its kind is the text before the first colon."""
        self.faults.append((fault.partition(":")[0], case))

    def __str__(self) -> str:
        """Return the row of a table, with the kinds of faults at its end."""
        if self.skipped:
            return f"{self.name:34}  not tried: {self.skipped}"
        kinds = Counter(kind for kind, _ in self.faults)
        counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        fine = self.tried - len(self.faults)
        row = f"{self.name:34}{self.tried:7}{fine:7}{self.refused:9}{self.same:7}{self.other:7}{len(self.faults):7}"
        return f"{row}  {counted}".rstrip()
