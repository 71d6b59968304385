"""Messages of errors: each says what was expected or what to do. A test walks all that the package raises."""

import ast
import re
from pathlib import Path

import pytest

import zflipon
from zflipon import errors

PACKAGE = Path(zflipon.__file__).parent

ADVICE = re.compile(
    r"expected|must|should|give|use |name |choose|check|instead|needs|set |correct|save |add |remove|run |rename|"
    r"only|not supported|which (has|are)|did you mean|[?(;]",
    re.IGNORECASE,
)
"""Words of a message that says what was expected or what to do; a second half after a semicolon is advice, too."""

SELF_EXPLANATORY = re.compile(r"no such file|unknown setting")
"""Messages whose remedy is evident."""

CLASSES = {
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.ZfliponError) and name != "MissingExtraError"
}


def message_of(node: ast.expr) -> str:
    """Return the text of a message; values are ``{}``."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    if isinstance(node, ast.BinOp):
        return message_of(node.left) + message_of(node.right)
    return ""


def raised_messages() -> list[tuple[str, str, str]]:
    """Return file and line, class, and message of each ``raise`` whose message has a text."""
    messages = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call) or not node.exc.args:
                continue
            name = node.exc.func.id if isinstance(node.exc.func, ast.Name) else ""
            message = message_of(node.exc.args[0])
            # a message that consists of values was composed elsewhere
            if name in CLASSES and re.search("[a-z]{3}", message.replace("{}", "")):
                messages.append((f"{path.relative_to(PACKAGE)}:{node.lineno}", name, message))
    return messages


MESSAGES = raised_messages()


def test_all_classes_that_have_messages_in_the_code_are_walked():
    assert len(MESSAGES) > 280
    assert {"InputError", "OutputError", "ModelError", "RecipeError", "ZfliponError"} <= {
        m[1] for m in MESSAGES
    }


@pytest.mark.parametrize(("place", "message"), [(place, message) for place, _, message in MESSAGES])
def test_a_message_says_what_was_expected_or_what_to_do(place, message):
    assert ADVICE.search(message) or SELF_EXPLANATORY.search(message) or message.endswith("{}"), place


@pytest.mark.parametrize(("place", "message"), [(place, message) for place, _, message in MESSAGES])
def test_a_message_is_one_line_without_a_full_stop(place, message):
    assert "\n" not in message, place
    assert not message.endswith("."), place


def test_a_missing_package_is_named_with_the_command_that_installs_it():
    error = errors.MissingExtraError("a plot", "matplotlib", "plot")
    assert str(error) == "a plot needs matplotlib, which is not installed: pip install 'zflipon[plot]'"


def test_names_are_shortened_and_similar_ones_suggested():
    assert errors.format_names("abcdefg", 3) == "a, b, c and 4 more"
    assert errors.suggest("chr11", ["chr1", "chrX"]) == " (did you mean 'chr1'?)"
    assert errors.suggest("plasmid", ["chr1", "chrX"]) == ""


def test_control_characters_are_escaped():
    assert errors.printable("chr1\x1b[31m\n\u202e") == "chr1\\x1b[31m\\n\\u202e"
