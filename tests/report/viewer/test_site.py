"""What the viewer serves: the settings of igv.js, the table of calls, hostile names, and the page in a browser."""

import gzip
import json
import re
import subprocess
from html import unescape
from urllib.parse import unquote

import pytest
from html_page import HtmlPage
from report_files import CHROMIUM, needs_chromium
from serving import serving

from zflipon.errors import InputError, MissingExtraError
from zflipon.genome.fasta import Genome
from zflipon.report.viewer.page import igv_text, viewer_page
from zflipon.report.viewer.server import ServedFile
from zflipon.report.viewer.site import build_site, strongest_loci
from zflipon.tracks.atomic import record_path


def page_text(site):
    return site.contents["/"].source.decode()


def settings_of(site):
    element = re.search(
        r'<script id="settings" type="application/json">(.*?)</script>', page_text(site), re.DOTALL
    )
    return json.loads(element[1])


def test_the_page_names_exactly_the_served_files(viewed):
    with Genome(viewed / "genome.fa") as genome:
        site = build_site([viewed / "z.bw", viewed / "z.bed.gz"], genome, viewed / "labels.bed")
        settings = settings_of(site)
        named = set(re.findall(r"/data/[\w.]+", json.dumps(settings)))
        assert named == {address for address in site.contents if address.startswith("/data/")}
        files = {address: site.contents[address].source for address in named}
        assert {path.name for path in files.values()} == {
            "z.bw", "z.bed.gz", "z.bed.gz.tbi", "labels.bed", "genome.fa", "genome.fa.fai",
        }  # fmt: skip
        signal, calls, labels = settings["tracks"]
        assert (signal["type"], signal["min"], signal["max"], signal["autoscale"]) == ("wig", 0, 1, False)
        assert files[calls["indexURL"]].name == "z.bed.gz.tbi"
        assert labels["name"] == "known Z-DNA"
        assert settings["loadDefaultGenomes"] is False
        assert "http" not in json.dumps(settings)


def test_a_bgzip_genome_has_both_of_its_indices(viewed):
    with Genome(viewed / "packed.bgz.fa.gz") as genome:
        site = build_site([viewed / "z.bw"], genome)
        reference = settings_of(site)["reference"]
        assert site.contents[reference["compressedIndexURL"]].source.name.endswith(".gzi")
        assert reference["fastaURL"].endswith(".fa.gz")


def test_the_table_lists_the_strongest_calls_first(viewed):
    rows = [line.split("\t") for line in (viewed / "z.bed").read_text().splitlines() if line[0] != "#"]
    with Genome(viewed / "genome.fa") as genome:
        site = build_site([viewed / "z.bw", viewed / "z.bed"], genome)
        of_signal = build_site([viewed / "z.bw"], genome)
    best = max(rows, key=lambda row: float(row[9]))
    assert site.loci[0].name == f"{best[0]}:{int(best[1]) + 1:,}-{int(best[2]):,}"
    assert len(site.loci) == min(200, len(rows))
    scores = [locus.score for locus in site.loci]
    assert scores == sorted(scores, reverse=True)
    assert settings_of(site)["locus"] == site.loci[0].region
    # a bigWig without its BED is called with the recorded threshold
    assert {locus.name for locus in of_signal.loci} == {locus.name for locus in site.loci}
    header, first, *_ = HtmlPage(page_text(site)).tables["calls"]
    assert header == ["locus", "bp", "mean P"]
    locus = site.loci[0]
    assert first == [locus.name, f"{locus.end - locus.start:,}", f"{locus.score:.3f}"]


def test_the_caption_names_the_run_of_the_calls(viewed, tmp_path):
    (tmp_path / "none.bed").write_text("")
    (tmp_path / "other.bed").write_text("one\t10\t30\none\t500\t540\n")
    with Genome(viewed / "genome.fa") as genome:
        site = build_site([tmp_path / "none.bed", tmp_path / "other.bed"], genome)
    # without scores, longer calls come first
    assert [locus.name for locus in site.loci] == ["one:501-540", "one:11-30"]
    assert '<p id="caption">2 calls of other</p>' in page_text(site)


