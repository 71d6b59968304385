"""``zflipon explain attributions``: Integrated Gradients, as tables of tokens and as a track."""

from __future__ import annotations

from pathlib import Path

import click

from zflipon.cli.explain.options import part_option, table_threshold_option
from zflipon.cli.options import (
    InputPath,
    complete_contigs,
    contigs_option,
    default_of,
    device_option,
    features_option,
    force_option,
    limit_threads,
    log_to_stderr,
    missing_features_option,
    model_option,
    print_line,
    quiet_option,
    threads_option,
)
from zflipon.config import ARGMAX, ATTRIBUTION_SCALARS, BASELINES, AttributionConfig

EPILOG = """\b
Examples:
  zflipon explain attributions hg38.fa -o scores.csv --labels kouzine.bed --model runs/dnabert2 --window 128
  zflipon explain attributions hg19.fa -o paper.csv --labels kouzine.bed --model runs/dnabert2 --part test --like-paper
  zflipon explain attributions hg38.fa -o why.bw --region chr1:1,000,001-1,002,000
  zflipon explain attributions promoters/test.csv -o scores.csv --model runs/promoters
"""

_SEQUENCE_EXTENSIONS = (".csv", ".tsv", ".txt")
_DELTA_COLUMNS = ("sequence", "start", "end", "output", "reference", "attributed", "delta", "steps")


