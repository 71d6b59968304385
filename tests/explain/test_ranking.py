"""Rankings equal deviations computed by hand, and the rankings of the paper."""

import csv
import math
import os

import numpy as np
import pytest
from click.testing import CliRunner

from zflipon.cli import cli
from zflipon.errors import InputError, OutputError, ZfliponError
from zflipon.explain.ranking import (
    SINGLE_MODEL,
    parse_model_of,
    percent_deviations,
    rank_tokens,
)
from zflipon.explain.table_files import read_table, write_table
from zflipon.reproduction.catalogue import TABLES

PUBLISHED = TABLES
"""Tables and rankings of Libina & Skvortsova (2025), published by the authors."""


@pytest.fixture
def tables(tmp_path):
    """Return three tables in three styles, with means of 2, 4 and 2."""
    return [
        write(
            tmp_path / "one_tp.csv", "token,tp,total,tp_percent\nX,1,1,4\nY,1,1,1\nZ,1,1,1\n"
        ),  # 100, -50, -50
        write(tmp_path / "one_ig.csv", ",Token,Count,Score\n0,X,9,5\n1,Y,9,3\n"),  # 25, -25
        write(tmp_path / "two_ig.csv", "TOKEN\tMean_Score\nW\t1\nX\t3\n"),  # -50, 50
    ]


MODEL_OF = {"one_*": "one", "two_ig.csv": "two"}


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def by_token(ranking, values):
    return dict(ranking.top(values, len(ranking.tokens)))


def run(*arguments):
    return CliRunner().invoke(cli, ["explain", "rank", *map(str, arguments)])


def test_deviation_is_in_percent_of_the_mean():
    assert percent_deviations({"X": 3.0, "Y": 1.0, "Z": 2.0}) == {"X": 50, "Y": -50, "Z": 0}


def test_a_model_is_averaged_over_the_methods_that_have_the_token(tables):
    ranking = rank_tokens(tables, MODEL_OF)
    assert ranking.models == ("one", "two")
    assert by_token(ranking, ranking.model_deviations("one")) == {"X": 62.5, "Y": -37.5, "Z": -50}
    assert by_token(ranking, ranking.model_deviations("two")) == {"X": 50, "W": -50}


def test_across_models_a_model_without_the_token_counts_zero_for_each_of_its_methods(tables):
    ranking = rank_tokens(tables, MODEL_OF)
    assert ranking.tokens == ("X", "W", "Y", "Z")
    # Z: one of one's two methods has it, and two's one method counts 0
    np.testing.assert_allclose(ranking.mean_deviations(), [175 / 3, -50 / 3, -75 / 3, -50 / 2])


def test_equal_deviations_are_in_alphabetical_order(tmp_path):
    path = write(tmp_path / "t.csv", "token,score\nT,1\nC,1\nA,1\nG,5\n")
    assert rank_tokens([path]).tokens == ("G", "A", "C", "T")


def test_tables_without_a_model_count_as_one_model(tables):
    ranking = rank_tokens(tables)
    assert ranking.models == (SINGLE_MODEL,)
    np.testing.assert_allclose(ranking.mean_deviations(), ranking.model_deviations(SINGLE_MODEL))
    assert by_token(ranking, ranking.mean_deviations())["Z"] == -50


