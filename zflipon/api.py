"""The Python API: load a model, predict, annotate a genome, score variants, evaluate, explain, train.

Every function here is also an attribute of `zflipon`. Functions have no side effects but the files that they are asked
to write: no progress bar, no signal handler, no exit. They work in a notebook and in a thread. Progress goes to a
callback ``progress(done, total)``, called with the units finished since the last call and with all units.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from zflipon.config import (
    DEFAULT_MODEL,
    SCORES,
    AttributionConfig,
    CallConfig,
    EvaluateConfig,
    HeaderConfig,
    InferenceConfig,
    Precision,
    Selection,
    VariantConfig,
)
from zflipon.errors import InputError, printable
from zflipon.genome.fasta import Genome
from zflipon.genome.shards import Part, make_plan
from zflipon.inference.genome_scan import scan_genome
from zflipon.inference.predictor import Predictor
from zflipon.inference.scan_group import ScanTask
from zflipon.inference.sequences import NO_CONTIG, score_sequences, score_windows
from zflipon.jobs.signals import StopRequest
from zflipon.models import Checkpoint, ModelMetadata, load
from zflipon.omics.features import open_model_features

if TYPE_CHECKING:
    from zflipon.explain.locus import LocusExplanation
    from zflipon.workflows.evaluate import EvaluationReport

__all__ = [
    "Model",
    "annotate",
    "evaluate",
    "explain_region",
    "load_model",
    "predict",
    "predict_genome",
    "predict_region",
    "score_variants",
    "train",
]

Score = Literal["probability", "propensity", "activity"]
"""``probability`` of being in Z-DNA; ``propensity``: score for forming Z-DNA at all, from the nearest bases;
``activity``: score for forming it in this context. The first is the calibrated product of the others."""

Progress = Callable[[int, int], object]


def _no_progress(done: int, total: int) -> None:
    pass


_NOT_NUCLEOTIDE = re.compile("[^ACGTUNRYSWKMBDHV]")


@dataclass(frozen=True, repr=False)
class Model:
    """A loaded model and the way it is run. Create it with `load_model`.

    Attributes
    ----------
    checkpoint : Checkpoint
    settings : InferenceConfig
    missing_features : str
        One of `zflipon.config.MISSING_FEATURES`; used where no omics tracks can be given.
    """

    checkpoint: Checkpoint
    settings: InferenceConfig
    missing_features: str = "error"

    def __repr__(self) -> str:
        return f"<zflipon.Model {self.checkpoint.summary}, device {self.settings.device}>"

    @property
    def name(self) -> str:
        """Name of the model's folder or file."""
        return self.checkpoint.name

    @property
    def metadata(self) -> ModelMetadata:
        """Metadata that the checkpoint stores: family, objective, window, margin, threshold and more."""
        return self.checkpoint.metadata

    @cached_property
    def predictor(self) -> Predictor:
        """Predictor for sequences without omics tracks, on the device of the settings."""
        tracks = open_model_features(self.checkpoint, None, NO_CONTIG, self.missing_features)
        return Predictor(self.checkpoint, self.settings, features=tracks)


def load_model(
    name_or_path: str | Path = DEFAULT_MODEL,
    device: str = "auto",
    precision: Precision = "auto",
    batch_size: int | None = None,
    both_strands: bool | None = None,
    missing_features: str = "error",
) -> Model:
    """Load a model once, for any number of calls.

    Parameters
    ----------
    name_or_path : str or Path
        Name of a bundled model (``'compact'``, ``'compact-omics'``, ``'zhunt'``), folder, file or Hugging Face Hub id.
    device : str
        Torch device, such as ``'cpu'`` or ``'cuda:1'``, or ``'auto'``: CUDA, else MPS, else CPU.
    precision : str
        ``'float32'``, ``'bfloat16'``, ``'float16'``, ``'int8'`` or ``'auto'``; see `InferenceConfig`.
    batch_size : int, optional
        Windows per forward pass; by default as suits the device.
    both_strands : bool, optional
        Average with the prediction of the reverse complement; by default as the model's metadata say.
    missing_features : str
        ``'zero'`` predicts without the omics tracks that the model reads, ``'error'`` refuses.

    Raises
    ------
    ZfliponError
        If the model cannot be found or used.

    Examples
    --------
    >>> import zflipon
    >>> model = zflipon.load_model("compact", device="cpu")
    >>> model.name, model.metadata.objective
    ('compact', 'base')
    >>> zflipon.load_model("zhunt")
    <zflipon.Model 'zhunt': family zhunt, base objective, windows of 4,096 bp, 1 parameter, device auto>
    """
    settings = InferenceConfig(batch_size, precision, device, None, both_strands)
    return Model(load(name_or_path), settings, missing_features)