def test_progress_is_reported_while_a_signal_is_read_for_its_calls(viewed):
    reports = []
    with Genome(viewed / "genome.fa") as genome:
        build_site([viewed / "z.bw"], genome, progress=lambda done, total: reports.append((done, total)))
        assert sum(done for done, _ in reports) == 23_000
        assert {total for _, total in reports} == {23_000}
        build_site(
            [viewed / "z.bw", viewed / "z.bed"], genome, progress=lambda *_: pytest.fail("nothing is read")
        )


def test_a_plain_gzip_genome_is_served_unpacked(viewed, tmp_path):
    path = tmp_path / "plain.fa.gz"
    path.write_bytes(gzip.compress((viewed / "genome.fa").read_bytes()))
    with Genome(path) as genome:
        site = build_site([viewed / "z.bw"], genome)
        served = site.contents[settings_of(site)["reference"]["fastaURL"]].source
        assert served.read_bytes() == (viewed / "genome.fa").read_bytes()
    assert not served.exists()  # it was in a temporary folder


def test_a_region_can_be_chosen(viewed):
    with Genome(viewed / "genome.fa") as genome:
        assert (
            settings_of(build_site([viewed / "z.bw"], genome, region="two:101-200"))["locus"] == "two:101-200"
        )
        with pytest.raises(InputError, match="three"):
            build_site([viewed / "z.bw"], genome, region="three:1-2")


def test_without_calls_there_is_no_table(viewed, tmp_path):
    assert strongest_loci({}, {"one": 10}) == []
    (tmp_path / "none.bed").write_text("")
    with Genome(viewed / "genome.fa") as genome:
        assert "calls" not in HtmlPage(page_text(build_site([tmp_path / "none.bed"], genome))).tables


def write_gtf(path):
    """Write genes on both contigs, one of them with two transcripts, and one on a contig that the genome lacks."""
    rows = [
        ("one", "exon", 101, 200, "+", "G1", "T1", "ALPHA"),
        ("one", "exon", 401, 500, "+", "G1", "T1", "ALPHA"),
        ("one", "CDS", 151, 200, "+", "G1", "T1", "ALPHA"),
        ("one", "CDS", 401, 450, "+", "G1", "T1", "ALPHA"),
        ("one", "exon", 151, 250, "+", "G1", "T2", "ALPHA"),
        ("two", "exon", 501, 1000, "-", "G2", "T3", "BETA"),
        ("far", "exon", 1, 10, "+", "G3", "T4", "GAMMA"),
    ]
    path.write_text(
        "".join(
            f"{contig}\tx\t{feature}\t{start}\t{end}\t.\t{strand}\t.\t"
            f'gene_id "{gene}"; transcript_id "{transcript}"; gene_name "{name}";\n'
            for contig, feature, start, end, strand, gene, transcript, name in rows
        )
    )
    return path


def test_genes_are_a_track_and_an_index(viewed, tmp_path):
    with Genome(viewed / "genome.fa") as genome:
        site = build_site([viewed / "z.bw"], genome, gtf=write_gtf(tmp_path / "genes.gtf"))
    track = settings_of(site)["tracks"][-1]
    assert (track["name"], track["format"], track["indexed"]) == ("genes.gtf", "bed", False)
    rows = [line.split("\t") for line in site.contents[track["url"]].source.decode().splitlines()]
    assert [row[:6] for row in rows] == [
        ["one", "100", "500", "ALPHA", "0", "+"], ["two", "500", "1000", "BETA", "0", "-"],
    ]  # fmt: skip
    count, sizes, starts = rows[0][9:]  # exons of both transcripts are merged
    assert (count, sizes, starts) == ("2", "150,100", "0,300")
    for row in rows:  # the rules of BED12
        blocks = list(zip(map(int, row[11].split(",")), map(int, row[10].split(",")), strict=True))
        assert blocks[0][0] == 0
        assert sum(blocks[-1]) == int(row[2]) - int(row[1])
        assert int(row[1]) <= int(row[6]) <= int(row[7]) <= int(row[2])
    address = re.search(r'data-genes="([^"]+)"', page_text(site))[1]
    regions = json.loads(site.contents[address].source)
    assert regions == {"alpha": ["ALPHA", "one:1-700"], "beta": ["BETA", "two:301-1200"]}


