"""The viewer: what the server gives and refuses, what the page holds, and that a browser draws the track."""

import gzip
import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
from click.testing import CliRunner
from conftest import dna, make_fasta

from zflipon.cli import cli
from zflipon.config import InferenceConfig
from zflipon.errors import InputError, MissingExtraError, OutputError
from zflipon.genome.fasta import Genome
from zflipon.report.viewer.server import ADDRESS, Served, Server, asked_range
from zflipon.report.viewer.site import make_site, surest
from zflipon.workflows.annotate import annotate

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def serving(contents, port=0):
    with Server(contents, port) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return a server of one file and one text, and the file's folder, which holds another file."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "named.bin").write_bytes(bytes(range(256)) * 10)
    (folder / "secret.txt").write_text("not named")
    with serving({"/": Served(b"page", "text/html"), "/data/0.bin": Served(folder / "named.bin")}) as server:
        yield server, folder


def ask(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection(ADDRESS, server.port, timeout=30)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


BYTES = bytes(range(256)) * 10


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        (None, 200, slice(None)),
        ("bytes=0-0", 206, slice(0, 1)),
        ("bytes=10-19", 206, slice(10, 20)),
        ("bytes=2550-9999", 206, slice(2550, 2560)),
        ("bytes=2000-", 206, slice(2000, 2560)),
        ("bytes=-5", 206, slice(2555, 2560)),
        ("bytes=-9999", 206, slice(0, 2560)),
        ("bytes=2560-", 416, slice(0, 0)),
        ("bytes=-0", 416, slice(0, 0)),
        ("bytes=9-3", 200, slice(None)),
        ("bytes=0-1,5-6", 200, slice(None)),
        ("lines=0-1", 200, slice(None)),
    ],
)
def test_parts_of_a_file(small, asked, status, part):
    answer, body = ask(small[0], "/data/0.bin", **({"Range": asked} if asked else {}))
    assert answer.status == status
    assert body == BYTES[part]
    assert int(answer.headers["Content-Length"]) == len(body)
    if status == 206:
        assert answer.headers["Content-Range"] == f"bytes {part.start}-{part.stop - 1}/2560"
    if status == 416:
        assert answer.headers["Content-Range"] == "bytes */2560"


def test_head_has_no_body(small):
    answer, body = ask(small[0], "/data/0.bin", "HEAD")
    assert (answer.status, answer.headers["Content-Length"], body) == (200, "2560", b"")
    assert answer.headers["Accept-Ranges"] == "bytes"


def test_a_connection_serves_again_and_again(small):
    connection = http.client.HTTPConnection(ADDRESS, small[0].port, timeout=30)
    for _ in range(3):
        connection.request("GET", "/data/0.bin", headers={"Range": "bytes=1-2"})
        assert connection.getresponse().read() == BYTES[1:3]
    connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "/data/../secret.txt",
        "/data/secret.txt",
        "/secret.txt",
        "/%2e%2e/secret.txt",
        "/data/%2e%2e%2fsecret.txt",
        "/data/0.bin/../secret.txt",
        "//etc/passwd",
        "/../../../../etc/passwd",
        "/data",
        "/data/",
        "/data/1.bin",
    ],
)
def test_nothing_else_on_disk_is_served(small, path):
    answer, body = ask(small[0], path)
    assert answer.status == 404
    assert b"not named" not in body


def test_an_absolute_path_of_the_named_file_is_no_address(small):
    server, folder = small
    assert ask(server, str(folder / "named.bin"))[0].status == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", f"{ADDRESS}", "", f"{ADDRESS}:1"])
def test_only_this_machine_is_served(small, host):
    answer, body = ask(small[0], "/", Host=host)
    assert answer.status == 403
    assert body != b"page"


def test_localhost_is_this_machine(small):
    assert ask(small[0], "/", Host=f"localhost:{small[0].port}")[1] == b"page"


def test_other_methods_are_not_known(small):
    for method in ("POST", "PUT", "DELETE"):
        assert ask(small[0], "/", method)[0].status == 501


def test_scripts_of_elsewhere_are_not_loaded(small):
    policy = ask(small[0], "/")[0].headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self'")
    assert "http" not in policy


def test_it_listens_to_this_machine_alone(small):
    assert small[0].server_address[0] == "127.0.0.1"


def test_a_port_in_use(small):
    with pytest.raises(OutputError, match=f"port {small[0].port} of 127.0.0.1 cannot be used .*--port"):
        Server({}, small[0].port)


