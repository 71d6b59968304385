"""Parts of an annotation: computed on machines that share no disk, stored as ``.zfp`` files.

They become tracks in `zflipon.workflows.merge`; the file format is in `zflipon.jobs.part_files`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from zflipon.errors import OutputError
from zflipon.genome.shards import Part
from zflipon.jobs.job import Job, ShardProgress
from zflipon.jobs.part_files import EXTENSION, is_part_file, write_part_file
from zflipon.tracks.atomic import atomic_file
from zflipon.workflows.annotation_run import AnnotationRun


def check_part_outputs(outputs: Sequence[str | Path], part: Part | None) -> None:
    """Raise `OutputError` unless a part has one ``.zfp`` output, and a whole run has none."""
    part_files = [output for output in outputs if is_part_file(output)]
    if part is None and part_files:
        raise OutputError(f"{part_files[0]}: holds a part of a run; say which, such as --part 3/16")
    if part is not None and (len(outputs) != 1 or not part_files):
        raise OutputError(
            f"part {part}: expected one output whose name ends in {EXTENSION}, found {', '.join(map(str, outputs))}; "
            "zflipon merge writes the tracks"
        )


def write_part(run: AnnotationRun, part: Part, job: Job, progress: ShardProgress, record: dict) -> None:
    """Wait for the shards of a part and write them to the output of the job.

    Parameters
    ----------
    run : AnnotationRun
    part : Part
    job : Job
    progress : ShardProgress
    record : dict
        Record of the run; the record of the merged tracks is made from it.
    """
    (output,) = job.outputs

    def contents() -> Iterator[bytes]:
        for number in range(len(run.shards)):
            job.journal.wait([number], job.check_stop)
            progress.shards([number])
            yield job.journal.read(number)

    with atomic_file(output) as file:
        write_part_file(file, _header(run, part, record), contents())
        job.publish()


def _header(run: AnnotationRun, part: Part, record: dict) -> dict:
    """Return everything that `zflipon.workflows.merge` needs in addition to the contents of the shards."""
    numbers = run.plan.part(part)
    contig_number = {contig: number for number, contig in enumerate(run.plan.md5)}
    return {
        "part": part.number,
        "parts": part.parts,
        "key": run.key(),
        "scores": {score: run.score_record(score) for score in run.scores},
        "tracks": {score: asdict(run.describe_track(score)) for score in run.scores},
        "shards": [numbers.start, numbers.stop, len(run.plan.shards)],
        "spans": [
            [[contig_number[span.contig], span.start, span.end] for span in shard.spans]
            for shard in run.shards
        ],
        "lengths": run.genome.lengths,
        "record": record,
    }