def test_genes_of_another_assembly_are_refused(viewed, tmp_path):
    path = tmp_path / "far.gtf"
    path.write_text('one\tx\texon\t10\t900000\t.\t+\t.\tgene_id "G"; transcript_id "T";\n')
    with Genome(viewed / "genome.fa") as genome, pytest.raises(InputError, match="of the same assembly"):
        build_site([viewed / "z.bw"], genome, gtf=path)


def test_a_known_assembly_has_a_link_to_ucsc(viewed):
    page = viewer_page("title", {}, [], "", ucsc_address="https://genome.ucsc.edu/cgi-bin/hgTracks?db=hg38")
    assert 'href="https://genome.ucsc.edu/cgi-bin/hgTracks?db=hg38"' in page
    with Genome(viewed / "genome.fa") as genome:
        assert 'id="ucsc"' not in page_text(build_site([viewed / "z.bw"], genome))


HOSTILE = "<img src=x onerror=alert(1)>&amp;</script>\"'\x1b[31m\n"


@pytest.mark.parametrize("character", list("<>&\"'\x1b\n"))
def test_names_for_igv_have_no_markup(character):
    assert character not in igv_text(HOSTILE)


def test_a_hostile_model_name_is_no_markup(viewed, tmp_path):
    track = tmp_path / "a<b>&.bw"
    track.write_bytes((viewed / "z.bw").read_bytes())
    record = json.loads(record_path(viewed / "z.bw").read_text())
    record["model"]["name"] = HOSTILE
    record_path(track).write_text(json.dumps(record))
    with Genome(viewed / "genome.fa") as genome:
        site = build_site([track], genome)
    name = settings_of(site)["tracks"][0]["name"]
    assert not set(name) & set("<>&\"'\x1b\n")
    text = page_text(site)
    assert "<b>" not in text
    assert "<img" not in text
    assert text.count("</script>") == 3