@click.command(epilog=EPILOG)
@click.argument("source", type=InputPath(), metavar="GENOME|TABLE")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Repeatable: .csv for the table of tokens over true positives, .bw for the signed attribution of each base.",
)
@click.option(
    "--deltas",
    type=click.Path(path_type=Path),
    metavar="OUT.csv",
    help="Write the completeness error of each attribution.",
)
@model_option
@click.option(
    "--labels", type=click.Path(path_type=Path), metavar="BED", help="Known Z-DNA, for the table of a genome."
)
@click.option(
    "--blacklist",
    type=click.Path(path_type=Path),
    metavar="BED",
    help="Leave windows that touch these regions out of the table.",
)
@click.option(
    "--window", type=click.IntRange(1), help="Bases of a window of the table.  [default: those of the model]"
)
@part_option
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help="Use a random sample of N labelled windows or sequences for the table.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed of --limit.")
@click.option(
    "-r",
    "--region",
    "regions",
    multiple=True,
    metavar="CHR:START-END",
    shell_complete=complete_contigs,
    help="Region of the track, 1-based; repeatable.",
)
@click.option(
    "--regions",
    "regions_bed",
    type=click.Path(),
    metavar="BED",
    help="Regions of the track, from a BED file.",
)
@contigs_option
@click.option(
    "--bases",
    type=click.Choice(["called", "all"]),
    default="called",
    show_default=True,
    help="Bases of a window whose mean output the track explains.",
)
@table_threshold_option(min_open=False)
@click.option(
    "--like-paper",
    is_flag=True,
    help="As in the paper: --baseline pad --scalar probability --threshold argmax (Tables 4.3 to 4.6 and 5.5).",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=default_of(AttributionConfig, "steps"),
    show_default=True,
    help="Interpolation steps from the baseline to the sequence; more steps give a smaller completeness error.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, min_open=True),
    metavar="SHARE",
    help="Double the steps of attributions whose relative completeness error is larger, such as 0.01.  "
    "[default: always --steps]",
)
@click.option(
    "--baseline",
    type=click.Choice(BASELINES),
    default=default_of(AttributionConfig, "baseline"),
    show_default=True,
    help="Embedding of tokens in the baseline: the mean of all tokens, that of padding (as in the paper), or 0.",
)
@click.option(
    "--scalar",
    type=click.Choice(ATTRIBUTION_SCALARS),
    default=default_of(AttributionConfig, "scalar"),
    show_default=True,
    help="Output that is explained (in the paper: probability).",
)
@click.option(
    "--top",
    type=click.IntRange(1),
    default=default_of(AttributionConfig, "top"),
    show_default=True,
    help="Highest-scoring tokens that count for each true positive token.",
)
@click.option("--raw", is_flag=True, help="Do not normalise the scores of each attribution in the table.")
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    help="Rows (sequences × steps) of a forward pass.  [default: depends on the device]",
)
@features_option
@missing_features_option
@device_option
@threads_option
@force_option
@quiet_option
def attributions(
    source, outputs, deltas, model, labels, blacklist, window, part, limit, seed, regions, regions_bed, contigs,
    bases, threshold, like_paper, steps, tolerance, baseline, scalar, top, raw, batch_size, features, missing_features,
    device, threads, force, quiet,
) -> None:  # fmt: skip
    """Attribute the calls of a model to tokens and bases, by Integrated Gradients.

    The source is a GENOME (FASTA) or, for a model that classifies whole sequences, a TABLE of sequences and labels.
    Scores are signed: the contribution of a token or base to the log-odds (or --scalar probability) of Z-DNA, compared
    with a baseline without sequence.
    """
    limit_threads(threads)
    log_to_stderr(quiet)
    tables, tracks = _split_outputs(outputs, regions or regions_bed, source, labels)
    if like_paper:
        baseline, scalar, threshold = _paper_settings(baseline, scalar, threshold)
    if part and (not tables or source.suffix.lower() in _SEQUENCE_EXTENSIONS):
        raise click.UsageError("--part needs a genome and a table (.csv) as output")
    if tracks and threshold == ARGMAX:
        raise click.UsageError("a track needs a number as --threshold")

    from zflipon.config import Selection
    from zflipon.explain.attribution import describe_completeness
    from zflipon.explain.integrated_gradients import OBJECTIVES, IntegratedGradientsExplainer
    from zflipon.explain.table_files import write_table
    from zflipon.explain.token_tables import table_header
    from zflipon.models import load
    from zflipon.tracks.atomic import check_output_path

    for path in (*outputs, *((deltas,) if deltas else ())):
        check_output_path(path, force)
    checkpoint = load(model, OBJECTIVES)
    config = AttributionConfig(steps, tolerance, baseline, scalar, batch_size, top, not raw)
    omics = _open_omics(checkpoint, source, features, missing_features)
    explainer = IntegratedGradientsExplainer(checkpoint, config, device, omics)
    threshold = checkpoint.metadata.threshold if threshold is None else threshold

    def header(settings: dict, title: str) -> dict[str, object]:
        model_lines = {"model": checkpoint.name, "sha256": checkpoint.sha256}
        data_lines = {"source": source.name, "threshold": threshold, **settings}
        return table_header(explainer, model_lines, data_lines, title)

    results, settings = [], {}
    if tables:
        settings = _table_settings(
            labels, blacklist, window or checkpoint.metadata.window, contigs, limit, seed
        )
        settings |= {"part": part} if part else {}
        run = (model, part) if part else None
        data = _read_labelled(source, checkpoint.metadata, labels, blacklist, settings, run)
        results += _write_tables(tables, explainer, data, threshold, settings, header, quiet)
    if tracks:
        settings |= {
            "regions": list(regions),
            "regions_bed": regions_bed,
            "contigs": list(contigs),
            "bases": bases,
        }
        selection = Selection(tuple(regions), regions_bed, contigs)
        results += _write_tracks(tracks, explainer, source, selection, threshold, bases == "all", quiet)
    if deltas:
        rows = (_completeness_row(interval, attribution) for interval, attribution in results)
        write_table(deltas, header(settings, "completeness error of each attribution"), _DELTA_COLUMNS, rows)
    if not quiet:
        print_line(f"completeness: {describe_completeness(each for _, each in results)}", to_stderr=True)


def _paper_settings(baseline: str, scalar: str, threshold) -> tuple[str, str, float | str]:
    """Return the settings of the paper; raise `UsageError` if an option contradicts them."""
    paper = {"--baseline": (baseline, "pad"), "--scalar": (scalar, "probability")}
    defaults = (default_of(AttributionConfig, "baseline"), default_of(AttributionConfig, "scalar"))
    for option, (value, expected) in paper.items():
        if value not in (expected, *defaults):
            raise click.UsageError(f"--like-paper sets {option} {expected}; leave out {option} {value}")
    return "pad", "probability", ARGMAX if threshold is None else threshold


def _open_omics(checkpoint, source, features, missing):
    """Open the omics tracks that the model reads. The sequences of a table have no coordinates, hence no tracks."""
    from zflipon.genome.fasta import Genome
    from zflipon.omics.features import open_model_features

    if source.suffix.lower() in _SEQUENCE_EXTENSIONS:
        return open_model_features(checkpoint, features, {}, missing)
    with Genome(source) as genome:
        return open_model_features(checkpoint, features, genome.lengths, missing)