def predict(
    sequences: str | Sequence[str],
    model: str | Path | Model = DEFAULT_MODEL,
    score: Score = "probability",
) -> list[np.ndarray]:
    """Predict each base of some sequences.

    Parameters
    ----------
    sequences : str or sequence of str
        DNA of any length and case. Sequences longer than the model's window are divided as in a genome.
    model : str, Path or Model
    score : str
        ``'probability'``, ``'propensity'`` or ``'activity'``; see `Score`.

    Returns
    -------
    list of numpy.ndarray
        float32, shape (bases,) for each sequence; NaN at N.

    Raises
    ------
    InputError
        If a sequence holds a letter that is no nucleotide.
    ModelError
        If the model has no such score.

    Examples
    --------
    >>> import zflipon
    >>> values = zflipon.predict(["ACGTGTGTGTACGCGCGCGCGCGCACTGAC", "AAAANNAA"])
    >>> [each.shape for each in values]
    [(30,), (8,)]
    >>> bool(values[0].max() > values[1][0])
    True
    >>> zflipon.predict("ACGT" * 5, model="zhunt")[0].dtype
    dtype('float32')
    """
    _check_score(score)
    texts = [sequences] if isinstance(sequences, str) else list(sequences)
    texts = [_check_sequence(number, text) for number, text in enumerate(texts)]
    return score_sequences(_as_model(model).predictor, texts, score)


def predict_region(
    genome: str | Path,
    region: str,
    model: str | Path | Model = DEFAULT_MODEL,
    score: Score = "probability",
) -> np.ndarray:
    """Predict each base of a region of a genome, with the sequence around it as context.

    Parameters
    ----------
    genome : str or Path
        FASTA: plain, gzip or bgzip.
    region : str
        ``chr1:1,001-2,000``, 1-based and closed, or the name of a contig.
    model : str, Path or Model
    score : str
        ``'probability'``, ``'propensity'`` or ``'activity'``; see `Score`.

    Returns
    -------
    numpy.ndarray
        float32, shape (bases,); the same values as in the track of the whole genome, before rounding. NaN at N.

    Examples
    --------
    >>> import zflipon
    >>> zflipon.predict_region("demo.fa", "synthetic1:101-220").shape
    (120,)
    """
    _check_score(score)
    predictor = _as_model(model).predictor
    metadata = predictor.metadata
    with Genome(genome) as source:
        plan = make_plan(source, Selection((region,)), metadata.window, metadata.margin)
        ((contig, intervals),) = plan.requested.items()
        start, end = int(intervals[0, 0]), int(intervals[-1, 1])
        result = np.full(end - start, np.nan, dtype=np.float32)
        for span in plan.spans:
            windows = span.windows
            origin = int(windows["start"].min())
            text = source.fetch(contig, origin, int(windows["end"].max()))
            for name in windows.dtype.names or ():
                windows[name] -= origin
            (values,) = score_windows(predictor, [text], [windows], score)
            result[span.start - start : span.end - start] = values[span.start - origin : span.end - origin]
    return result


def predict_genome(
    genome: str | Path,
    model: str | Path | Model = DEFAULT_MODEL,
    contigs: Sequence[str] = (),
    regions: Sequence[str] = (),
    progress: Progress | None = None,
) -> Iterator[tuple[str, int, np.ndarray]]:
    """Predict a genome of any size, a piece at a time and in genome order.

    Parameters
    ----------
    genome : str or Path
        FASTA: plain, gzip or bgzip.
    model : str, Path or Model
    contigs, regions : sequence of str
        Parts of the genome; by default everything.
    progress : callable, optional
        Called with the bases finished since the last call, and with all bases.

    Yields
    ------
    contig : str
    start : int
        0-based position of the first base.
    probabilities : numpy.ndarray
        float32, shape (bases,); NaN at N. Gaps of N are left out.

    Examples
    --------
    >>> import zflipon
    >>> contig, start, probabilities = next(zflipon.predict_genome("demo.fa", model="zhunt"))
    >>> contig, start, probabilities.dtype
    ('synthetic1', 0, dtype('float32'))
    """
    predictor = _as_model(model).predictor
    metadata = predictor.metadata
    with Genome(genome) as source:
        selection = Selection(tuple(regions), None, tuple(contigs))
        plan = make_plan(source, selection, metadata.window, metadata.margin)
        tasks = (ScanTask(span.contig, span.windows) for span in plan.spans)
        for span, (task, values) in zip(plan.spans, scan_genome(predictor, source, tasks), strict=True):
            origin = int(task.windows["core_start"][0])
            if progress is not None:
                progress(span.end - span.start, plan.bases)
            yield span.contig, span.start, values[span.start - origin : span.end - origin]


