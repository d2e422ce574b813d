"""The end-to-end tests' frame: a test is a function test_*() in test_*.py.

Contract for tests
  from harness import expect, sluice_lab, plain_lab, message, skip, wait_until
  expect(what, actual, expected)   on failure both are printed
  expect_true(what, value)         for a condition without a better form
  skip(reason)                     ends the test as skipped
  with sluice_lab() as lab         a Lab with sluice on both sides, the domain
      initialised and the given mailboxes imported
  with plain_lab() as lab          the mail servers only
  message(id)                      a message with X-Lab-Id and Message-ID
  A test that fails leaves its lab's directory in place, and the last lines of
  the lab's logs are printed.

As a program: harness.py FILE FUNCTION runs one test. Its stdout is the test's
log; exit code 0 passed, 1 failed, 77 skipped.
"""

import contextlib
import importlib.util
import os
import sys
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(SOURCE, "contrib", "lab")]

from lab import DOMAIN, Lab  # noqa: E402
from parts.process import Timeout, tail, wait_until  # noqa: E402,F401

PASSED, FAILED, SKIPPED = 0, 1, 77
LOG_LINES = 40


class Skipped(Exception):
    """The test cannot run here; its text says why."""


def skip(reason):
    raise Skipped(reason)


def expect(what, actual, expected):
    if actual != expected:
        raise AssertionError(
            f"{what}\n  expected: {expected!r}\n  actual:   {actual!r}")


def expect_true(what, value):
    if not value:
        raise AssertionError(
            f"{what}\n  expected: true\n  actual:   {value!r}")


def message(id, sender="someone@senders.test", to="somebody"):
    return (f"From: {sender}\nTo: {to}\nSubject: {id}\n"
            f"Message-ID: <{id}@lab.test>\nX-Lab-Id: {id}\n\nThe text.\n")


def address(number):
    return f"u{number}@{DOMAIN}"


def ids_in(messages):
    """The sorted X-Lab-Ids of what read_old() or read_new() gave."""
    return sorted(found.id for found in messages)


@contextlib.contextmanager
def plain_lab(mailboxes=(), start=True, **options):
    """Redis and both mail servers, without sluice."""
    with _kept_on_failure(Lab(**options)) as lab:
        lab.add_mailboxes(list(mailboxes))
        lab.add_mailboxes(["someone@senders.test"])
        if start:
            lab.start(sluice=False)
        yield lab


@contextlib.contextmanager
def sluice_lab(mailboxes=(), prepare=None, **options):
    """Everything, with `sluice init` and `sluice import` done.

    prepare(lab) is called before anything starts, to change configuration;
    auth=True has both sides verify SPF, DKIM and DMARC (see lab.py).
    """
    with _kept_on_failure(Lab(**options)) as lab:
        lab.add_mailboxes(list(mailboxes))
        lab.add_mailboxes(["someone@senders.test"])
        lab.wire_sluice()
        if prepare:
            prepare(lab)
        lab.start()
        lab.init()
        if mailboxes:
            lab.import_mailboxes(mailboxes)
        yield lab


@contextlib.contextmanager
def _kept_on_failure(lab):
    try:
        yield lab
    except Skipped:
        raise
    except BaseException:
        lab.keep = True
        raise
    finally:
        lab.stop()
        if lab.keep:
            _print_logs(lab)


def _print_logs(lab):
    for path in lab.old.logs() + lab.new.logs() + [lab.redis.log_path]:
        if os.path.exists(path):
            print(f"---- {path}\n{tail(path, LOG_LINES)}", flush=True)
    print(f"---- the lab is kept in {lab.directory}", flush=True)


def run_test(path, name):
    spec = importlib.util.spec_from_file_location("case", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        getattr(module, name)()
    except Skipped as reason:
        print(f"skipped: {reason}")
        return SKIPPED
    except Exception:
        traceback.print_exc(file=sys.stdout)
        return FAILED
    return PASSED


if __name__ == "__main__":
    # Tests import this file by its name: one module, not two.
    sys.modules["harness"] = sys.modules["__main__"]
    sys.exit(run_test(sys.argv[1], sys.argv[2]))
