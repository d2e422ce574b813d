"""What becomes of a run when another one is begun: its report and its papers are kept in
a directory of its own, whatever is killed and when."""

import contextlib
import ctypes
import os
import platform
import re
import signal

from cli_case import cli_case
from harness import expect, expect_true

DOMAIN = "example.com"
BOOK = """\
title = "One paper"
setting "text" {{ about = "what is written" }}
phase "p" {{
  step "paper" {{ title = "T" owner = "sluice" action = {{"document", "%{{text}}"}} }}
  step "agree" {{ title = "T" owner = "ann" action = {{"acknowledge"}} }}
}}
"""

# Calls that leave something behind: what is written, renamed, made, removed, sent.
CALLS = {
    "x86_64": {1, 18, 20, 44, 46, 74, 82, 83, 84, 87, 257, 258, 263, 264, 316},
    "aarch64": {34, 35, 38, 56, 64, 66, 68, 82, 206, 211, 276},
}
TRACEME, SYSCALL, SETOPTIONS, SYSCALL_INFO = 0, 24, 0x4200, 0x420e
GOOD, KILL = 0x1, 0x100000   # TRACESYSGOOD, EXITKILL


class Traced:
    """A program that is killed just before its n-th call of CALLS."""

    def __init__(self, argv):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = [ctypes.c_long] * 2 + [ctypes.c_void_p] * 2
        self.libc.ptrace.restype = ctypes.c_long
        self.pid = os.fork()
        if self.pid == 0:
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            self.libc.ptrace(TRACEME, 0, None, None)
            os.execv(argv[0], argv)
        os.waitpid(self.pid, 0)
        self._ask(SETOPTIONS, None, GOOD | KILL)

    def _ask(self, what, address, data):
        if self.libc.ptrace(what, self.pid, address, data) < 0:
            raise OSError(ctypes.get_errno(), "ptrace")

    def _call(self):
        """Number of the call at whose beginning it stands; None at an end."""
        info = ctypes.create_string_buffer(88)
        self._ask(SYSCALL_INFO, len(info), ctypes.addressof(info))
        return int.from_bytes(info[24:32], "little") if info[0] == b"\x01" else None

    def kill_before(self, n):
        """Whether it came so far; else its exit code is in self.code."""
        calls, seen, pass_on = CALLS[platform.machine()], 0, 0
        while True:
            self._ask(SYSCALL, None, pass_on)
            _, status = os.waitpid(self.pid, 0)
            if not os.WIFSTOPPED(status):
                self.code = os.waitstatus_to_exitcode(status)
                return False
            if os.WSTOPSIG(status) != signal.SIGTRAP | 0x80:
                pass_on = os.WSTOPSIG(status)
                continue
            pass_on = 0
            seen += self._call() in calls
            if seen >= n:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                return True


class Keep:
    def __init__(self, case):
        self.case = case
        self.book = case.file("paper.conf", BOOK.format())
        self.top = os.path.join(case.state, "playbook")
        self.directory = os.path.join(self.top, DOMAIN)

    def __call__(self, *words):
        return self.case.sluice("playbook", *words)

    def words(self, text):
        return "start", self.book, DOMAIN, "--set", f"text={text}", "--replace"

    def begin(self, text):
        """A run that has written its paper and waits."""
        said = self(*self.words(text))
        expect(f"start ({said.err})", said.code, 0)
        return said

    def write(self, text):
        """A new run, and its paper."""
        self.begin(text)
        said = self("run", DOMAIN)
        expect(f"run ({said.err})", said.code, 75)

    def papers(self):
        """{text of paper.txt: directories that have it}."""
        found = {}
        for name in sorted(os.listdir(self.top)):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                with open(os.path.join(self.top, name, "paper.txt"),
                          encoding="utf-8") as file:
                    found.setdefault(file.read().strip(), []).append(name)
        return found

    def settings(self):
        """Which run there is, by its one setting."""
        flat = self.case.redis.command("HGETALL", f"sluice:playbook:{DOMAIN}")
        return dict(zip(flat[::2], flat[1::2]))["=text"].split("\t")[1]

    def read(self, *names):
        with open(os.path.join(self.top, *names), encoding="utf-8") as file:
            return file.read()


@contextlib.contextmanager
def keep_case():
    with cli_case(names=(DOMAIN,)) as case:
        yield Keep(case)


