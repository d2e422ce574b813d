"""What the tests of rewritten senders share."""

import os
import shutil

from parts.sluice import USER

SECRETS = ["a secret that signs, since today", "an older secret"]


def secret_file(directory, secrets=None):
    """The path of a file with the secrets, as sluice.conf wants it."""
    path = os.path.join(directory, "srs.secret")
    with open(path, "w", encoding="utf-8") as file:
        file.write("".join(f"{secret}\n" for secret in secrets or SECRETS))
    os.chmod(path, 0o600)
    shutil.chown(path, USER)
    return path


def srs_section(sluice, domain):
    """Text for sluice.conf of a lab's host."""
    return (f'srs {{\n  domain = "{domain}"\n'
            f'  secret-file = "{secret_file(sluice.directory)}"\n}}\n')


def wire_srs(side, domain):
    """Both gates of one side of a lab, as conf/postfix/main.cf says."""
    side.sluice.extra = srs_section(side.sluice, domain)
    side.postfix.postconf(
        recipient_canonical_maps="socketmap:unix:sluice/map.sock:srs",
        recipient_canonical_classes="envelope_recipient",
        virtual_alias_domains="$virtual_alias_maps, " + domain)
