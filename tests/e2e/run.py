"""Runs the unit tests (make check), the builds that must be clean (both
compilers, sanitizers), the fuzz targets for a short time and the end-to-end
tests, and counts them.

Contract
  SLUICE_BINDIR names the build directory. Each CUnit test and each test_*
  function counts as one test; a unit program that is no CUnit program counts
  by automake's verdict. End-to-end tests run in processes of their own, -j at
  a time (they mostly wait), each with a time limit; the builds run beside them
  with what they leave of the processors. Logs are in BINDIR/e2e-logs, automake's next
  to the test programs.
"""

import argparse
import ast
import glob
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
HARNESS = os.path.join(HERE, "harness.py")
TEST_LIMIT_S = 420
CHECK_LIMIT_S = 600
BUILD_LIMIT_S = 1500
FUZZ_LIMIT_S = 300
SHOWN_LINES = 60
ERROR_LINES = 12
REASON_MAX = 400
SKIPPED = 77


class Tally:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self._failures = []

    def add(self, verdict, name, seconds=None, reason="", log=""):
        counter = {"ok": "passed", "FAIL": "failed", "skip": "skipped"}
        setattr(self, counter[verdict], getattr(self, counter[verdict]) + 1)
        timing = "" if seconds is None else f" ({seconds:.1f} s)"
        reason = f": {reason}" if reason else ""
        print(f"{verdict:4} {name}{reason}{timing}", flush=True)
        if verdict == "FAIL":
            self._failures.append((name, log.splitlines()[-ERROR_LINES:]))
            if log:
                print("\n".join("     | " + line for line in
                                log.splitlines()[-SHOWN_LINES:]), flush=True)

    def finish(self):
        # Again what a failed test said last: of a long log often only the
        # end is kept.
        for name, lines in self._failures:
            print(f"failed: {name}")
            print("".join(f"     | {line}\n" for line in lines), end="")
        print(f"{self.passed} passed, {self.failed} failed, "
              f"{self.skipped} skipped", flush=True)
        ran = self.passed + self.failed
        return 1 if self.failed or not ran else 0


# unit tests

def run_unit(bindir, tally, pattern):
    for stale in results_of_automake(bindir):
        os.unlink(stale)
    began = time.monotonic()
    code, output = run_limited(["make", "-C", bindir, "-k", "check"],
                               CHECK_LIMIT_S)
    results = results_of_automake(bindir)
    for path in results:
        count_unit_program(bindir, path, tally, pattern)
    if code != 0 and not tally.failed:
        tally.add("FAIL", "make check", time.monotonic() - began, "", output)


def results_of_automake(bindir):
    return sorted(glob.glob(os.path.join(bindir, "tests", "**", "*.trs"),
                            recursive=True))


def count_unit_program(bindir, path, tally, pattern):
    """Counts the tests of one program by its CUnit output, else as one."""
    name = os.path.relpath(path, bindir)[:-len(".trs")]
    with open(path, encoding="utf-8") as file:
        verdict = re.search(r":global-test-result: (\S+)", file.read())
    with open(path[:-len("trs")] + "log", encoding="utf-8",
              errors="replace") as file:
        log = file.read()
    failed_before = tally.failed
    for test, verdict_of_test in cunit_tests(log):
        if pattern.search(f"{name}:{test}"):
            tally.add(verdict_of_test, f"{name}:{test}", log=log)
    outcome = verdict.group(1) if verdict else "ERROR"
    if outcome == "SKIP" and pattern.search(name):
        tally.add("skip", name)
    elif outcome == "PASS" and not cunit_tests(log) and pattern.search(name):
        tally.add("ok", name)
    elif outcome not in ("PASS", "SKIP") and tally.failed == failed_before \
            and pattern.search(name):
        tally.add("FAIL", name, reason=outcome, log=log)


def cunit_tests(log):
    """[(test, "ok" or "FAIL")] from the output of CUnit's basic mode."""
    return [(name, "ok" if verdict == "passed" else "FAIL")
            for name, verdict in re.findall(
                r"^\s*Test: (.*?) ?\.\.\.\s*(passed|FAILED)", log,
                re.MULTILINE)]


# builds

# Where the kernel shares out processors by session (sched(7), autogroup), nice(1)
# alone changes nothing.
WITH_WHAT_IS_LEFT = ["sh", "-c",
                     "echo 19 2>/dev/null >/proc/self/autogroup || true; "
                     'exec nice -n 19 "$@"', "sh"]


def run_builds(bindir, tally, pattern):
    """Both compilers without a warning; the unit tests under sanitizers."""
    with_sanitizers = (
        'mkdir -p sanitizers && cd sanitizers && { [ -f Makefile ] || '
        '"$1/configure" --enable-sanitizers; } && '
        'make -j"$(nproc)" check')
    for name, argv in (
            ("build/warnings", ["make", "-C", bindir, "warnings"]),
            ("build/sanitizers", ["sh", "-c", f'cd "$2" && {with_sanitizers}',
                                  "sh", SOURCE, bindir])):
        if not pattern.search(name):
            continue
        if name == "build/sanitizers" and os.path.samefile(bindir, SOURCE):
            tally.add("skip", name, reason="the source is configured in place")
            continue
        began = time.monotonic()
        code, output = run_limited(WITH_WHAT_IS_LEFT + argv, BUILD_LIMIT_S)
        tally.add("FAIL" if code else "ok", name, time.monotonic() - began, "",
                  output if code else "")