def annotate(
    genome: str | Path,
    outputs: str | Path | Sequence[str | Path],
    model: str | Path | Model = DEFAULT_MODEL,
    *,
    scores: Sequence[Score] = ("probability",),
    contigs: Sequence[str] = (),
    exclude_contigs: Sequence[str] = (),
    regions: Sequence[str] = (),
    regions_bed: str | Path | None = None,
    threshold: float | None = None,
    min_length: int = CallConfig.min_length,
    merge_gap: int = CallConfig.merge_gap,
    track_line: bool = False,
    header: bool = False,
    screen: bool = False,
    features: str | Path | None = None,
    missing_features: str | None = None,
    contig_aliases: str | Path | None = None,
    edges: str | Path | None = None,
    part: str | None = None,
    calibration: str | Path | None = None,
    force: bool = False,
    restart: bool = False,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> dict:
    """Write the Z-DNA tracks of a genome.

    A run that was stopped resumes if it is called again with the same arguments.

    Parameters
    ----------
    genome : str or Path
        FASTA: plain, gzip or bgzip.
    outputs : str, Path or sequence of them
        Files to write. The extension chooses the format: ``.bw``, ``.bedgraph[.gz]``, ``.bed[.gz]``,
        ``.narrowpeak[.gz]``, ``.gff3[.gz]``, ``.tsv[.gz]``, ``.parquet``.
    model : str, Path or Model
    scores : sequence of str
        As in `Score`; all come from one run of the model. With several, each output name gets the score before its
        extension: ``zdna.propensity.bw``. The propensity alone is much faster and needs no omics tracks. The activity
        is written where the propensity is above 0.01.
    contigs, exclude_contigs, regions : sequence of str
        Parts of the genome; by default everything.
    regions_bed : str or Path, optional
        BED file of regions.
    threshold : float, optional
        Lowest score of a called base, if one score is requested; by default the model's for the score.
    min_length, merge_gap : int
        Calls of fewer bases are dropped; calls at most this far apart are merged.
    track_line, header : bool
        Begin text files with a ``track`` line for UCSC, or with the names of the columns.
    screen : bool
        Read only windows with sequence that easily forms Z-DNA. Bases of other windows get the probability 0 and no
        activity; the propensity does not change.
    features : str or Path, optional
        Table of omics tracks, for a model that reads them.
    missing_features : str, optional
        ``'error'`` or ``'zero'``; by default the model's setting.
    contig_aliases : str or Path, optional
        Table of other names of contigs, as ``chromAlias.txt`` of UCSC.
    edges : str or Path, optional
        BED to write: bases nearer than the model's margin to the end of a contig or to a gap of N.
    part : str, optional
        ``'3/16'``: compute this part only and write a part file (``.zfp``) for `zflipon.merge`.
    calibration : str or Path, optional
        File of `zflipon.calibrate`, whose threshold is used.
    force : bool
        Replace existing files.
    restart : bool
        Discard the finished work of a stopped run.
    progress : callable, optional
        Called with the bases finished since the last call, and with all bases.
    stop : StopRequest, optional
        Lets another thread stop the run.

    Returns
    -------
    dict
        The run record, which is also written as JSON for each output. With several scores, ``score``, ``call`` and
        ``tracks`` are those of the first.

    Raises
    ------
    ZfliponError
        If an input or an output cannot be used.
    Stopped
        If the run was stopped. Finished work is saved.

    Examples
    --------
    >>> import zflipon
    >>> record = zflipon.annotate("demo.fa", ["demo.bw", "demo.bed"], model="zhunt")
    >>> sorted(record["tracks"])
    ['bases', 'called_bases', 'calls', 'windows_read']
    >>> record = zflipon.annotate("demo.fa", "demo.bw", scores=("propensity", "activity"))
    >>> record["scores"]
    {'propensity': ['demo.propensity.bw'], 'activity': ['demo.activity.bw']}
    """
    from zflipon.workflows.annotate import annotate as run

    handle = _as_model(model)
    bed = None if regions_bed is None else str(regions_bed)
    return run(
        genome,
        [outputs] if isinstance(outputs, str | Path) else outputs,
        handle.checkpoint,
        Selection(tuple(regions), bed, tuple(contigs), tuple(exclude_contigs)),
        CallConfig(threshold, min_length, merge_gap),
        handle.settings,
        scores=scores,
        headers=HeaderConfig(track_line, header),
        force=force,
        restart=restart,
        screen=screen,
        features=features,
        missing_features=missing_features or handle.missing_features,
        contig_aliases=contig_aliases,
        edges=edges,
        part=None if part is None else Part.parse(part),
        calibration=calibration,
        progress=progress,
        stop=stop,
        command="zflipon.annotate()",
    )


def score_variants(
    vcf: str | Path,
    genome: str | Path,
    output: str | Path,
    model: str | Path | Model = DEFAULT_MODEL,
    *,
    regions: Sequence[str] = (),
    min_delta: float = VariantConfig.min_delta,
    shifts: int = VariantConfig.shifts,
    flank: int | None = None,
    max_length: int | None = None,
    contig_aliases: str | Path | None = None,
    gtf: str | Path | None = None,
    features: str | Path | None = None,
    missing_features: str | None = None,
    force: bool = False,
    restart: bool = False,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> dict[str, int]:
    r"""Score how each alternative allele of a VCF changes the Z-DNA probability around it.

    Parameters
    ----------
    vcf : str or Path
        VCF (plain, gzip or bgzip) or BCF.
    genome : str or Path
        FASTA with the contigs of the VCF.
    output : str or Path
        File to write. The extension chooses the format: ``.vcf.gz``, ``.vcf``, ``.bcf``, ``.tsv``.
    model : str, Path or Model
    regions : sequence of str
        Records elsewhere are not written; by default all are.
    min_delta : float
        Records that change no base by at least this are not written.
    shifts : int
        Number of window offsets to average over.
    flank, max_length : int, optional
        Bases compared on either side of an allele, and the longest allele that is scored; by default as the model's
        window allows.
    gtf : str or Path, optional
        Gene annotation, GTF or GFF3: adds feature, genes and distance to the transcription start site of each allele.
    contig_aliases, features, missing_features, force, restart, progress, stop
        As in `annotate`; progress counts records.

    Returns
    -------
    dict of str to int
        Records read and written, alleles scored, and alleles not scored by reason.

    Examples
    --------
    >>> import zflipon
    >>> with open("demo.vcf", "w") as file:
    ...     print("##fileformat=VCFv4.2", file=file)
    ...     print("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", sep="\t", file=file)
    ...     print("synthetic1", 150, ".", "A", "G", ".", ".", ".", sep="\t", file=file)
    >>> counts = zflipon.score_variants("demo.vcf", "demo.fa", "scored.vcf", model="zhunt")
    >>> counts["records"], counts["written"]
    (1, 1)
    """
    from zflipon.workflows.variants import score_variants as run

    handle = _as_model(model)
    return run(
        vcf,
        genome,
        output,
        handle.checkpoint,
        VariantConfig(flank, max_length, shifts, min_delta, tuple(regions)),
        handle.settings,
        force=force,
        restart=restart,
        contig_aliases=contig_aliases,
        gtf=gtf,
        features=features,
        missing_features=missing_features or handle.missing_features,
        progress=progress,
        stop=stop,
        command="zflipon.score_variants()",
    )


def evaluate(
    tracks: str | Path | Sequence[str | Path],
    labels: str | Path,
    genome: str | Path,
    *,
    blacklist: str | Path | None = None,
    contigs: Sequence[str] = (),
    regions: Sequence[str] = (),
    regions_bed: str | Path | None = None,
    contig_aliases: str | Path | None = None,
    config: EvaluateConfig | None = None,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Compare tracks with labelled intervals.

    Parameters
    ----------
    tracks : str, Path or sequence of them
        bigWig, bedGraph or BED files.
    labels : str or Path
        BED of Z-DNA.
    genome : str or Path
        FASTA.
    blacklist : str or Path, optional
        BED of regions to leave out.
    contigs : sequence of str
        Contigs to evaluate; by default all.
    regions : sequence of str
        Regions to evaluate, ``chr1:1,001-2,000``, 1-based and closed; by default whole contigs.
    regions_bed : str or Path, optional
        BED file of more regions.
    contig_aliases : str or Path, optional
        As in `annotate`.
    config : EvaluateConfig, optional
    progress : callable, optional
        Called with the bases finished since the last call, and with all bases.

    Returns
    -------
    EvaluationReport
        `EvaluationReport.summary` returns all measures as plain values.

    Examples
    --------
    >>> import zflipon
    >>> report = zflipon.evaluate("demo_truth.bed", labels="demo_truth.bed", genome="demo.fa")
    >>> report.summary()["tracks"]["demo_truth.bed"]["genome"]["f1"]
    1.0
    """
    from zflipon.workflows.evaluate import evaluate as run

    paths = [tracks] if isinstance(tracks, str | Path) else tracks
    return run(
        paths, labels, genome, blacklist, contigs, config, progress or _no_progress, regions,
        regions_bed, contig_aliases,
    )  # fmt: skip


def explain_region(
    genome: str | Path,
    region: str,
    model: str | Path | Model = DEFAULT_MODEL,
    *,
    threshold: float | None = None,
    config: AttributionConfig | None = None,
) -> LocusExplanation:
    """Find which bases and tokens of a region caused its calls. Needs ``pip install 'zflipon[explain]'``.

    Parameters
    ----------
    genome : str or Path
        FASTA.
    region : str
        ``chr1:1,001-1,200``, 1-based and closed; at most 400 bases.
    model : str, Path or Model
    threshold : float, optional
        Lowest probability of a called base; by default the model's.
    config : AttributionConfig, optional
        Steps, baseline and target of Integrated Gradients.

    Returns
    -------
    LocusExplanation
        Probabilities, attributions, tokens and the effect of each substitution, as arrays.

    Examples
    --------
    >>> import zflipon
    >>> locus = zflipon.explain_region("demo.fa", "synthetic1:120-150")
    >>> locus.attribution.shape, locus.effects.shape
    ((31,), (4, 31))
    """
    from zflipon.explain.integrated_gradients import IntegratedGradientsExplainer
    from zflipon.explain.locus import explain_locus
    from zflipon.genome.intervals import parse_region

    handle = _as_model(model)
    explainer = IntegratedGradientsExplainer(handle.checkpoint, config, handle.settings.device)
    with Genome(genome) as source:
        interval = parse_region(region, source.lengths)
        return explain_locus(handle.predictor, explainer, source, interval, threshold)


def train(
    recipe: str | Path,
    output: str | Path | None = None,
    settings: Sequence[str] = (),
    restart: bool = False,
) -> Path:
    """Train a model from a recipe. A stopped run resumes if it is called again.

    Parameters
    ----------
    recipe : str or Path
        TOML file.
    output : str or Path, optional
        Folder of the checkpoint; by default ``runs/NAME``.
    settings : sequence of str
        Changes of the recipe, such as ``'data.genome=hg19.fa.gz'``.
    restart : bool
        Start again, whatever the folder holds.

    Returns
    -------
    Path
        Folder of the checkpoint, or of the runs if the recipe makes several.

    Examples
    --------
    >>> import zflipon
    >>> zflipon.train("tiny.toml", "runs/tiny", ["stage.steps=2"])  # doctest: +SKIP
    PosixPath('runs/tiny')
    """
    from zflipon.training.recipe import load_recipe
    from zflipon.training.sweeps import train_all

    folder = Path(output) if output is not None else Path("runs") / load_recipe(Path(recipe), settings).name
    made, _ = train_all(Path(recipe), tuple(settings), folder, restart)
    return made


def _as_model(model: str | Path | Model) -> Model:
    return model if isinstance(model, Model) else load_model(model)


def _check_score(score: str) -> None:
    if score not in SCORES:
        raise InputError(f"unknown score {score!r}; expected one of {', '.join(SCORES)}")


def _check_sequence(number: int, text: str) -> str:
    text = text.upper()
    if wrong := _NOT_NUCLEOTIDE.search(text):
        raise InputError(
            f"sequence {number + 1} holds {printable(wrong[0])!r} at base {wrong.start() + 1}; expected nucleotides "
            "(ACGTN and IUPAC codes)"
        )
    return text
