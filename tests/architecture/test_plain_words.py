"""Plain words: no phrase that makes a reader stumble in names, docstrings, comments, messages and pages."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CHECKED = [
    "zflipon",
    "tests",
    "benchmarks",
    "docs",
    "examples",
    "packaging",
    "train",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
]
"""Files and folders that are free of these phrases."""

SUFFIXES = {".py", ".md", ".toml", ".sh", ".html", ".j2", ".css", ".js", ".yml", ".yaml", ".cfg"}

EVERYWHERE = {
    "a program does not talk: write 'prints', 'returns', 'reports', 'the message says'": (
        r"tol[d]", r"tell[s]?", r"hear[sd]", r"says? o[f]", r"said b[y]",
        r"what (?:a|an|the) \w+ (?:says|tells|has|reads|sees|needs)", r"what it (?:has|says|tells|reads)",
    ),
    "use a noun of the field: metadata, record, description": (r"stor(?:y|ies)", r"twin[s]?"),
    "old turns of phrase": (
        r"of elsewher[e]", r"in the place o[f]", r"to be ha[d]", r"goes for nothin[g]", r"that whic[h]", r"want o[f]",
        r"what comes o[f]", r"came i[n]", r"go(?:es)? o[n]", r"by itsel[f]", r"of (?:its|their) ow[n]",
    ),
    "write a number or 'up to'": (r"so man[y]", r"as many a[s]"),
    "write 'compared with', 'next to', 'in'": (
        r"held agains[t]", r"lies? (?:beside|beneath|under|on)", r"beside (?:it|them|each|the|an|a|this|that)",
        r"laid (?:out|down|side)",
    ),
}  # fmt: skip
"""Advice → patterns of whole words, ignoring case. The brackets keep this file free of the phrases."""

IN_CODE = {"write the noun": (r"what i[s]",)}
"""The same for files other than Markdown."""

DEFINITION = re.compile(
    r"\b(?:def|class)\s+_?(told|kept|asked|seen|joined|settled|agreed|found|said|shown|given|taken|made|known|around|"
    r"ahead|along|beside|beneath|below_each_other|in_flight|what|whole|thing|stuff|utils?|helpers?)\b"
)
"""Definitions of functions and classes whose names do not say what they do or are."""


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--", *CHECKED], cwd=ROOT, capture_output=True, text=True, check=True
    )
    paths = [ROOT / name for name in listed.stdout.splitlines()]
    return [path for path in paths if path.suffix in SUFFIXES and path.name != Path(__file__).name]


def problems(text: str, suffix: str) -> list[str]:
    """Return line number, phrase and advice of every phrase in a text."""
    rules = EVERYWHERE if suffix == ".md" else EVERYWHERE | IN_CODE
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        for advice, patterns in rules.items():
            for match in re.finditer(rf"\b(?:{'|'.join(patterns)})\b", line, re.IGNORECASE):
                found.append(f"{number}: {match[0]!r}: {advice}")
        if suffix == ".py" and (match := DEFINITION.search(line)):
            found.append(f"{number}: {match[1]!r} is a vague name")
        if re.search(r"\b(?:is|are) non[e]\b", line):
            found.append(f"{number}: 'none' as a predicate: write 'there is no …'")
    return found


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the list of files comes from git")
def test_checked_files_use_plain_words():
    files = tracked_files()
    assert files
    wrong = [
        f"{path.relative_to(ROOT)}:{problem}"
        for path in files
        for problem in problems(path.read_text(encoding="utf-8"), path.suffix)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ("the record tel" + "ls it", ".md"),
        ("the rest is tol" + "d", ".py"),
        ("def ke" + "pt(x):", ".py"),
        ("# what i" + "s read", ".py"),
        ("there are non" + "e; they are non" + "e", ".py"),
    ],
)
def test_phrases_are_found(text, suffix):
    assert problems(text, suffix)


@pytest.mark.parametrize(
    "text", ["stores the toll", "def kept_rows(x):", "return None", "intellect", "retold"]
)
def test_similar_words_are_allowed(text):
    assert not problems(text, ".py")