def test_a_port_can_be_had_again_at_once():
    with serving({"/": Served(b"page")}) as server:
        connection = http.client.HTTPConnection(ADDRESS, server.port, timeout=30)
        connection.request("GET", "/", headers={"Connection": "close"})
        assert connection.getresponse().read() == b"page"  # the server has hung up first: its side waits
    with serving({"/": Served(b"again")}, server.port) as second:
        assert ask(second, "/")[1] == b"again"


def test_a_browser_that_breaks_off_is_no_news(tmp_path, capfd):
    served = Served(bytes(1 << 25))
    with serving({"/": served}) as server:
        handled = []
        shutdown_request = server.shutdown_request

        def noted(request):
            shutdown_request(request)
            handled.append(request)
            done.set()

        server.shutdown_request = noted
        for text in ("GE", f"GET / HTTP/1.1\r\nHost: {ADDRESS}:{server.port}\r\n\r\n"):
            done = threading.Event()
            client = socket.create_connection((ADDRESS, server.port))
            client.sendall(text.encode())
            if len(text) > 2:
                client.recv(100)  # the answer has begun
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()  # with a reset
            assert done.wait(30)
        assert ask(server, "/", "HEAD")[0].status == 200
    assert len(handled) >= 2
    assert capfd.readouterr().err == ""


class Shrunk(Served):
    size = 100


def test_a_file_that_shrinks_ends_the_connection(tmp_path):
    (tmp_path / "x").write_bytes(b"1")
    with serving({"/x": Shrunk(tmp_path / "x")}) as server, pytest.raises(http.client.IncompleteRead):
        ask(server, "/x")


def test_a_file_that_went_is_gone(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"1")
    with serving({"/x": Served(path)}) as server:
        assert ask(server, "/x")[1] == b"1"
        path.unlink()
        assert ask(server, "/x")[0].status == 404


def test_ranges_of_an_empty_file():
    assert asked_range(None, 0) is None
    with pytest.raises(ValueError, match="beyond"):
        asked_range("bytes=0-", 0)


# ---- the page --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_checkpoint):
    """Return a folder with a genome, tracks of it and labels."""
    folder = tmp_path_factory.mktemp("viewed")
    make_fasta(folder, {"one": dna(20_000, 1), "two": dna(3000, 3)})
    make_fasta(folder / "packed.bgz.fa.gz", {"one": dna(20_000, 1), "two": dna(3000, 3)})
    outputs = [str(folder / name) for name in ("z.bw", "z.bed", "z.bed.gz")]
    annotate(
        folder / "genome.fa", outputs, str(tiny_checkpoint), predict=InferenceConfig(device="cpu"), quiet=True
    )
    (folder / "labels.bed").write_text("one\t1000\t1100\n")
    return folder


def told(site):
    text = site.contents["/"].source.decode()
    return json.loads(
        re.search(r'<script id="told" type="application/json">(.*?)</script>', text, re.DOTALL)[1]
    )


def test_the_page_names_what_is_served_and_nothing_else(folder):
    with Genome(folder / "genome.fa") as genome:
        site = make_site([folder / "z.bw", folder / "z.bed.gz"], genome, folder / "labels.bed")
        settings = told(site)
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


def test_a_packed_genome_goes_with_both_of_its_indices(folder):
    with Genome(folder / "packed.bgz.fa.gz") as genome:
        site = make_site([folder / "z.bw"], genome)
        reference = told(site)["reference"]
        assert site.contents[reference["compressedIndexURL"]].source.name.endswith(".gzi")
        assert reference["fastaURL"].endswith(".fa.gz")


def test_the_list_holds_the_surest_calls_first(folder):
    rows = [line.split("\t") for line in (folder / "z.bed").read_text().splitlines() if line[0] != "#"]
    with Genome(folder / "genome.fa") as genome:
        site = make_site([folder / "z.bw", folder / "z.bed"], genome)
        by_signal = make_site([folder / "z.bw"], genome)
    best = max(rows, key=lambda row: float(row[9]))
    assert site.loci[0].name == f"{best[0]}:{int(best[1]) + 1:,}-{int(best[2]):,}"
    assert len(site.loci) == min(200, len(rows))
    scores = [locus.score for locus in site.loci]
    assert scores == sorted(scores, reverse=True)
    assert told(site)["locus"] == site.loci[0].shown
    # a bigWig without its BED is called at the recorded threshold
    assert {locus.name for locus in by_signal.loci} == {locus.name for locus in site.loci}