def test_tables_of_zflipon_name_their_model(tmp_path, tables):
    mine = tmp_path / "mine.csv"
    write_table(mine, {"model": "compact"}, ["token", "score"], [["X", 1.0]])
    assert rank_tokens([mine]).models == ("compact",)
    assert rank_tokens([mine, *tables], MODEL_OF).models == ("compact", "one", "two")
    assert rank_tokens([mine], {"mine.csv": "other"}).models == ("other",)
    with pytest.raises(InputError, match=r"two_ig\.csv: model unknown"):
        rank_tokens([mine, tables[2]])


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_other_programs_are_read(tmp_path, separator):
    text = "\ufeff" + separator.join(["n", " ToKeN", "SCORE "]) + "\r\n"
    text += (
        "\r\n".join(separator.join(row) for row in (["0", '"CG"', "1e-1"], ["1", "[CLS]", "0.3"]))
        + "\r\n\r\n"
    )
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode())
    np.testing.assert_allclose(rank_tokens([path]).mean_deviations(), [50, -50])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "table is empty"),
        ("token,score\n", "no tokens, only column names"),
        ("word,score\nCG,1\n", "no usable columns; expected token, and one of score, mean_score, tp_percent"),
        ("token,count\nCG,1\n", "no usable columns.*found token, count"),
        ("token,score\nCG,1\nTG,high\n", "line 3: score must be a number, found 'high'"),
        ("token,score\nCG,\n", "line 2: score must be a number, found ''"),
        ("token,score\nCG,nan\n", "line 2: score must be a number"),
        ("token,score\nCG,1\nCG,2\n", "line 3: token 'CG' occurs again"),
        ("token,score\n,1\n", "line 2: no token"),
        ("token,score\nCG,1,2\n", "line 2: expected 2 fields"),
        ('token,score\n"CG,1\nTG,2\n', "line 2: expected 2 fields"),
        (f"token,score\n{'C' * 140_000},1\n", "line 2: cannot be read as a row"),
        ("token,score\nCG,0\nTG,0\n", "mean of score must be greater than 0"),
        ("token,score\nCG,1\nTG,-2\n", "mean of score must be greater than 0.*-0.5"),
    ],
)
def test_unusable_tables_are_one_clear_error(tmp_path, text, message):
    path = write(tmp_path / "bad.csv", text)
    with pytest.raises(InputError, match=f"bad.csv.*{message}"):
        rank_tokens([path])


def test_files_that_are_not_tables(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        rank_tokens([tmp_path / "absent.csv"])
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a regular file"):
        rank_tokens([tmp_path / "pipe"])
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="not a text file"):
        rank_tokens([tmp_path / "binary"])


def test_contradictory_models_are_refused(tables):
    with pytest.raises(InputError, match="given twice"):
        rank_tokens([tables[0], tables[0]])
    with pytest.raises(InputError, match=r"three_\*: no table has this name"):
        rank_tokens(tables, {**MODEL_OF, "three_*": "three"})
    with pytest.raises(InputError, match="several models, one, other"):
        rank_tokens(tables, {**MODEL_OF, "*_tp.csv": "other"})
    with pytest.raises(InputError, match="expected FILE=MODEL"):
        parse_model_of(["gena.csv"])
    with pytest.raises(InputError, match="just before"):
        parse_model_of(["a.csv=one", "a.csv=two"])
    assert parse_model_of(["a=b.csv=one"]) == {"a=b.csv": "one"}


def test_tables_with_the_same_name_in_two_folders(tmp_path):
    paths = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        paths.append(write(tmp_path / folder / "tp.csv", "token,score\nCG,1\n"))
    ranking = rank_tokens(paths, {str(path): path.parent.name for path in paths})
    assert ranking.models == ("one", "two")
    assert len(set(ranking.columns())) == len(ranking.columns())


def test_the_csv_file(tmp_path, tables):
    out = tmp_path / "ranking.csv"
    done = run(*tables, "--model-of", "one_*=one", "--model-of", "two_*=two", "-o", out)
    assert done.exit_code == 0, done.output
    header = read_table(out).header
    assert header["model"] == "one, two"
    assert header["data of one"] == "one_tp, one_ig"
    assert "counts 0" in header["mean_deviation"]
    rows = list(csv.DictReader(line for line in out.read_text().splitlines() if not line.startswith("#")))
    assert [row["token"] for row in rows] == ["X", "W", "Y", "Z"]
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert math.isclose(float(rows[0]["mean_deviation"]), 175 / 3)
    assert rows[1]["mean_deviation one"] == ""  # model one lacks W
    assert float(rows[3]["deviation one_tp"]) == -50
    assert rows[3]["deviation one_ig"] == ""