def test_earlier_run_is_kept():
    with keep_case() as keep:
        first = keep.begin("one")
        expect("nothing was there", first.out.count("\n"), 1)
        keep("run", DOMAIN)
        keep("ack", DOMAIN, "agree", "--by", "Ann", "--note", "yes <b>")
        expect("finished", keep("run", DOMAIN).code, 0)
        dry = keep(*keep.words("two"), "--dry-run")
        expect("a dry run", (dry.code, keep.papers()), (0, {"one": [DOMAIN]}))
        said = keep.begin("two")
        kept = re.search(rf"earlier run \(paper\.conf\) are in (\S+{DOMAIN}"
                         r"\.\d{8}T\d{6}Z): report\.html", said.out)
        expect_true(f"one line says where: {said.out}", kept)
        name = os.path.basename(kept[1])
        expect("its papers", keep.papers(), {"one": [name]})
        html, markdown = keep.read(name, "report.html"), keep.read(name, "report.md")
        for text in (html, markdown):
            expect_true(f"the report is whole: {text}", "Ann" in text and "finished" in text
                        and name in text and "yes" in text and "paper.txt" in text)
        expect_true("escaped", "yes &lt;b&gt;" in html)
        expect_true("records", "=text\t" in keep.read(name, "records.txt"))
        expect("nothing of it in the new one", [
            name for name in os.listdir(keep.directory)
            if name != ".run" and not name.endswith(".conf")], [])
        keep("run", DOMAIN)
        expect("each its own", keep.papers(), {"one": [name], "two": [DOMAIN]})
        # A file that is gone, and records that are damaged: what there is, is kept.
        keep.case.redis.command("HSET", f"sluice:playbook:{DOMAIN}", "", "12\trubbish")
        damaged = keep.begin("three")
        expect_true(damaged.err, "records.txt has what is known" in damaged.err)
        expect("not lost", len(keep.papers()["two"]), 1)
        # A link in the place of the new directory: what is there is not removed.
        others = os.path.dirname(keep.case.file("others.txt", "theirs"))
        before = set(os.listdir(others))
        os.symlink(others, keep.directory + "~new")
        led = keep(*keep.words("four"))
        expect_true(f"named: {led.err}", led.code == 69 and "~new: " in led.err)
        expect("theirs stays", before - set(os.listdir(others)), set())


def check(keep, n, old, new):
    """After a kill: one run or the other, each paper once, and it goes on."""
    there = keep.settings()
    expect_true(f"{n}: one of the two: {there}", there in (old, new))
    expect(f"{n}: status", keep("status", DOMAIN).code, 0)
    said = keep("run", DOMAIN)
    expect(f"{n}: it goes on ({said.err})", said.code, 75)
    papers = keep.papers()
    expect(f"{n}: the present run's paper", papers[there], [DOMAIN])
    expect(f"{n}: the old one's, once: {papers}", len(papers[old]), 1)
    if there == new:
        name = papers[old][0]
        expect_true(f"{n}: its report", DOMAIN in keep.read(name, "report.html"))
        expect_true(f"{n}: without the old one's",
                    "report.html" not in os.listdir(keep.directory))
    return there == new


def test_start_killed_at_every_call():
    with keep_case() as keep:
        keep.write("0")
        new, n, done = 0, 0, False
        outcomes = set()
        while not done:
            n += 1
            old, new = keep.settings(), str(int(new) + 1)
            traced = Traced(keep.case.argv("playbook", *keep.words(new)))
            done = not traced.kill_before(n)
            outcomes.add(check(keep, n, old, new))
        expect("the last was not killed", traced.code, 0)
        expect("both outcomes were seen", outcomes, {False, True})
        expect_true(f"{n} places", n > 20)
        expect("nothing is lost", sorted(keep.papers(), key=int)[-1], keep.settings())
        expect("nothing is left over", [name for name in os.listdir(keep.top)
                                        if name.endswith("~new")], [])


def test_another_host_and_a_lost_run():
    """A directory of another run, found by a run that was not begun here; and one that
    comes back with its run."""
    with keep_case() as keep:
        keep.write("one")
        fields = keep.case.redis.command("HGETALL", f"sluice:playbook:{DOMAIN}")
        keep.write("two")
        # As sluice recover would bring the first one back.
        key = f"sluice:playbook:{DOMAIN}"
        keep.case.redis.command("DEL", key)
        keep.case.redis.command("HSET", key, *fields)
        expect("it goes on", keep("run", DOMAIN).code, 75)
        expect("with its papers", keep.papers()["one"], [DOMAIN])
        expect("the other's are kept", len(keep.papers()["two"]), 1)
        # A run of another host: here it has no directory yet.
        begun = fields[fields.index("") + 1].split("\t")
        begun[2] = str(int(begun[2]) + 100)
        keep.case.redis.command("HSET", key, "", "\t".join(begun))
        expect("it goes on here", keep("run", DOMAIN).code, 75)
        expect("without another's papers", keep.papers()["one"][0] != DOMAIN, True)
