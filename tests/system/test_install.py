"""What docs/install.md says of a source without a package: what a build needs, make install and uninstall; what update-grub reads, and
the menu that GRUB makes of it.
"""
import os
import re
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

import rig

GRUB_SCRIPT = Path("/etc/grub.d/20_linux_xen")
NAME = "xen-0.1-pvisor.gz"
FORMER = ["boot/xen-pvisor.gz", "boot/xen-0.0.9-pvisor.gz", "etc/default/grub.d/pvisor.cfg"]


def make(*words):
    done = subprocess.run(["make", "-s", "--no-print-directory", *words], cwd=rig.TOP, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


def made(*words):
    status, text = make(*words)
    assert status == 0, text
    return text


def program(path, text):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


# The build

def test_the_loader_needs_no_32_bit_library_of_the_compiler(scratch):
    """A compiler without gcc-multilib, which names its 64-bit library instead."""
    compiler = program(scratch / "cc", 'case "$*" in *-m32*-print-libgcc*) set -- -print-libgcc-file-name;; esac\nexec gcc "$@"\n')
    made("-C", "tools/loader", f"OUT={scratch}", f"CC={compiler}")
    assert (scratch / "pv-loader-i386").read_bytes()[:4] == b"\x7fELF"


def test_says_which_libraries_a_build_lacks(scratch):
    status, text = make(f"OUT={scratch}/out", "LIBS=/usr/lib/libnowhere.a", str(scratch / "out/xen.gz"))
    assert status != 0
    assert "not there: /usr/lib/libnowhere.a" in text and "tools/setup build" in text and "error:" not in text


def test_flags_of_the_environment_are_for_programs_of_the_host_alone():
    """Packages are built with such. The hypervisor's own flags are not the host's, either."""
    done = subprocess.run(["make", "-n", "-B", "inspect"], cwd=rig.TOP, text=True, stdout=subprocess.PIPE, check=True,
                          env={**os.environ, "CFLAGS": "-DOF_ENVIRONMENT"})
    compiled = [line for line in done.stdout.splitlines() if line.endswith("tools/inspect/main.c")]
    assert compiled and all("-DOF_ENVIRONMENT" in line and "-ffreestanding" not in line for line in compiled if "echo" not in line)


# Installing

def files(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir())


SETTINGS = "etc/default/grub.d/zz-pvisor.cfg"
INSTALLED = [f"boot/{NAME}", SETTINGS, "usr/bin/pvisor-inspect", "usr/lib/pvisor/grub-settings",
             "usr/lib/pvisor/make-pv-grub", "usr/lib/pvisor/pv-grub.cfg", "usr/lib/pvisor/pv-loader-i386",
             "usr/lib/pvisor/pv-loader-x86_64", "usr/lib/pvisor/pvisor-save-helper", "usr/lib/pvisor/pvisor-template"]


def test_uninstall_leaves_nothing(scratch):
    root = scratch / "root"
    made("install", f"DESTDIR={root}")
    assert files(root) == INSTALLED
    made("uninstall", f"DESTDIR={root}")
    assert list(root.iterdir()) == []
    made("uninstall", f"DESTDIR={root}")


def test_uninstall_leaves_what_others_have(scratch):
    root = scratch / "root"
    others = ["boot/vmlinuz-6.1", "boot/xen-4.17-amd64.gz", "usr/bin/ls", "usr/lib/libc.so"]
    for name in others:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    made("install", f"DESTDIR={root}")
    made("uninstall", f"DESTDIR={root}")
    assert files(root) == others and not (root / "usr/lib/pvisor").exists()


def test_installing_removes_former_names(scratch):
    root = scratch / "root"
    for name in FORMER:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    text = made("install", f"DESTDIR={root}")
    assert all(name in text for name in FORMER) and files(root) == INSTALLED


def test_installing_again_keeps_the_settings(scratch):
    root = scratch / "root"
    made("install", f"DESTDIR={root}")
    (root / SETTINGS).write_text("PVISOR_XEN_VERSION=4.19\n")
    made("install", f"DESTDIR={root}")
    assert (root / SETTINGS).read_text() == "PVISOR_XEN_VERSION=4.19\n"


# What update-grub reads

DEBIAN_XEN_SETTINGS = 'GRUB_CMDLINE_XEN="dom0_mem=1G"\n'


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    root = tmp_path_factory.mktemp("installed") / "root"
    made("install", f"DESTDIR={root}")
    return root


@pytest.fixture
def system(installed, scratch):
    """Below a directory of its own, which the settings name where they would name /."""
    root = scratch / "root"
    shutil.copytree(installed / "etc", root / "etc")
    (root / "usr/lib/pvisor").mkdir(parents=True)
    shutil.copy2(installed / "usr/lib/pvisor/grub-settings", root / "usr/lib/pvisor")
    for name in (SETTINGS, "usr/lib/pvisor/grub-settings"):
        text = (root / name).read_text()
        assert "/usr/lib/" in text
        (root / name).write_text(text.replace("/usr/lib/", f"{root}/usr/lib/"))
    return root


def lay_tools(root, *versions):
    for version in versions:
        tool = root / f"usr/lib/xen-{version}/bin/xl"
        tool.parent.mkdir(parents=True)
        tool.touch()


def choose(root, version):
    path = root / SETTINGS
    assert "PVISOR_XEN_VERSION=auto\n" in path.read_text()
    path.write_text(path.read_text().replace("PVISOR_XEN_VERSION=auto\n", f"PVISOR_XEN_VERSION={version}\n"))


def words(root, settings=""):
    """The hypervisor's words in menu entries, in that for recovery and in others, where /etc/default/grub has these settings."""
    script = (f'set -e; {settings or ":"}; for f in "$0"/etc/default/grub.d/*.cfg; do . "$f"; done; '
              'echo "$GRUB_CMDLINE_XEN/$GRUB_CMDLINE_XEN_DEFAULT"')
    done = subprocess.run(["sh", "-c", script, root], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True)
    return tuple(done.stdout.strip().split("/"))


@pytest.mark.parametrize("versions, told", [(["4.17"], "4.17"), (["4.17", "4.20", "4.9"], "4.20")])
def test_the_hypervisor_is_told_of_the_newest_tools(system, versions, told):
    lay_tools(system, *versions)
    assert words(system, "GRUB_CMDLINE_XEN_DEFAULT=loglvl=all") == (f"xen-version={told}", "loglvl=all")


def test_without_tools_it_is_told_nothing(system):
    assert words(system, "GRUB_CMDLINE_XEN=loglvl=all") == ("loglvl=all", "")


@pytest.mark.parametrize("version, told", [("4.19", "loglvl=all xen-version=4.19"), ("", "loglvl=all")])
def test_the_settings_name_another_version_or_none(system, version, told):
    lay_tools(system, "4.20")
    choose(system, version)
    assert words(system, "GRUB_CMDLINE_XEN=loglvl=all") == (told, "")


@pytest.mark.parametrize("variable", ["GRUB_CMDLINE_XEN", "GRUB_CMDLINE_XEN_DEFAULT"])
def test_a_version_among_the_words_goes_before(system, variable):
    lay_tools(system, "4.20")
    assert "".join(words(system, f"{variable}='noreboot xen-version=4.18'")) == "noreboot xen-version=4.18"


def test_debians_settings_for_hypervisors_do_not_undo_it(system):
    lay_tools(system, "4.17")
    (system / "etc/default/grub.d/xen.cfg").write_text(DEBIAN_XEN_SETTINGS)
    assert words(system) == ("dom0_mem=1G xen-version=4.17", "")


def test_settings_that_are_left_behind_do_nothing(system):
    lay_tools(system, "4.17")
    (system / "usr/lib/pvisor/grub-settings").unlink()
    assert words(system, "GRUB_CMDLINE_XEN=loglvl=all") == ("loglvl=all", "")


# The menu

class Menu:
    """What Debian's 20_linux_xen makes of a /boot directory with these hypervisors. Below a directory of ours, with no disks: what
    it asks of them is answered by nothing."""

    def __init__(self, *hypervisors):
        # version_find_latest() takes as the version what follows the first hyphen of the whole path.
        with tempfile.TemporaryDirectory(prefix="pvisor") as directory:
            self.run(Path(directory), hypervisors)

    def run(self, directory, hypervisors):
        boot = directory / "boot"
        boot.mkdir()
        for name in hypervisors:
            shutil.copyfile(rig.TOP / "build/xen.gz", boot / name)
        for name, text in {"vmlinuz-6.1.0-1-amd64": "kernel", "config-6.1.0-1-amd64": "CONFIG_XEN_DOM0=y\n"}.items():
            (boot / name).write_text(text)
        script = program(directory / "script", GRUB_SCRIPT.read_text().replace(" /boot/", f" {boot}/"))
        silent = program(directory / "silent", "exit 0\n")
        environment = {**os.environ, "pkgdatadir": "/usr/share/grub", "LC_ALL": "C", "GRUB_DISTRIBUTOR": "Debian", "GRUB_DEVICE": "/dev/vda1",
                       "grub_probe": str(silent), "grub_mkrelpath": "/bin/echo", "grub_file": "/usr/bin/grub-file"}
        done = subprocess.run([script], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True)
        self.warnings = [line for line in done.stderr.splitlines() if "warning" in line or "syntax" in line]
        self.titles = re.findall(r"^\s*(?:menuentry|submenu) '([^']*)'", done.stdout, re.M)
        # The hypervisor of each entry, the first entry being the one that the menu opens with.
        self.loads = [Path(path).name for path in re.findall(r"multiboot2?\s+(\S+)", done.stdout)]
        self.versions = re.findall(r"Xen hypervisor, version ([^']*)'", done.stdout)


@pytest.mark.skipif(not GRUB_SCRIPT.exists(), reason="grub-common is not installed")
class TestMenu:
    DEBIANS = "xen-4.17-amd64.gz"

    def test_alone_is_the_first_entry(self):
        menu = Menu(NAME)
        assert menu.titles[0] == "Debian GNU/Linux, with Xen hypervisor" and menu.loads[0] == NAME
        assert not menu.warnings

    def test_debians_own_stays_the_first(self):
        """As docs/install.md says it, titles included."""
        menu = Menu(NAME, self.DEBIANS)
        assert menu.loads[0] == self.DEBIANS
        assert menu.versions == ["4.17-amd64", "0.1-pvisor"]
        assert not menu.warnings
        document = re.sub(r"\s+", " ", (rig.TOP / "docs/install.md").read_text())
        for title in ("Debian GNU/Linux, with Xen hypervisor", "Advanced options for Debian GNU/Linux (with Xen hypervisor)",
                      "Xen hypervisor, version 0.1-pvisor"):
            assert title in menu.titles and title in document

    def test_a_name_without_a_version_would_be_warned_of(self):
        """What these tests look for is what they would see."""
        name = Path(FORMER[0]).name
        menu = Menu(name, self.DEBIANS)
        assert menu.warnings and menu.loads[0] == name
