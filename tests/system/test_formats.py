"""Guests of all page-table formats, side by side: our test kernels, PV GRUB for 32-bit PAE, the loader for non-PAE."""
import subprocess

import pytest

import rig

GUESTS = rig.TOP / "build/guests"
LOADER = rig.TOP / "build/loader/nonpae-loader"
GRUB32 = rig.CACHE / "root/usr/lib/grub-xen/grub-i386-xen.bin"
SUITES = ["smoke", "hypercalls"]

pytestmark = pytest.mark.pvisor_only


@pytest.fixture(scope="module")
def files(dom0):
    """Puts test kernels and the loader into dom0; returns the directory."""
    subprocess.run(["make", "-s", "-C", rig.TOP / "tests/guests"], check=True)
    subprocess.run(["make", "-s", "-C", rig.TOP, "loader"], check=True)
    dom0.ok("mkdir -p /tmp/formats")
    names = [GUESTS / f"{suite}-{form}" for suite in SUITES for form in ("pt64", "pt32p", "pt32")]
    for path in [*names, LOADER, GRUB32]:
        rig.put(dom0, path, f"/tmp/formats/{path.name}")
    return "/tmp/formats"


def settings(files, suite, form):
    kernel = f"{files}/{suite}-{form}"
    through = {"kernel": f"{files}/nonpae-loader", "ramdisk": kernel} if form == "pt32" else {"kernel": kernel, "ramdisk": None}
    return {**through, "extra": None, "memory": 64, "on_poweroff": "preserve", "on_crash": "preserve"}


def verdict(dom0, domain, timeout=90):
    dom0.wait_until(f"grep -aqE 'PVTEST (.* passed|panic)' {domain.console_log}", timeout)
    return dom0.ok(f"grep -aE 'PVTEST|FAIL' {domain.console_log}")


def test_xl_info_names_all_formats(dom0):
    caps = dom0.ok("xl info xen_caps || xl info | grep xen_caps")
    for form in ("xen-3.0-x86_64", "xen-3.0-x86_32p", "xen-3.0-x86_32"):
        assert form in caps.replace(":", " ").split()


@pytest.mark.parametrize("form", ["pt64", "pt32p", "pt32"])
@pytest.mark.parametrize("suite", SUITES)
def test_suite_passes_as_a_domu(dom0, domu, files, suite, form):
    domain = domu(f"{suite}-{form}", **settings(files, suite, form)).create(wait=False)
    assert " 0 failed" in verdict(dom0, domain)


def test_all_formats_at_once(dom0, domu, files):
    linux = domu("beside").create()
    domains = [domu(f"once-{form}", **settings(files, "smoke", form)).create(wait=False) for form in ("pt64", "pt32p", "pt32")]
    for domain in domains:
        assert " 0 failed" in verdict(dom0, domain)
    assert "4711" in linux.ok("echo $((4700 + 11))")


def test_32_bit_pv_grub_reads_its_disk(dom0, domu, files):
    dom0.ok("mkdir -p /tmp/gd; truncate -s 8M /tmp/g32.img; mke2fs -q -F /tmp/g32.img; mount -o loop /tmp/g32.img /tmp/gd; "
            "mkdir -p /tmp/gd/boot/grub; echo words-of-a-file > /tmp/gd/words; "
            "echo 'cat (xen/xvda)/words; sleep 60' > /tmp/gd/boot/grub/grub.cfg; umount /tmp/gd")
    domain = domu("grub32", kernel=f"{files}/grub-i386-xen.bin", ramdisk=None, extra=None, memory=64,
                  disk=["/tmp/g32.img,raw,xvda,r"]).create(wait=False)
    dom0.wait_until(f"grep -aq words-of-a-file {domain.console_log}", 120)


LOADER_REFUSALS = {
    "nothing": (None, "no kernel"),
    "pae": ("smoke-pt32p", "none without PAE"),
    "truncated": ("truncated", "truncated|malformed|outside|past the end|beyond"),
}


@pytest.mark.parametrize("what", sorted(LOADER_REFUSALS))
def test_loader_says_why_it_refuses(dom0, domu, files, what):
    name, why = LOADER_REFUSALS[what]
    dom0.ok(f"head -c 3000 {files}/smoke-pt32 > {files}/truncated")
    domain = domu("refused", **{**settings(files, "smoke", "pt32"), "ramdisk": name and f"{files}/{name}"}).create(wait=False)
    dom0.wait_until(f"grep -aqE 'pvisor loader: .*({why})' {domain.console_log}", 60)


def test_non_pae_kernel_needs_the_loader(dom0, domu, files):
    domain = domu("plain", **{**settings(files, "smoke", "pt32"), "kernel": f"{files}/smoke-pt32", "ramdisk": None})
    assert domain.try_create().status != 0