def test_a_missing_igv_notebook_is_reported(viewed, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with Genome(viewed / "genome.fa") as genome, pytest.raises(MissingExtraError, match=r"zflipon\[view\]"):
        build_site([viewed / "z.bw"], genome)


TEST_PAGE = b"""<!doctype html><iframe id="frame" src="/" width="1200" height="700"></iframe><pre id="out"></pre>
<script src="/test.js"></script>"""

TEST_SCRIPT = """
const frame = document.getElementById("frame"), out = document.getElementById("out");
function canvases(root, list = []) {
  for (const each of root.querySelectorAll("*")) {
    if (each.tagName === "CANVAS") list.push(each);
    if (each.shadowRoot) canvases(each.shadowRoot, list);
  }
  return list;
}
function countColoured(document) {
  let count = 0;
  for (const canvas of canvases(document)) {
    if (!canvas.width || !canvas.height) continue;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < data.length; i += 4)
      if (data[i] === RED && data[i + 1] === GREEN && data[i + 2] === BLUE && data[i + 3] === 255) count++;
  }
  return count;
}
const until = (test, then) => test() ? then() : setTimeout(() => until(test, then), 100);
const inner = () => frame.contentWindow;
const names = () => [...inner().document.querySelectorAll("tbody tr")].filter(row => !row.hidden)
  .map(row => row.querySelector("button").textContent);
until(() => inner().document.body && inner().document.body.dataset.ready, () => {
  const first = String(inner().browser.currentLoci());
  until(() => countColoured(inner().document) > 0, () => {
    const painted = countColoured(inner().document);
    inner().document.querySelectorAll("tbody button")[1].click();
    until(() => String(inner().browser.currentLoci()) !== first, () => {
      const second = String(inner().browser.currentLoci());
      inner().document.querySelector('th button[data-column="position"]').click();
      const sorted = names();
      const filter = inner().document.getElementById("filter");
      filter.value = "two:";
      filter.dispatchEvent(new Event("input"));
      const filtered = names(), search = inner().document.getElementById("search");
      search.value = "be";
      search.dispatchEvent(new Event("input"));
      const suggested = [...inner().document.querySelectorAll("#genes option")].map(each => each.value);
      search.value = "beta";
      search.dispatchEvent(new Event("change"));
      until(() => String(inner().browser.currentLoci()) !== second, () => {
        out.textContent = JSON.stringify({ first, painted, second, sorted, filtered, suggested,
          third: String(inner().browser.currentLoci()), ucsc: inner().document.getElementById("ucsc").href,
          error: inner().document.getElementById("error").textContent });
      });
    });
  });
});
"""


@needs_chromium
def test_a_browser_draws_the_track_moves_sorts_and_filters(viewed, tmp_path):
    from zflipon.tracks.bed import SCORE_COLOURS

    red, green, blue = SCORE_COLOURS[1000].split(",")
    script = TEST_SCRIPT.replace("RED", red).replace("GREEN", green).replace("BLUE", blue)
    with Genome(viewed / "genome.fa") as genome:
        gtf = write_gtf(tmp_path / "genes.gtf")
        site = build_site([viewed / "z.bw", viewed / "z.bed.gz"], genome, gtf=gtf)
        link = '<a id="ucsc" data-address="https://genome.ucsc.edu/?db=hg38" href="#">UCSC</a>'
        page = page_text(site).replace("<datalist", f"{link}<datalist")  # as for an assembly that UCSC hosts
        contents = {
            **site.contents,
            "/": ServedFile(page.encode(), "text/html; charset=utf-8"),
            "/test": ServedFile(TEST_PAGE, "text/html"),
            "/test.js": ServedFile(script.encode(), "text/javascript"),
        }
        with serving(contents) as server:
            options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=30000",
                       f"--user-data-dir={tmp_path}"]  # fmt: skip
            done = subprocess.run(
                [CHROMIUM, *options, "--dump-dom", f"{server.address}test"],
                capture_output=True, text=True, timeout=120,
            )  # fmt: skip
    text = unescape(re.search(r'<pre id="out">(.*?)</pre>', done.stdout)[1])
    assert text, done.stdout[-2000:] + done.stderr[-2000:]
    result = json.loads(text)
    assert result["error"] == ""
    assert result["painted"] > 100  # bars of the signal, in its own colour
    (contig, first), (other, second) = (locus.region.split(":") for locus in site.loci[:2])

    def middle(region):
        low, high = (int(part.replace(",", "")) for part in region.split(":")[-1].split("-"))
        return (low + high) / 2

    assert result["first"].startswith(f"{contig}:")
    assert result["second"].startswith(f"{other}:")
    assert abs(middle(result["first"]) - middle(first)) <= 2
    assert abs(middle(result["second"]) - middle(second)) <= 2
    by_position = sorted(site.loci, key=lambda locus: (locus.contig, locus.start))
    assert result["sorted"] == [locus.name for locus in by_position]
    assert result["filtered"] == [locus.name for locus in by_position if locus.contig == "two"]
    assert result["suggested"] == ["BETA"]
    assert result["third"].replace(",", "").startswith("two:")
    assert abs(middle(result["third"]) - 750) <= 2
    assert (
        unquote(result["ucsc"])
        == f"https://genome.ucsc.edu/?db=hg38&position={result['third'].replace(',', '')}"
    )
