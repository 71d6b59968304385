"""``zflipon explain attributions``: Integrated Gradients as the paper's tables and as a track."""

from __future__ import annotations

from pathlib import Path

import click

from zflipon.cli.options import (
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
    quiet_option,
    threads_option,
)
from zflipon.config import ATTRIBUTION_SCALARS, BASELINES, AttributionConfig

EPILOG = """\b
Examples:
  zflipon explain attributions hg38.fa -o scores.csv --labels kouzine.bed --model runs/dnabert2 --window 128
  zflipon explain attributions hg38.fa -o why.bw --region chr1:1,000,001-1,002,000
  zflipon explain attributions promoters/test.csv -o scores.csv --model runs/promoters
"""

_SEQUENCES = (".csv", ".tsv", ".txt")
_DELTA_COLUMNS = ("sequence", "start", "end", "output", "reference", "attributed", "delta", "steps")


@click.command(epilog=EPILOG)
@click.argument("source", type=click.Path(path_type=Path), metavar="GENOME|TABLE")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Repeatable: .csv is the table of tokens over true positives, .bw the signed attribution of each base.",
)
@click.option(
    "--deltas",
    type=click.Path(path_type=Path),
    metavar="OUT.csv",
    help="Write each attribution's completeness.",
)
@model_option
@click.option(
    "--labels", type=click.Path(path_type=Path), metavar="BED", help="Known Z-DNA, for the table of a genome."
)
@click.option(
    "--blacklist",
    type=click.Path(path_type=Path),
    metavar="BED",
    help="Windows here are left out of the table.",
)
@click.option(
    "--window", type=click.IntRange(1), help="Bases of the table's windows.  [default: the model's]"
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help="Make the table of N windows with a label, or of N sequences, at random.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of --limit's draw.")
@click.option(
    "-r",
    "--region",
    "regions",
    multiple=True,
    metavar="CHR:START-END",
    shell_complete=complete_contigs,
    help="For the track; repeatable.",
)
@click.option(
    "--regions", "regions_bed", type=click.Path(), metavar="BED", help="For the track, from a BED file."
)
@contigs_option
@click.option(
    "--bases",
    type=click.Choice(["called", "all"]),
    default="called",
    show_default=True,
    help="Of which bases of a window the track explains the mean.",
)
@click.option(
    "--threshold", type=click.FloatRange(0, 1), help="Probability of a call.  [default: the model's]"
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=default_of(AttributionConfig, "steps"),
    show_default=True,
    help="From the baseline to the sequence; more of them miss less of what attributions must add up to.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, min_open=True),
    metavar="SHARE",
    help="Double the steps where attributions miss more than this share of the change that they explain, such as "
    "0.01.  [default: keep to --steps]",
)
@click.option(
    "--baseline",
    type=click.Choice(BASELINES),
    default=default_of(AttributionConfig, "baseline"),
    show_default=True,
    help="In the place of tokens: their mean embedding, that of padding (as in the paper), or 0.",
)
@click.option(
    "--scalar",
    type=click.Choice(ATTRIBUTION_SCALARS),
    default=default_of(AttributionConfig, "scalar"),
    show_default=True,
    help="What is explained of a call (the paper: probability).",
)
@click.option(
    "--top",
    type=click.IntRange(1),
    default=default_of(AttributionConfig, "top"),
    show_default=True,
    help="Tokens that count of each true positive token.",
)
@click.option("--raw", is_flag=True, help="Do not normalise the scores of each attribution in the table.")
@click.option(
    "--batch-size", type=click.IntRange(1), help="Rows (sequences × steps) a pass.  [default: by device]"
)
@features_option
@missing_features_option
@device_option
@threads_option
@force_option
@quiet_option
def attributions(
    source, outputs, deltas, model, labels, blacklist, window, limit, seed, regions, regions_bed, contigs,
    bases, threshold, steps, tolerance, baseline, scalar, top, raw, batch_size, features, missing_features,
    device, threads, force, quiet,
) -> None:  # fmt: skip
    """Say which tokens and bases made the calls of a model, by Integrated Gradients.

    Of a GENOME (FASTA), or of a TABLE of sequences and labels for a model that decides whole sequences. Scores are
    signed: how much of the log-odds (or --scalar probability) of Z-DNA comes from a token or base, beside a
    baseline without sequence.
    """
    limit_threads(threads)
    log_to_stderr(quiet)
    tables, tracks = _kinds(outputs, regions or regions_bed, source, labels)

    from zflipon.config import Selection
    from zflipon.explain.attribution import OBJECTIVES, Attributor
    from zflipon.explain.table_files import write_table
    from zflipon.explain.token_tables import completeness, heading
    from zflipon.models import load
    from zflipon.tracks.atomic import check_output_path

    for path in (*outputs, *((deltas,) if deltas else ())):
        check_output_path(path, force)
    checkpoint = load(model, OBJECTIVES)
    config = AttributionConfig(steps, tolerance, baseline, scalar, batch_size, top, not raw)
    omics = _omics(checkpoint, source, features, missing_features)
    attributor = Attributor(checkpoint, config, device, omics)
    threshold = checkpoint.metadata.threshold if threshold is None else threshold

    def told(data: dict, what: str) -> dict[str, object]:
        name = {"model": checkpoint.path.name, "sha256": checkpoint.sha256}
        return heading(attributor, name, {"source": source.name, "threshold": threshold, **data}, what)

    done, data = [], {}
    if tables:
        data = _asked(labels, blacklist, window or checkpoint.metadata.window, contigs, limit, seed)
        known = _labelled(source, checkpoint.metadata, labels, blacklist, data)
        done += _write_tables(tables, attributor, known, threshold, data, told, quiet)
    if tracks:
        data |= {
            "regions": list(regions),
            "regions_bed": regions_bed,
            "contigs": list(contigs),
            "bases": bases,
        }
        selection = Selection(tuple(regions), regions_bed, contigs)
        done += _write_tracks(tracks, attributor, source, selection, threshold, bases == "all", quiet)
    if deltas:
        rows = (
            (*where, one.output, one.reference, one.attributed, one.delta, one.steps) for where, one in done
        )
        write_table(deltas, told(data, "what attributions add up to, and should"), _DELTA_COLUMNS, rows)
    if not quiet:
        click.echo(f"completeness: {completeness(one for _, one in done)}", err=True)


