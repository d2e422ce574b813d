"""SPF as the milter sees it: suites of cases with their zones, through the real
sluice-milter over the milter protocol, with a DNS server for each scenario.

spf_cases.yml are cases of our own. The public RFC 7208 suite (203 cases) is
read where it is: $SLUICE_SPF_SUITE, or ../shared/suites/rfc7208-tests.yml beside
the checkout.

The result is that of the Authentication-Results header, the explanation the text
in its reason behind "DOMAIN explains: ".
"""

import contextlib
import os
import re
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from dns_hostile import HostileDns
from harness import HERE, SOURCE, expect, expect_true, skip
from milter_client import Message, added
from parts.sluice import GROUP, USER, Daemon
from spf_suite import dns_records, read_suite

OWN = os.path.join(HERE, "spf_cases.yml")
PUBLIC = os.path.join(os.path.dirname(SOURCE), "shared", "suites",
                      "rfc7208-tests.yml")
# Cases that are not met, by "scenario/case": why not.
NOT_MET = {}

SCENARIOS_AT_ONCE = 4
CASES_AT_ONCE = 8
QUERY_TIMEOUT_MS = 1500  # what a TIMEOUT costs; enough for a loaded machine

CONFIG = """\
side = old
hostname = "mx.receiver.test"
redis = "unix:{directory}/no-redis"
mta = postfix
log = stderr
user = "{user}"
group = "{group}"
state-dir = "{directory}"
milter {{
  listen = "unix:{directory}/milter.sock"
}}
auth {{
  dkim = false
  dmarc = false
  trusted = {{}}
  servers = {{"{server}"}}
  query-timeout = {query_timeout}
  message-timeout = 20000
}}
"""


@contextlib.contextmanager
def milter_with(dns):
    """The path of the socket of a milter that asks this DNS server."""
    with tempfile.TemporaryDirectory(prefix="sluice-spf.") as directory:
        shutil.chown(directory, USER, GROUP)
        config = os.path.join(directory, "sluice.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(CONFIG.format(directory=directory, server=dns.server,
                                     user=USER, group=GROUP,
                                     query_timeout=QUERY_TIMEOUT_MS))
        socket = os.path.join(directory, "milter.sock")
        daemon = Daemon(os.path.join(os.environ["SLUICE_BINDIR"],
                                     "sluice-milter"), config,
                        os.path.join(directory, "log"), [socket])
        daemon.start()
        try:
            yield socket
        except BaseException:
            print(daemon.log()[-2000:])
            raise
        finally:
            # In order it would take libmilter's five seconds, and it has
            # nothing to finish.
            daemon.kill()


def outcome(headers):
    """(result, explanation or "DEFAULT") of the message's first identity."""
    values = [value for name, value in headers
              if name == "Authentication-Results"]
    if len(values) != 1:
        return f"{len(values)} headers", ""
    text = re.sub(r"\s+", " ", values[0])
    found = re.search(r'; ?spf=(\w+)(?: reason="((?:[^"\\]|\\.)*)")?', text)
    if not found:
        return f"no result in {text}", ""
    reason = re.sub(r"\\(.)", r"\1", found.group(2) or "")
    _, _, explanation = reason.partition(" explains: ")
    return found.group(1), explanation or "DEFAULT"


def trouble_of(case, socket):
    """None, or how the case is not met."""
    headers, word = added(socket, case.host, case.helo, case.sender)
    result, explanation = outcome(headers)
    if word != "c" or result not in case.results:
        return f"{result}, not {' or '.join(case.results)} ({word})"
    wanted = case.explanation and re.sub(r"\s+", " ", case.explanation)
    if wanted and explanation != wanted:
        return f"explained {explanation!r}, not {wanted!r}"
    return None


def run_scenario(scenario):
    """{"scenario/case": trouble or None}"""
    with HostileDns(dns_records(scenario.zone)) as dns, \
            milter_with(dns) as socket, \
            ThreadPoolExecutor(CASES_AT_ONCE) as pool:
        troubles = pool.map(lambda case: trouble_of(case, socket),
                            scenario.cases)
        return {f"{scenario.name}/{case.name}": trouble
                for case, trouble in zip(scenario.cases, troubles)}


def run_suite(path, not_met):
    """How many cases there are; each one that is not met must be in not_met."""
    results = {}
    with ThreadPoolExecutor(SCENARIOS_AT_ONCE) as pool:
        for found in pool.map(run_scenario, read_suite(path)):
            results.update(found)
    failed = {name: trouble for name, trouble in results.items() if trouble}
    for name, trouble in failed.items():
        print(f"not met: {name}: {trouble}: "
              f"{not_met.get(name, 'without a reason')}")
    print(f"{len(results) - len(failed)} of {len(results)} cases are met")
    expect("cases that are not met", sorted(failed), sorted(not_met))
    return len(results)


def test_own_cases():
    run_suite(OWN, {})


def test_public_suite():
    path = os.environ.get("SLUICE_SPF_SUITE", PUBLIC)
    if not os.path.exists(path):
        skip(f"the public RFC 7208 suite is not there: {path}")
    expect_true("there are cases", run_suite(path, NOT_MET) > 0)


DELAY_S = 0.05
# What the longest chain of dependent queries of this record asks in turn: its
# own TXT, then those of two includes, an MX record, and an address.
CHAIN = 5
TREE = {
    ("tree.test", "TXT"): "v=spf1 a:a.tree.test mx:b.tree.test "
                          "include:c.tree.test exists:%{i}.list.test -all",
    ("c.tree.test", "TXT"): "v=spf1 a:d.tree.test include:e.tree.test ?all",
    ("e.tree.test", "TXT"): "v=spf1 mx:f.tree.test mx:g.tree.test ?all",
    ("b.tree.test", "MX"): [(10, "b1.tree.test"), (20, "b2.tree.test")],
    ("f.tree.test", "MX"): [(10, "f1.tree.test"), (20, "f2.tree.test")],
    ("g.tree.test", "MX"): [(10, "g1.tree.test"), (20, "g2.tree.test")],
    **{(f"{name}.tree.test", "A"): "198.51.100.1"
       for name in ("a", "d", "b1", "b2", "f1", "f2", "g1", "g2")},
    ("mx.tree.test", "TXT"): "v=spf1 a -all",
    ("mx.tree.test", "A"): "192.0.2.1",
}


def time_of_tree():
    """(seconds, queries) of one message, from MAIL to the milter's last word,
    with an empty cache."""
    with HostileDns(TREE, delay=DELAY_S) as dns, milter_with(dns) as socket:
        message = Message("192.0.2.1", "mx.tree.test", "joe@tree.test")
        message.connect_to(socket)
        began = time.monotonic()
        message.envelope()
        message.content()
        headers, _ = message.end()
        took = time.monotonic() - began
        message.close()
        expect("result", outcome(headers)[0], "fail")
        return took, sum(dns.asked.values())


def test_waits_overlap():
    """A check takes as long as its longest chain of queries, not as all of
    them: the best of three, since this machine has other work too."""
    took, asked = min(time_of_tree() for _ in range(3))
    print(f"{asked} queries, {took * 1000:.0f} ms")
    expect_true(f"more queries than the chain has: {asked}",
                asked > 2 * CHAIN)
    expect_true(f"{took * 1000:.0f} ms is about that of the chain",
                CHAIN * DELAY_S <= took < (CHAIN + 1) * DELAY_S)
