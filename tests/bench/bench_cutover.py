"""A cutover of 1,000 mailboxes whose sync does nothing: seconds above fences.

Everything is real: both Postfix instances, both daemons on either side, the
recipient probe at the new server. The value is the wall time of the command
less the time in which it waited for a fence (the next batch's fence runs
beside the current batch's syncs, never beside another fence, so the sum that
the command reports counts no moment twice).
"""

import json
import time

from lab import DOMAIN, Lab
from measure import AT_MOST, Figure, say
from parts.process import CommandFailed

NAMES = ["cutover_above_fences_s"]
MAILBOXES = 1000
ABOVE_S = 10


def measure(bindir, rounds, wanted):
    del rounds, wanted  # once: it takes minutes, nearly all of them fences
    addresses = [f"user{number:04}@{DOMAIN}" for number in range(MAILBOXES)]
    with Lab(bindir=bindir) as lab:
        lab.add_mailboxes(addresses)
        for side in (lab.old, lab.new):
            side.sluice.sync = ["/bin/true"]
        lab.start()
        lab.init()
        lab.import_mailboxes(addresses)
        began = time.monotonic()
        code, out, err = lab.old.sluice.cli("cutover", "--json", DOMAIN,
                                            timeout=1800)
        seconds = time.monotonic() - began
    result = json.loads(out) if out else {}
    if code != 0 or result["moved"] != MAILBOXES:
        raise CommandFailed(f"sluice cutover: exit code {code}, moved "
                            f"{result.get('moved')} of {MAILBOXES}\n{err}")
    say(f"cutover: {seconds:.1f} s, of which {result['fence_s']:.1f} s in "
        f"{result['fences']} fences")
    return [Figure("cutover_above_fences_s", seconds - result["fence_s"],
                   ABOVE_S, AT_MOST)]
