"""A minimal Debian 12, in which README's "Installing it" is done word by word. Takes two minutes and the Debian archive, so it
runs only by name: make test T=fresh. Needs root rights, or user namespaces (mmdebstrap).
"""
import re
import subprocess

import pytest

import rig

PLACE = "opt/pvisor"
# Every file and directory, but those of the build and what the kernel shows.
LIST = r"find / -xdev \( -path /opt/pvisor/build -o -path /proc -o -path /sys -o -path /tmp \) -prune -o -print | sort"


def readme_commands():
    """The commands that "Installing it" sets off, without their explanations. A minimal Debian has no GRUB, so no update-grub."""
    section = re.search(r"^Installing it\n-+\n(.*?)\n\n\S", (rig.TOP / "README").read_text(), re.M | re.S).group(1)
    commands = re.findall(r"^    (\S+(?: \S+)*)", section, re.M)
    assert commands[-1] == "update-grub" and "make install" in commands
    return commands[:-1]


def script(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """What was printed while a system was made, the source copied into it, and the commands run."""
    scratch = tmp_path_factory.mktemp("fresh")
    rig.copy_source(scratch / "pvisor")
    setup, *build, install = readme_commands()
    steps = script(scratch / "steps", "\n".join([
        "#!/bin/sh", "set -ex", f"cd /{PLACE}", setup, *build, f"{LIST} > /tmp/before", install, "test -s /boot/xen-0.1-pvisor.gz",
        "pvisor-inspect /usr/lib/pvisor/pv-loader-i386", "make uninstall", f"{LIST} > /tmp/after", "diff /tmp/before /tmp/after",
        "echo ==ENDED"]))
    done = subprocess.run(
        ["mmdebstrap", "--variant=minbase", "--format=null", f"--customize-hook=mkdir -p $1/{PLACE}",
         f"--customize-hook=tar -C {scratch}/pvisor -c . | tar -C $1/{PLACE} -x", f"--customize-hook=cp {steps} $1/steps",
         "--customize-hook=chroot $1 /steps", "bookworm", "-"],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900 * rig.TIMEOUT_SCALE)
    (rig.LOGS / "fresh.log").write_text(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def test_readmes_commands_build_and_install_and_uninstall_leaves_nothing(log):
    assert "==ENDED" in log


def test_the_loader_was_built_and_is_a_kernel(log):
    assert "pvisor runs it: a 32-bit PAE" in log
