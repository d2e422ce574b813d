"""sluice monitor and sluice audit over a large Postfix log (make_log.c), against
`grep -c status=sent` and pflogsumm on the same file, with the file in the page cache.

    monitor grep       speed of sluice monitor over that of grep -c: at least a third
    monitor pflogsumm  speed of sluice monitor over that of pflogsumm: at least 30
    monitor memory     MiB of sluice monitor for the large log more than for one of a
                       sixteenth: it grows with the messages in flight, not the log
    audit grep, audit pflogsumm, audit memory   the same for sluice audit

The pattern is a plain word as an admin would look for; it stands in one line of ten.
LOG_MB in the environment is the size of the log, default 1024; pflogsumm reads a
sixteenth of it. sluice reads with two threads (log_ahead.h), so the speeds are those of two
idle processors; with others at work there they are those of one, or a little less.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time

from measure import AT_LEAST, AT_MOST, Figure, ratios, say
from parts.process import CommandFailed

NAMES = ("monitor grep", "monitor pflogsumm", "monitor memory", "audit grep",
         "audit pflogsumm", "audit memory")
SHARE = 16
GREP_WORD = "status=sent"
CONF = """\
side = old
hostname = "mx1.example.com"
redis = "unix:{directory}/no-redis"
state-dir = "{directory}"
domain "example.com" {{
  old = "[192.0.2.1]:25"
  new = "[mx.new.example]:25"
}}
"""


def measure(bindir, rounds, wanted):
    size = int(os.environ.get("LOG_MB", "1024"))
    directory = tempfile.mkdtemp(prefix="sluice-logs.", dir="/tmp")
    try:
        large = _make_log(bindir, directory, "large.log", size)
        small = _make_log(bindir, directory, "small.log", max(1, size // SHARE))
        with open(os.path.join(directory, "sluice.conf"), "w",
                  encoding="utf-8") as file:
            file.write(CONF.format(directory=directory))
        return list(_figures(bindir, directory, large, small, rounds, wanted))
    finally:
        shutil.rmtree(directory)


def _figures(bindir, directory, large, small, rounds, wanted):
    for command in ("monitor", "audit"):
        def own(path, name=command):
            return _sluice(bindir, directory, name, path)[0]
        if f"{command} grep" in wanted:
            yield Figure(f"{command} grep", ratios(
                rounds, lambda: _speed(large, own(large)),
                lambda: _speed(large, _grep(large))), 1 / 3, AT_LEAST)
        if f"{command} pflogsumm" in wanted:
            yield Figure(f"{command} pflogsumm", ratios(
                min(rounds, 3), lambda: _speed(large, own(large)),
                lambda: _speed(small, _timed(["pflogsumm", small])[0])),
                30, AT_LEAST)
        if f"{command} memory" in wanted:
            more = (_sluice(bindir, directory, command, large)[1]
                    - _sluice(bindir, directory, command, small)[1])
            yield Figure(f"{command} memory", max(0, more) / 1024, 4, AT_MOST)


def _make_log(bindir, directory, name, size):
    path = os.path.join(directory, name)
    with open(path, "wb") as out:
        done = subprocess.run(
            [os.path.join(bindir, "tests", "bench", "make_log"), str(size)],
            stdout=out, stderr=subprocess.PIPE, check=False, timeout=600)
    if done.returncode != 0:
        raise CommandFailed(f"make_log: {done.stderr.decode()}")
    return path


def _speed(path, seconds):
    return os.path.getsize(path) / 2**20 / seconds


def _grep(path):
    seconds, _ = _timed(["grep", "-c", GREP_WORD, path])
    return seconds


def _sluice(bindir, directory, command, path):
    """(seconds, KiB at most). The figures are in the past: any state is fine,
    but not an error."""
    options = {"monitor": ["--no-checkpoint", "--without-rotated"],
               "audit": []}[command]
    argv = [os.path.join(bindir, "sluice"), "-c",
            os.path.join(directory, "sluice.conf"), command, *options, path]
    return _timed(argv, codes=(0, 1, 2, 3))


def _timed(argv, codes=(0,)):
    """(seconds, KiB). Its output is read: grep ends at its first line when
    nobody reads."""
    with tempfile.TemporaryFile() as errors:
        began = time.monotonic()
        with subprocess.Popen(argv, stdout=subprocess.PIPE,
                              stderr=errors) as process:
            peak = _Peak(process.pid)
            output = process.stdout.read()
            code = process.wait()
            seconds = time.monotonic() - began
            peak.stop()
        errors.seek(0)
        text = errors.read().decode(errors="replace")
    if code not in codes or not output:
        raise CommandFailed(f"{argv}: exit code {code}\n{text}")
    say(f"{os.path.basename(argv[0])} {argv[-1].rsplit('/', 1)[-1]}: "
        f"{seconds:.2f} s, {peak.kib / 1024:.1f} MiB")
    return seconds, peak.kib


class _Peak(threading.Thread):
    """The most memory of a process; wait4() would count this one's too, from
    which it was forked."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.kib, self._path = 0, f"/proc/{pid}/status"
        self._end = threading.Event()
        self.start()

    def run(self):
        while not self._end.wait(0.02):
            with contextlib.suppress(OSError):
                with open(self._path, encoding="utf-8") as status:
                    for line in status:
                        if line.startswith("VmHWM:"):
                            self.kib = max(self.kib, int(line.split()[1]))

    def stop(self):
        self._end.set()
        self.join()
