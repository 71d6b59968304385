"""Sites, their alignment and the information content of a motif."""

import numpy as np
import pyBigWig
import pytest
from conftest import dna, make_fasta

from zflipon.errors import InputError
from zflipon.explain.motif import align_sites, find_sites, information_content
from zflipon.genome.alphabet import base_codes
from zflipon.genome.fasta import Genome


def test_sites_on_either_strand_align_to_one_motif():
    rng = np.random.default_rng(5)
    motif, reverse_complement = "TGACGTTCA", "TGAACGTCA"
    sites = []
    for number in range(60):
        left = int(rng.integers(3, 9))
        inner = motif if number % 3 else reverse_complement
        sites.append(base_codes(dna(left, number) + inner + dna(12 - left, number + 100)))
    found = align_sites(sites, 9)
    matrix = found.matrix
    assert found.sites == 60
    np.testing.assert_allclose(matrix.sum(axis=0), 1)
    consensus = "".join("ACGT"[row] for row in matrix.argmax(axis=0))
    expected = (motif, reverse_complement)
    assert any(consensus[1:-1] in each or each[1:-1] in consensus for each in expected)
    assert information_content(matrix).sum(axis=0).mean() > 1.5


def test_information_content_by_hand():
    matrix = np.array([[1.0, 0.25, 0.5], [0, 0.25, 0.5], [0, 0.25, 0], [0, 0.25, 0]])
    np.testing.assert_allclose(information_content(matrix).sum(axis=0), [2, 0, 1], atol=1e-9)
    np.testing.assert_allclose(information_content(matrix)[:, 2], [0.5, 0.5, 0, 0], atol=1e-9)
    correction = 3 / (2 * np.log(2) * 20)
    heights = information_content(matrix, sites=20).sum(axis=0)
    np.testing.assert_allclose(heights, [2 - correction, 0, 1 - correction], atol=1e-9)


def test_the_correction_is_the_information_of_random_sites():
    rng = np.random.default_rng(1)
    counts = rng.multinomial(100, [0.25] * 4, size=4000).T
    information = information_content(counts / 100).sum(axis=0).mean()
    assert information == pytest.approx(3 / (2 * np.log(2) * 100), rel=0.05)


def test_short_sites_and_missing_tracks_are_refused(tmp_path):
    with pytest.raises(InputError, match="no site has the 9 bases"):
        align_sites([base_codes("ACGT")], 9)
    with Genome(make_fasta(tmp_path, {"c": dna(500, 1)})) as genome:
        regions = {"c": np.array([[100, 120], [300, 320]])}
        assert [len(site) for site in find_sites(genome, regions, 9, 10)] == [30, 30]
        with pytest.raises(InputError, match="no such file"):
            find_sites(genome, regions, 9, 10, tmp_path / "absent.bw")


def test_sites_are_centred_on_the_highest_attribution(tmp_path):
    with pyBigWig.open(str(tmp_path / "a.bw"), "w") as track:
        track.addHeader([("c", 500)])
        track.addEntries("c", 100, values=[0.1] * 15 + [0.5] + [0.1] * 4, span=1, step=1)
        track.addEntries("c", 300, values=[0.1, 0.9, 0.1], span=1, step=1)
    text = dna(500, 1)
    with Genome(make_fasta(tmp_path, {"c": text})) as genome:
        regions = {"c": np.array([[100, 120], [300, 320], [400, 410]])}
        sites = find_sites(genome, regions, 5, 6, tmp_path / "a.bw")
        with pytest.raises(InputError, match="no value in any of the regions"):
            find_sites(genome, {"c": np.array([[400, 410]])}, 5, 6, tmp_path / "a.bw")
    for site, peak in zip(sites, (301, 115), strict=True):
        np.testing.assert_array_equal(site, base_codes(text[peak - 6 : peak + 7]))