def _omics(checkpoint, source, features, missing):
    """Open what the model reads beside the sequence; nothing of a table of sequences, which have no place."""
    from zflipon.genome.fasta import Genome
    from zflipon.omics.features import open_model_features

    if source.suffix.lower() in _SEQUENCES:
        return open_model_features(checkpoint, features, {}, missing)
    with Genome(source) as genome:
        return open_model_features(checkpoint, features, genome.lengths, missing)


def _write_tables(tables, attributor, known, threshold, data, told, quiet) -> list[tuple]:
    """Write the table of tokens; return the place of each attribution beside it."""
    from zflipon.explain.table_files import write_table
    from zflipon.explain.token_tables import completeness, token_table
    from zflipon.progress import progress_bar

    with progress_bar("windows", len(known.sequences), quiet=quiet) as bar:
        scores, found = token_table(attributor, known, threshold, progress=bar.update)
    data = {**data, "sequences": len(known.sequences), "true_positives": len(found)}
    about = {**told(data, _what(attributor)), "completeness": completeness(found)}
    for path in tables:
        write_table(path, about, ("token", "score", "count"), scores.rows())
    return [(known.places[one.aim.sequence], one) for one in found]


def _write_tracks(tracks, attributor, source, selection, threshold, every_base, quiet) -> list[tuple]:
    """Write the track; return the place of each attribution beside it."""
    from zflipon.explain.token_tables import attribution_track
    from zflipon.genome.fasta import Genome
    from zflipon.progress import progress_bar
    from zflipon.tracks.bigwig import write_bigwig_values

    with Genome(source) as genome, progress_bar("windows", quiet=quiet) as bar:
        pieces, found = attribution_track(
            attributor, genome, selection, threshold, every_base, progress=bar.update
        )
        for path in tracks:
            write_bigwig_values(path, genome.lengths, pieces)
    return [((place.contig, place.start, place.end), one) for place, one in found]


def _asked(labels, blacklist, window, contigs, limit, seed) -> dict:
    """Return what the table is made of; of a table of sequences, which has no windows, only the draw."""
    drawn = {"limit": limit, "seed": seed}
    if labels is None:
        return drawn
    avoided = blacklist.name if blacklist else None
    where = {"labels": labels.name, "window": window, "blacklist": avoided, "contigs": list(contigs)}
    return {**where, **drawn}


def _kinds(outputs, has_regions, source, labels) -> tuple[list[Path], list[Path]]:
    """Tell tables from tracks, and refuse what lacks an input."""
    from zflipon.tracks.registry import BIGWIG

    tables = [path for path in outputs if path.suffix.lower() == ".csv"]
    tracks = [path for path in outputs if BIGWIG.matches(path)]
    other = [str(path) for path in outputs if path not in tables + tracks]
    is_table = source.suffix.lower() in _SEQUENCES
    if other:
        raise click.UsageError(f"{other[0]}: unknown extension; expected .csv or .bw")
    if tracks and is_table:
        raise click.UsageError("a track needs a genome (FASTA), not a table of sequences")
    if tracks and not has_regions:
        raise click.UsageError("a track needs --region or --regions: say what to explain")
    if tables and not is_table and not labels:
        raise click.UsageError("the table of a genome needs --labels: true positives are labelled")
    return tables, tracks


def _labelled(source, metadata, labels, blacklist, asked):
    """Read sequences and labels, from a table or off a genome."""
    import numpy as np

    from zflipon.errors import InputError
    from zflipon.explain.token_tables import labelled_sequences, labelled_windows
    from zflipon.genome.fasta import Genome
    from zflipon.training.sequence_files import read_sequences

    if source.suffix.lower() not in _SEQUENCES:
        with Genome(source) as genome:
            return labelled_windows(
                genome, labels, asked["window"], asked["contigs"], blacklist, asked["limit"], asked["seed"]
            )
    if metadata.objective != "sequence":
        raise InputError(
            f"{source}: a table labels whole sequences, but the model has the objective '{metadata.objective}'; "
            "give a genome and --labels"
        )
    stored = read_sequences(source)
    if asked["limit"] is not None and asked["limit"] < len(stored):
        drawn = np.random.default_rng(asked["seed"]).choice(len(stored), asked["limit"], replace=False)
        stored = stored[np.sort(drawn)]
    return labelled_sequences(stored.sequences, stored.labels == 1)


def _what(attributor) -> str:
    if attributor.metadata.objective == "sequence":
        return "mean score of tokens over true positive sequences"
    return f"mean score of the {attributor.config.top} highest-attributed tokens of each true positive token"