def test_the_list_tells_whose_calls_it_holds(folder, tmp_path):
    (tmp_path / "none.bed").write_text("")
    (tmp_path / "other.bed").write_text("one\t10\t30\none\t500\t540\n")
    with Genome(folder / "genome.fa") as genome:
        site = make_site([tmp_path / "none.bed", tmp_path / "other.bed"], genome)
    assert [locus.name for locus in site.loci] == [
        "one:501-540",
        "one:11-30",
    ]  # without scores, the longer first
    assert "<p>2 calls of other</p>" in site.contents["/"].source.decode()


def test_reading_a_signal_for_its_calls_is_told(folder):
    read = []
    with Genome(folder / "genome.fa") as genome:
        make_site([folder / "z.bw"], genome, progress=lambda done, total: read.append((done, total)))
        assert sum(done for done, _ in read) == 23_000
        assert {total for _, total in read} == {23_000}
        make_site(
            [folder / "z.bw", folder / "z.bed"], genome, progress=lambda *_: pytest.fail("nothing to read")
        )


def test_a_plain_gzip_genome_is_served_unpacked(folder, tmp_path):
    path = tmp_path / "plain.fa.gz"
    path.write_bytes(gzip.compress((folder / "genome.fa").read_bytes()))
    with Genome(path) as genome:
        site = make_site([folder / "z.bw"], genome)
        served = site.contents[told(site)["reference"]["fastaURL"]].source
        assert served.read_bytes() == (folder / "genome.fa").read_bytes()
    assert not served.exists()  # it lay in a temporary folder


def test_a_region_is_where_it_opens(folder):
    with Genome(folder / "genome.fa") as genome:
        assert told(make_site([folder / "z.bw"], genome, region="two:101-200"))["locus"] == "two:101-200"
        with pytest.raises(InputError, match="no such contig"):
            make_site([folder / "z.bw"], genome, region="three:1-2")


def test_no_calls_no_list():
    assert surest({}, {"one": 10}) == []


def test_names_are_no_markup(folder, tmp_path):
    odd = tmp_path / "a<b>&.bed"
    odd.write_text("one\t10\t30\t</script>\t500\n")
    with Genome(folder / "genome.fa") as genome:
        text = make_site([odd], genome).contents["/"].source.decode()
    assert "<b>" not in text
    assert text.count("</script>") == 3


def run(*words):
    done = CliRunner().invoke(cli, ["view", *map(str, words), "--no-browser"])
    return done.exit_code, done.exception


def test_what_cannot_be_shown(folder, small, tmp_path, monkeypatch):
    monkeypatch.setattr(Server, "serve_forever", lambda server: pytest.fail("it is shown"))
    taken = small[0].port
    genome = ("--genome", folder / "genome.fa")
    (tmp_path / "bad.bw").write_bytes(b"no bigWig at all, but long enough")
    other = make_fasta(tmp_path / "other.fa", {"chr9": dna(500)})
    (tmp_path / "bad.bed").write_text("one\tten\t20\n")
    (tmp_path / "far.bed").write_text("one\t10\t20\none\t30000\t30010\n")
    short = make_fasta(tmp_path / "short.fa", {"one": dna(500), "two": dna(3000)})
    for words, said in (
        ((tmp_path / "bad.bw", *genome), "not a bigWig file"),
        ((tmp_path / "no.bw", *genome), "no such file"),
        ((folder / "genome.fa", *genome), "unknown kind of track"),
        ((folder / "z.bw", "--genome", other), "contigs that the genome lacks"),
        ((folder / "z.bw", "--genome", short), "are all of the same assembly"),
        ((folder / "z.bw", *genome, "--labels", tmp_path / "no.bed"), "no such file"),
        ((folder / "z.bw", *genome, "--labels", tmp_path / "bad.bed"), "bad.bed"),
        ((folder / "z.bw", tmp_path / "bad.bed", *genome), "bad.bed"),
        ((folder / "z.bw", folder / "z.bed", tmp_path / "far.bed", *genome), "far.bed"),
        ((folder / "z.bw", "--genome", tmp_path / "no.fa"), "no.fa"),
        ((folder / "z.bw", *genome, "--region", "one:9-x"), "one:9-x"),
        ((folder / "z.bw", *genome, "--port", taken), f"port {taken} of 127.0.0.1 cannot be used"),
    ):
        status, failure = run(*words)
        assert status == 1, words
        assert said in str(failure), failure


