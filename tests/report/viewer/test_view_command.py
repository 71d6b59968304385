"""``zflipon view``: invalid inputs, the printed address, Ctrl-C, text-mode browsers."""

import http.client
import os
import re
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner
from conftest import dna, make_fasta

from zflipon.cli import cli
from zflipon.report.viewer.server import ADDRESS, Server


def invoke(*words):
    done = CliRunner().invoke(cli, ["view", *map(str, words), "--no-browser"])
    return done.exit_code, done.exception


def test_invalid_inputs_are_errors_before_anything_is_served(viewed, tmp_path, monkeypatch):
    monkeypatch.setattr(Server, "serve_forever", lambda server: pytest.fail("it is served"))
    genome = ("--genome", viewed / "genome.fa")
    (tmp_path / "bad.bw").write_bytes(b"no bigWig at all, but long enough")
    other = make_fasta(tmp_path / "other.fa", {"chr9": dna(500)})
    (tmp_path / "bad.bed").write_text("one\tten\t20\n")
    (tmp_path / "far.bed").write_text("one\t10\t20\none\t30000\t30010\n")
    short = make_fasta(tmp_path / "short.fa", {"one": dna(500), "two": dna(3000)})
    with Server({}) as running:
        for words, message in (
            ((tmp_path / "bad.bw", *genome), "not a bigWig file"),
            ((tmp_path / "no.bw", *genome), "no such file"),
            ((viewed / "genome.fa", *genome), "unknown kind of track"),
            ((viewed / "z.bw", "--genome", other), "contigs that the genome lacks"),
            ((viewed / "z.bw", "--genome", short), "are all of the same assembly"),
            ((viewed / "z.bw", *genome, "--labels", tmp_path / "no.bed"), "no such file"),
            ((viewed / "z.bw", *genome, "--labels", tmp_path / "bad.bed"), "bad.bed"),
            ((viewed / "z.bw", tmp_path / "bad.bed", *genome), "bad.bed"),
            ((viewed / "z.bw", viewed / "z.bed", tmp_path / "far.bed", *genome), "far.bed"),
            ((viewed / "z.bw", "--genome", tmp_path / "no.fa"), "no.fa"),
            ((viewed / "z.bw", *genome, "--region", "one:9-x"), "one:9-x"),
            ((viewed / "z.bw", *genome, "--port", running.port), f"port {running.port} of 127.0.0.1"),
        ):
            status, error = invoke(*words)
            assert status == 1, words
            assert message in str(error), error


def test_it_prints_its_address_and_ctrl_c_ends_it(viewed):
    words = ["view", viewed / "z.bw", "--genome", viewed / "genome.fa", "--no-browser"]
    process = subprocess.Popen(
        [sys.executable, "-m", "zflipon", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a process that a shell starts in the background ignores Ctrl-C, and so do its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    address = process.stdout.readline().strip()
    port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", address)[1])
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=30)
    connection.request("GET", "/")
    assert b"igv.js" in connection.getresponse().read()
    connection.close()
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in messages
    assert messages.endswith("zflipon: stopped\n")


def test_a_text_mode_browser_is_served(viewed, monkeypatch):
    """Such a browser returns when its user quits it; in this test that also ends the server, like Ctrl-C."""
    pages = []

    def browse(address):
        server = re.fullmatch(r"http://(.*):(.*)/", address)
        connection = http.client.HTTPConnection(server[1], int(server[2]), timeout=30)
        connection.request("GET", "/")
        pages.append(connection.getresponse().read())
        connection.close()
        os.kill(os.getpid(), signal.SIGINT)
        return True

    monkeypatch.setattr("webbrowser.open", browse)
    # under nohup, Ctrl-C is ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    words = ["view", str(viewed / "z.bw"), "--genome", str(viewed / "genome.fa"), "--region", "two"]
    try:
        done = CliRunner().invoke(cli, words)
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.exit_code == 0, done.output
    assert b"igv.js" in pages[0]
    assert done.stderr.endswith("zflipon: stopped\n")


def test_a_url_is_refused_and_shown_in_full(viewed):
    url = "https://example.org/z.bw"
    done = CliRunner().invoke(cli, ["view", url, "--genome", str(viewed / "genome.fa")])
    assert done.exit_code == 2
    assert f"{url} is a URL" in done.output