def test_the_console(tables):
    done = run(*tables, "--model-of", "one_*=one", "--model-of", "two_*=two", "--top", 2)
    assert done.stdout.splitlines()[1:] == [
        "   token     one  token     two  token  across models",
        "1  X       62.50  X       50.00  X              58.33",
        "2  Y      -37.50  W      -50.00  W             -16.67",
    ]
    done = run(*tables, "-o", "-")
    assert done.stdout.startswith("# zflipon: ")
    assert "all tables" in done.stderr


def test_an_existing_output_is_kept_without_force(tmp_path, tables):
    out = write(tmp_path / "out.csv", "mine")
    done = run(tables[0], "-o", out)
    assert isinstance(done.exception, OutputError)
    assert out.read_text() == "mine"
    assert run(tables[0], "-o", out, "--force").exit_code == 0
    assert out.read_text() != "mine"


def test_a_missing_file_is_a_zflipon_error(tmp_path):
    assert isinstance(run(tmp_path / "absent.csv").exception, ZfliponError)


# ---- the rankings of the paper ---------------------------------------------------------------------------

METHOD_TABLES = {
    "GENA-LM": ["gena_integrated_gradients.csv", "gena_tp_ratio.csv"],
    "DNABERT-2": ["dnabert2_integrated_gradients.csv", "dnabert2_tp_ratio.csv"],
}


def published_ranking(name):
    """Return token → mean deviation of a ranking by the authors."""
    with open(PUBLISHED / name, newline="") as file:
        return {row[0]: float(row[1]) for row in list(csv.reader(file))[1:]}


@pytest.mark.parametrize(
    ("model", "name"), [("GENA-LM", "gena_mean_dev.csv"), ("DNABERT-2", "dnabert2_mean_dev.csv")]
)
def test_table_5_7_ranks_one_model(model, name):
    ranking = rank_tokens([PUBLISHED / table for table in METHOD_TABLES[model]])
    expected = published_ranking(name)
    assert by_token(ranking, ranking.mean_deviations()) == pytest.approx(expected, abs=1e-6)
    assert list(ranking.tokens[:10]) == sorted(expected, key=expected.get, reverse=True)[:10]


def test_table_5_8_ranks_both_models_by_a_left_join():
    tables = [PUBLISHED / table for model in ("DNABERT-2", "GENA-LM") for table in METHOD_TABLES[model]]
    model_of = {"gena_*": "GENA-LM", "dnabert2_*": "DNABERT-2"}
    ranking = rank_tokens(tables, model_of, join="left")
    expected = published_ranking("both_mean_dev.csv")
    assert len(ranking.tokens) == 351
    assert by_token(ranking, ranking.mean_deviations()) == pytest.approx(expected, abs=1e-6)
    assert ranking.tokens[:3] == ("GCGC", "GCGTG", "CCCGC")
    outer = rank_tokens(tables, model_of)
    assert by_token(outer, outer.mean_deviations())["GCGC"] != pytest.approx(expected["GCGC"], rel=0.1)


def test_the_command_joins_tables(tables):
    result = run(
        *tables[::-1], "--model-of", "one_*=one", "--model-of", "two_*=two", "--join", "left", "-o", "-"
    )
    rows = [line.split(",") for line in result.stdout.splitlines() if not line.startswith("#")]
    # scores W: 1, 0, 0 and X: 3, 5, 4; deviations from the means 2, 2.5 and 2
    assert [row[1] for row in rows[1:]] == ["X", "W"]
    assert float(rows[1][2]) == pytest.approx((50 + 100 + 100) / 3)
    assert "a missing score is 0" in result.stdout


def test_a_left_join_needs_common_tokens(tmp_path, tables):
    other = write(tmp_path / "other.csv", "token,score\nQ,1\n")
    with pytest.raises(InputError, match="other: no token in common with one_tp, the first table"):
        rank_tokens([tables[0], other], join="left")
    with pytest.raises(InputError, match="unknown join 'inner'"):
        rank_tokens(tables, join="inner")
