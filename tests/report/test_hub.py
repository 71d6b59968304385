"""Track hub and IGV session: settings, existing files, and text that cannot add settings or markup."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from report_files import stanzas, write_run

from zflipon.report.bundle import bundle
from zflipon.report.hub import BrowserTrack, hub_text, hub_value, session_text, surrounding_region


def test_the_hub_has_the_required_settings_and_its_files_exist(written):
    folder = written[0] / "hub"
    hub, genome, *tracks = stanzas((folder / "hub.txt").read_text())
    assert {"hub", "shortLabel", "longLabel", "useOneFile", "email"} <= set(hub)
    assert hub["useOneFile"] == "on"
    assert hub["email"] == "me@example.org"
    assert genome == {"genome": "hg38"}
    assert len(tracks) == 3
    for track in tracks:
        assert {"track", "type", "shortLabel", "longLabel", "bigDataUrl", "visibility"} <= set(track)
        assert re.fullmatch(r"[A-Za-z]\w*", track["track"])
        assert len(track["shortLabel"]) <= 17
        assert len(track["longLabel"]) <= 76
        assert not Path(track["bigDataUrl"]).is_absolute()
        assert (folder / track["bigDataUrl"]).is_file()
    assert len({track["track"] for track in tracks}) == 3
    signal, calls, labels = tracks
    assert (signal["type"], signal["viewLimits"], signal["autoScale"]) == ("bigWig 0 1", "0:1", "off")
    assert (calls["type"], calls["itemRgb"]) == ("bigBed 9 +", "on")
    assert labels["type"] == "bigBed 3"


def test_the_session_names_existing_files(written):
    folder = written[0] / "hub"
    session = ElementTree.parse(folder / "igv_session.xml").getroot()
    assert (session.tag, session.get("genome")) == ("Session", "hg38")
    resources = [each.get("path") for each in session.iter("Resource")]
    assert resources == ["z.bw", "z.bb", "known_zdna.bb"]
    assert all((folder / path).is_file() for path in resources)
    tracks = list(session.iter("Track"))
    assert [track.get("id") for track in tracks] == resources
    assert tracks[0].get("autoScale") == "false"
    axis = tracks[0].find("DataRange")
    assert (float(axis.get("minimum")), float(axis.get("maximum"))) == (0, 1)
    contig, start, end = re.fullmatch(r"(\w+):(\d+)-(\d+)", session.get("locus")).groups()
    assert contig == "chr10"
    assert int(start) <= 2000 < int(end)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a\n\ntrack evil\nbigDataUrl http://evil", r"a\n\ntrack evil\nbigDataUrl http://evil"),
        ("a\rb\x0b\x85\u2028c", r"a\rb\x0b\x85\u2028c"),
        ("continues \\", "continues"),
        ("  café ", "café"),
    ],
)
def test_a_hub_value_stays_on_one_line(text, value):
    assert hub_value(text).rstrip() == value
    assert len(hub_value(text).splitlines()) == 1


HOSTILE = 'x"><script>\n\ntrack evil\n\x1b[31m & \ud800 \\'


def test_hostile_names_add_no_stanza_and_no_markup(tmp_path):
    tracks = write_run(tmp_path, model={"name": HOSTILE})
    bundle(tracks, tmp_path / "hub")
    parsed = stanzas((tmp_path / "hub" / "hub.txt").read_text(encoding="utf-8"))
    assert len(parsed) == 4
    assert [stanza["track"] for stanza in parsed[2:]] == ["zflipon_z_bw", "zflipon_z_bb"]
    for name in ("hub.txt", "igv_session.xml", "index.html"):
        text = (tmp_path / "hub" / name).read_text(encoding="utf-8")
        assert "\x1b" not in text
        assert "<script" not in text or name == "hub.txt"


def test_hostile_labels_leave_the_session_well_formed():
    track = BrowserTrack("z.bw", HOSTILE, HOSTILE)
    session = ElementTree.fromstring(session_text([track], "hg38", "chr1").split("\n", 1)[1])
    assert len(list(session.iter())) == 6
    assert len(stanzas(hub_text([track], "hg38", "a@b\nc"))) == 3


@pytest.mark.parametrize(
    ("start", "end", "length", "region"),
    [(1000, 1010, 5000, (791, 1220)), (0, 10, 5000, (1, 220)), (4990, 5000, 5000, (4781, 5000))],
)
def test_the_region_around_a_call(start, end, length, region):
    assert surrounding_region(start, end, length) == region