def test_the_package_that_carries_igv_is_named(folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with Genome(folder / "genome.fa") as genome, pytest.raises(MissingExtraError, match=r"zflipon\[view\]"):
        make_site([folder / "z.bw"], genome)


def test_it_prints_its_address_and_ctrl_c_ends_it(folder):
    words = ["view", folder / "z.bw", "--genome", folder / "genome.fa", "--no-browser"]
    process = subprocess.Popen(
        [sys.executable, "-m", "zflipon", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # what a shell starts in the background ignores Ctrl-C, and so would whatever the tests start
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    address = process.stdout.readline().strip()
    port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", address)[1])
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=30)
    connection.request("GET", "/")
    assert b"igv.js" in connection.getresponse().read()
    connection.close()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in said
    assert said.endswith("zflipon: stopped\n")


def test_a_browser_that_stays_in_the_terminal_is_served(folder, monkeypatch):
    """Such a browser returns when its user leaves it; here that ends the server too, as Ctrl-C would."""
    seen = {}

    def browse(address):
        server = re.fullmatch(r"http://(.*):(.*)/", address)
        connection = http.client.HTTPConnection(server[1], int(server[2]), timeout=30)
        connection.request("GET", "/")
        seen["page"] = connection.getresponse().read()
        connection.close()
        os.kill(os.getpid(), signal.SIGINT)
        return True

    monkeypatch.setattr("webbrowser.open", browse)
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # where Ctrl-C is ignored, as behind nohup
    words = ["view", str(folder / "z.bw"), "--genome", str(folder / "genome.fa"), "--region", "two"]
    try:
        done = CliRunner().invoke(cli, words)
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.exit_code == 0, done.output
    assert b"igv.js" in seen["page"]
    assert done.stderr.endswith("zflipon: stopped\n")


CLICK = """<!doctype html><iframe id="frame" src="/" width="1200" height="700"></iframe><pre id="out"></pre><script>
const frame = document.getElementById("frame"), out = document.getElementById("out");
function all(root, found = []) {
  for (const each of root.querySelectorAll("*")) {
    if (each.tagName === "CANVAS") found.push(each);
    if (each.shadowRoot) all(each.shadowRoot, found);
  }
  return found;
}
function coloured(document) {
  let count = 0;
  for (const canvas of all(document)) {
    if (!canvas.width || !canvas.height) continue;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < data.length; i += 4)
      if (data[i] === RED && data[i + 1] === GREEN && data[i + 2] === BLUE && data[i + 3] === 255) count++;
  }
  return count;
}
const until = (test, then) => test() ? then() : setTimeout(() => until(test, then), 100);
const inner = () => frame.contentWindow;
until(() => inner().document.body && inner().document.body.dataset.ready, () => {
  const first = String(inner().browser.currentLoci());
  until(() => coloured(inner().document) > 0, () => {
    const painted = coloured(inner().document);
    inner().document.querySelectorAll("nav button")[1].click();
    until(() => String(inner().browser.currentLoci()) !== first, () => {
      out.textContent = JSON.stringify({ first, painted, second: String(inner().browser.currentLoci()),
        failed: inner().document.getElementById("error").textContent });
    });
  });
});
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no headless browser")
def test_a_browser_draws_the_track_and_goes_where_it_is_told(folder, tmp_path):
    from zflipon.tracks.bed import SCORE_COLOURS

    red, green, blue = SCORE_COLOURS[1000].split(",")
    script = CLICK.replace("RED", red).replace("GREEN", green).replace("BLUE", blue)
    with Genome(folder / "genome.fa") as genome:
        site = make_site([folder / "z.bw", folder / "z.bed.gz"], genome)
        with serving({**site.contents, "/click": Served(script.encode(), "text/html")}) as server:
            options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=30000",
                       f"--user-data-dir={tmp_path}"]  # fmt: skip
            done = subprocess.run(
                [CHROMIUM, *options, "--dump-dom", f"{server.address}click"],
                capture_output=True, text=True, timeout=120,
            )  # fmt: skip
    text = re.search(r'<pre id="out">(.*?)</pre>', done.stdout)[1]
    assert text, done.stdout[-2000:] + done.stderr[-2000:]
    seen = json.loads(text)
    assert seen["failed"] == ""
    assert seen["painted"] > 100  # bars of the signal, in its own colour
    (contig, first), (other, second) = (locus.shown.split(":") for locus in site.loci[:2])

    def middle(place):
        low, high = (int(part.replace(",", "")) for part in place.split(":")[-1].split("-"))
        return (low + high) / 2

    assert seen["first"].startswith(f"{contig}:")
    assert seen["second"].startswith(f"{other}:")
    assert abs(middle(seen["first"]) - middle(first)) <= 2
    assert abs(middle(seen["second"]) - middle(second)) <= 2
