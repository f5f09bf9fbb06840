"""`make run`, as a newcomer types it: the disk with GRUB, to dom0's shell with a running guest."""
import os
import re

import pexpect
import pytest

import rig

pytestmark = pytest.mark.pvisor_only


@pytest.mark.parametrize("machine", ["pc", "cloud"])
def test_make_run_ends_at_dom0s_shell_with_a_guest(machine):
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "SETUP_DONE")}
    environment["MACHINE"] = machine
    with open(rig.LOGS / f"make-run-{machine}.log", "w", encoding="utf-8") as log:
        child = pexpect.spawn("make", ["run"], cwd=rig.TOP, env=environment, echo=False, encoding="utf-8",
                              codec_errors="replace", logfile=log, timeout=400 * rig.TIMEOUT_SCALE)
        try:
            # Progress, step by step.
            for step in ("GRUB: loading the hypervisor", r"\(XEN\) pvisor", "dom0: loading drivers",
                         "dom0: starting a guest", "guest: ready", "xl console guest"):
                child.expect(step)
            listing = child.expect("dom0# ") or child.before
            assert re.search(r"Domain-0 +0 +768 .*\s+guest +1 +128 ", listing), listing
            child.sendline("xl console guest")
            child.expect("guest: ready")
            # Typed so that the terminal's echo is not taken for the answer.
            child.sendline("cat /sys/block/xvda/size; echo he''re; ping -c 1 10.0.2.15 | grep received")
            child.expect(r"131072\s+here")
            child.expect("1 packets received")
            child.send("\x1d")
            child.expect("dom0# ")
            child.sendline("poweroff -f")
            child.expect(pexpect.EOF)
        finally:
            rig.end(child)