# fuzz targets

def run_fuzz(tally, pattern):
    """Each target as one test, by the lines of tests/fuzz/run."""
    script = os.path.join(SOURCE, "tests", "fuzz", "run")
    _, known = run_limited([script, "-l"], FUZZ_LIMIT_S)
    names = [name for name in known.split() if pattern.search(f"fuzz/{name}")]
    if not names:
        return
    code, output = run_limited([script, *names], FUZZ_LIMIT_S)
    if code == SKIPPED:
        for name in names:
            tally.add("skip", f"fuzz/{name}",
                      reason=output.strip().removeprefix("skipped: "))
        return
    for name in names:
        report = re.search(rf"^{name} +(.*)\n((?:     \|.*\n)*)", output,
                           re.MULTILINE)
        if report and report[1].endswith(" ok"):
            figures = " ".join(report[1].split()[:-1])
            tally.add("ok", f"fuzz/{name}", reason=figures)
        else:
            tally.add("FAIL", f"fuzz/{name}",
                      reason=report[1] if report else "no result",
                      log=report[2] if report else output)


# end-to-end tests

class Case:
    def __init__(self, path, function):
        self.path = path
        self.function = function
        stem = os.path.splitext(os.path.basename(path))[0]
        self.name = f"e2e/{stem}:{function}"


def find_cases(pattern):
    cases = []
    for path in sorted(glob.glob(os.path.join(HERE, "test_*.py"))):
        with open(path, encoding="utf-8") as file:
            body = ast.parse(file.read(), path).body
        cases += [Case(path, node.name) for node in body
                  if isinstance(node, ast.FunctionDef)
                  and node.name.startswith("test_")]
    return [case for case in cases if pattern.search(case.name)]


def run_e2e(bindir, tally, pattern, jobs):
    logs = os.path.join(bindir, "e2e-logs")
    os.makedirs(logs, exist_ok=True)
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda case: run_case(case, logs, tally),
                      find_cases(pattern)))


def run_case(case, logs, tally):
    began = time.monotonic()
    code, output = run_limited(
        [sys.executable, "-B", HARNESS, case.path, case.function],
        TEST_LIMIT_S)
    seconds = time.monotonic() - began
    name = case.name.removeprefix("e2e/").replace(":", ".")
    with open(os.path.join(logs, name + ".log"), "w",
              encoding="utf-8") as file:
        file.write(output)
    if code == 0:
        tally.add("ok", case.name, seconds)
    elif code == SKIPPED:
        reason = output.strip().splitlines()[-1].removeprefix("skipped: ")
        tally.add("skip", case.name, seconds, reason)
    else:
        tally.add("FAIL", case.name, seconds, why(output), output)


def why(output):
    """The exception that ended a test, on the line that says so."""
    found = list(re.finditer(r"^[\w.]+(?:Error|Exception|Timeout|Failed)\b",
                             output, re.MULTILINE))
    last = output[found[-1].start():] if found else \
        output.strip().rpartition("\n")[2]
    return " ".join(last.split())[:REASON_MAX]


# processes

_running = set()


def run_limited(argv, limit):
    """(exit code, output). Past the limit SIGTERM, which ends a lab's
    servers too, and a code that is a failure."""
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace",
        start_new_session=True)
    _running.add(process)
    try:
        output, _ = process.communicate(timeout=limit)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            output, _ = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
        return 1, f"{output}\nnot finished within {limit} s\n"
    finally:
        _running.discard(process)


def end_all(number, _frame):
    for process in list(_running):
        process.terminate()
    for process in list(_running):
        process.wait(60)
    os._exit(128 + number)


def main():
    parser = argparse.ArgumentParser(prog="tests/run")
    parser.add_argument("-k", metavar="PATTERN", default="",
                        help="only tests whose name matches (a regex)")
    parser.add_argument("-j", type=int, metavar="N", default=5,
                        help="end-to-end tests at a time, default 5")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--unit", action="store_true")
    only.add_argument("--e2e", action="store_true")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end_all)
    bindir = os.environ["SLUICE_BINDIR"]
    pattern = re.compile(options.k)
    tally = Tally()
    with ThreadPoolExecutor(1) as beside:
        if not options.e2e:
            run_unit(bindir, tally, pattern)
            builds = beside.submit(run_builds, bindir, tally, pattern)
            run_fuzz(tally, pattern)
        if not options.unit:
            run_e2e(bindir, tally, pattern, options.j)
        if not options.e2e:
            builds.result()
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