def _write_tables(tables, explainer, data, threshold, settings, header, quiet) -> list[tuple]:
    """Write the table of tokens; return (interval, attribution) pairs."""
    from zflipon.explain.attribution import describe_completeness
    from zflipon.explain.table_files import write_table
    from zflipon.explain.token_tables import COLUMNS, table_title, token_table
    from zflipon.progress import progress_bar, progress_callback

    with progress_bar("windows", quiet=quiet) as bar:
        scores, attributions = token_table(explainer, data, threshold, progress=progress_callback(bar))
    settings = {**settings, "sequences": len(data), "true_positives": len(attributions)}
    lines = header(settings, table_title(explainer)) | {"completeness": describe_completeness(attributions)}
    for path in tables:
        write_table(path, lines, COLUMNS, scores.rows())
    return [(data.intervals[each.target.sequence], each) for each in attributions]


def _write_tracks(tracks, explainer, source, selection, threshold, every_base, quiet) -> list[tuple]:
    """Write the track; return (interval, attribution) pairs."""
    from zflipon.explain.attribution_track import attribution_track
    from zflipon.genome.fasta import Genome
    from zflipon.progress import progress_bar, progress_callback
    from zflipon.tracks.bigwig_writer import write_bigwig_values

    with Genome(source) as genome, progress_bar("windows", quiet=quiet) as bar:
        values, attributions = attribution_track(
            explainer, genome, selection, threshold, every_base, progress=progress_callback(bar)
        )
        for path in tracks:
            write_bigwig_values(path, genome.lengths, values)
    return [((window.contig, window.start, window.end), each) for window, each in attributions]


def _completeness_row(interval, attribution) -> tuple:
    """Return a row of `_DELTA_COLUMNS`."""
    return (
        *interval,
        attribution.output,
        attribution.baseline_output,
        attribution.total,
        attribution.completeness_error,
        attribution.steps,
    )


def _table_settings(labels, blacklist, window, contigs, limit, seed) -> dict:
    """Return the settings of a token table for its header; a table of sequences has no windows or labels file."""
    sample = {"limit": limit, "seed": seed}
    if labels is None:
        return sample
    blacklist_name = blacklist.name if blacklist else None
    data = {"labels": labels.name, "window": window, "blacklist": blacklist_name, "contigs": list(contigs)}
    return {**data, **sample}


def _split_outputs(outputs, has_regions, source, labels) -> tuple[list[Path], list[Path]]:
    """Split outputs into tables and tracks; raise `UsageError` if one lacks an option that it needs."""
    from zflipon.tracks.registry import BIGWIG

    tables = [path for path in outputs if path.suffix.lower() == ".csv"]
    tracks = [path for path in outputs if BIGWIG.matches(path)]
    unknown = [str(path) for path in outputs if path not in tables + tracks]
    is_table = source.suffix.lower() in _SEQUENCE_EXTENSIONS
    if unknown:
        raise click.UsageError(f"{unknown[0]}: unknown extension; expected .csv or .bw")
    if tracks and is_table:
        raise click.UsageError("a track needs a genome (FASTA), not a table of sequences")
    if tracks and not has_regions:
        raise click.UsageError("a track needs --region or --regions, the regions to explain")
    if tables and not is_table and not labels:
        raise click.UsageError("the table of a genome needs --labels, since it is over true positives")
    return tables, tracks


def _read_labelled(source, metadata, labels, blacklist, settings, run):
    """Read sequences and labels from a table, or labelled windows from a genome."""
    import numpy as np

    from zflipon.errors import InputError
    from zflipon.explain.labelled_sequences import label_whole_sequences, read_labelled_windows
    from zflipon.genome.fasta import Genome
    from zflipon.training.sequence_files import read_sequences

    limit, seed = settings["limit"], settings["seed"]
    if source.suffix.lower() not in _SEQUENCE_EXTENSIONS:
        with Genome(source) as genome:
            return read_labelled_windows(
                genome, labels, settings["window"], settings["contigs"], blacklist, limit, seed, run
            )
    if metadata.objective != "sequence":
        raise InputError(
            f"{source}: the table labels whole sequences, but the model has the objective '{metadata.objective}'; "
            "give a genome and --labels"
        )
    stored = read_sequences(source)
    if limit is not None and limit < len(stored):
        sample = np.random.default_rng(seed).choice(len(stored), limit, replace=False)
        stored = stored[np.sort(sample)]
    return label_whole_sequences(stored.sequences, stored.labels == 1)
