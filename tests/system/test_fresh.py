"""Minimal Debians, in which what docs/install.md says of installing is done word by word: without a package in Debian 12, with one in
Debian 12 and 13. Takes some minutes and the Debian archive, so it runs only by name: make test T=fresh. Needs root rights, or user
namespaces (mmdebstrap).
"""
import re
import subprocess

import pytest

import rig

pytestmark = pytest.mark.long

PLACE = "opt/pvisor"
# Every file and directory, but those of the build and what the kernel shows.
LIST = r"find / -xdev \( -path /opt/pvisor/build -o -path /proc -o -path /sys -o -path /tmp \) -prune -o -print | sort"


def commands(before):
    """What docs/install.md sets off behind the line that begins so. A minimal Debian has no GRUB and no need to boot."""
    text = re.search(rf"^{before}.*?\n((?:    [^\n]*\n)+)", (rig.TOP / "docs/install.md").read_text(), re.M | re.S).group(1)
    return [line for line in text.replace("    ", "").splitlines() if not line.startswith(("grub-reboot", "update-grub"))]


def script(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return path


def done_in(suite, scratch, variant, steps):
    """What was printed while a system was made, the source copied into it, and the steps were taken there."""
    rig.copy_source(scratch / "pvisor")
    path = script(scratch / "steps", "\n".join(["#!/bin/sh", "set -ex", f"cd /{PLACE}", *steps, "echo ==ENDED"]))
    done = subprocess.run(
        ["mmdebstrap", f"--variant={variant}", "--format=null", f"--customize-hook=mkdir -p $1/{PLACE}",
         f"--customize-hook=tar -C {scratch}/pvisor -c . | tar -C $1/{PLACE} -x", f"--customize-hook=cp {path} $1/steps",
         "--customize-hook=chroot $1 /steps", suite, "-"],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900 * rig.TIMEOUT_SCALE)
    rig.LOGS.mkdir(parents=True, exist_ok=True)
    (rig.LOGS / f"fresh-{suite}-{variant}.log").write_text(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "==ENDED" in done.stdout
    return done.stdout


def test_commands_build_and_install_and_uninstall_leaves_nothing(scratch):
    setup, *build, install = commands("## From the source")
    assert install == "make install" and setup.startswith("tools/setup")
    log = done_in("bookworm", scratch, "minbase", [
        setup, *build, f"{LIST} > /tmp/before", install, "test -s /boot/xen-0.1-pvisor.gz",
        "pvisor-inspect /usr/lib/pvisor/pv-loader-i386", "make uninstall", f"{LIST} > /tmp/after", "diff /tmp/before /tmp/after"])
    assert "pvisor runs it: a 32-bit PAE" in log


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_commands_make_packages_and_install_one(scratch, suite):
    build, install = commands("For Debian 12")
    assert "make deb" in build and install.startswith("apt install ")
    # Without the questions, and without the machine that Xen's tools and GRUB would be for.
    log = done_in(suite, scratch, "apt", [build, install.replace("apt install", "apt-get -y --no-install-recommends install"),
                                          "pvisor-inspect /usr/lib/pvisor/pv-loader-i386"])
    assert "pvisor runs it: a 32-bit PAE" in log
