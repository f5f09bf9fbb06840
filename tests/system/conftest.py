"""Fixtures. dom0 and domu serve most tests: one machine, booted through GRUB, shared by all tests of a process."""
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

import rig

PARTITION_MIB = 32


# These take longest: they begin first, so that two processes end at about the same time.
FIRST_MODULES = ["test_installed", "test_debian13_toolstack", "test_boot", "test_smp", "test_guest_io", "test_bad_input", "test_formats"]


def is_named(item, module, test, which="*"):
    """By a line of long.txt; a test without parameters, or with whatever, by its name alone."""
    name, _, values = item.name.removesuffix("]").partition("[")
    return item.path.stem == "test_" + module and fnmatchcase(name, "test_" + test) and fnmatchcase(values, which)


def mark_long(config, items):
    whole_modules = {item.path.stem for item in items} if not any("::" in arg for arg in config.args) else ()
    for line in (Path(__file__).parent / "long.txt").read_text().splitlines():
        words = line.partition("#")[0].split()
        named = [item for item in items if words and is_named(item, *words)]
        for item in named:
            item.add_marker(pytest.mark.long)
        if words and not named and "test_" + words[0] in whole_modules:
            raise pytest.UsageError(f"long.txt: no test answers to '{line}'")


@pytest.hookimpl(tryfirst=True)         # before -m chooses
def pytest_collection_modifyitems(config, items):
    mark_long(config, items)

    def place(item):
        name = item.path.stem
        return FIRST_MODULES.index(name) if name in FIRST_MODULES else len(FIRST_MODULES)
    items.sort(key=place)
    if not rig.is_debian(rig.hypervisor_path()):
        return
    for item in items:
        if item.get_closest_marker("pvisor_only"):
            item.add_marker(pytest.mark.skip(reason="Debian's Xen does not do this"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failing test shows the end of the serial log of each machine that runs."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and not (call.excinfo and call.excinfo.errisinstance(rig.Failure)):
        for machine in rig.live_machines:
            report.sections.append((f"end of {machine.log_path}", machine.tail()))
    if report.failed and call.when != "teardown" and "dom0" in item.fixturenames:
        for machine in shared.values():
            machine.suspect = True


class Shared:
    """The machine that tests share. After a failed test it is used again only if it answers and can be cleaned up."""

    def __init__(self, release):
        self.release, self.machine, self.suspect = release, None, False

    def get(self, worker, scratch):
        if self.machine and (not self.machine.running() or self.suspect and not self.recovers()):
            self.close()
        if not self.machine:
            self.machine = shared_machine(worker, scratch, self.release)
            try:
                self.machine.start()
                self.machine.wait_for_dom0()
                self.machine.ok("mount -t ext4 -o ro /dev/vda1 /mnt")
                self.machine.domu_kernel = "/mnt/boot/vmlinux"
                self.machine.ok("ls -A /tmp > /run/tmp-at-boot")
            except BaseException:
                self.close()
                raise
        return self.machine

    def recovers(self):
        """Whether dom0's shell answers and every domU can be destroyed."""
        try:
            self.machine.child.send("\x03\x1d\n")
            self.machine.standing.clear()
            self.machine.ok("for d in $(xl list | awk 'NR > 2 { print $2 }'); do xl destroy $d || exit; done; true", 30)
            self.suspect = False
            return self.machine.ok("xl list | wc -l", 10) == "2"
        except rig.Failure:
            return False

    def tidy(self):
        """Ends what a module's tests shared, and takes away their files: dom0's /tmp is memory."""
        if not self.machine or not self.machine.running():
            return
        for domain in self.machine.standing.values():
            domain.destroy()
        self.machine.standing.clear()
        self.machine.run("cd /tmp && ls -A | grep -vxFf /run/tmp-at-boot | tr '\\n' '\\0' | xargs -0r rm -rf")

    def close(self):
        if self.machine:
            self.machine.close()
        self.machine, self.suspect = None, False


shared = {release: Shared(release) for release in (rig.DEBIAN12, rig.DEBIAN13)}


def shared_machine(worker, scratch, release):
    """GRUB and multiboot2, Debian's own vmlinuz; behind the boot partition, one for domUs: dom0's /dev/vda2.

    The boot partition also has the ELF of that vmlinuz for domUs: in emulation, unpacking takes most of an xl create.
    """
    partition, pvgrub = scratch / "partition", scratch / "pvgrub.img"
    with open(partition, "wb") as stream:
        stream.truncate(PARTITION_MIB << 20)
    disk = rig.grub_disk(
        scratch / "boot.img", rig.multiboot_entry(f"xen-version={release.xen}"),
        {"xen.gz": rig.hypervisor_path(), "vmlinuz": release.kernels / "vmlinuz", "initrd": release.dom0,
         "vmlinux": release.kernels / "vmlinux"},
        [partition])
    pv_grub_disk(pvgrub, scratch, release)
    return rig.Machine(name=f"dom0-{release.xen}-{worker}", release=release, boot_disk=rig.Disk(disk), disks=[rig.Disk(pvgrub, "ahci")])


def pv_grub_disk(image, scratch, release):
    """A filesystem as PV GRUB wants it: /boot/grub/grub.cfg, a kernel that it can unpack, and a ramdisk."""
    config = ("set timeout=0\nmenuentry linux {\n"
              "linux /boot/vmlinuz console=hvc0 quiet rig.name=viagrub\ninitrd /boot/initrd\n}\n")
    tree = rig.boot_tree(scratch / "pvgrub", config,
                         {"vmlinuz": release.kernels / "vmlinux.gz", "initrd": release.domu})
    with open(image, "wb") as stream:
        stream.truncate(32 << 20)
    subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext2", "-d", tree, image], check=True)


@pytest.fixture(scope="session", autouse=True)
def images():
    rig.build_images("dom0.cpio", "kernel/vmlinuz")


@pytest.fixture(scope="session")
def worker(request):
    return getattr(request.config, "workerinput", {}).get("workerid", "main")


@pytest.fixture(scope="session")
def close_shared():
    yield
    for machine in shared.values():
        machine.close()


@pytest.fixture
def dom0(images, worker, close_shared, tmp_path_factory):
    """The shared machine, at dom0's shell, with no domU."""
    return shared[rig.DEBIAN12].get(worker, tmp_path_factory.mktemp("shared"))


@pytest.fixture
def debian13_dom0(images, worker, close_shared, tmp_path_factory):
    """Such a machine with Debian 13 in dom0 and the domUs, for modules that repeat the tests of others with it."""
    rig.build_images("trixie/dom0.cpio")
    return shared[rig.DEBIAN13].get(worker, tmp_path_factory.mktemp("shared13"))


@pytest.fixture
def domu(dom0):
    """domu(name, **settings): a Domain of dom0, not created yet; destroyed when the test ends."""
    made = []

    def make(name="domu", **settings):
        made.append(rig.Domain(dom0, name, **settings))
        return made[-1]
    yield make
    if dom0.running():
        for domain in made:
            domain.destroy()


@pytest.fixture(scope="module", autouse=True)
def tidy_shared():
    yield
    for of_release in shared.values():
        of_release.tidy()


@pytest.fixture
def standing(dom0):
    """standing(name, **settings): a running domU that the tests of a module share and leave as it was."""
    def get(name="domu", **settings):
        if name not in dom0.standing or dom0.standing[name].state() is None:
            dom0.standing[name] = rig.Domain(dom0, name, **settings)
            dom0.standing[name].create()
        return dom0.standing[name]
    return get


@pytest.fixture
def scratch(tmp_path):
    return tmp_path
