"""Guests of all page-table formats, side by side: our test kernels, PV GRUB for 32-bit PAE, the loader for non-PAE."""
import hashlib
import os
import re

import pytest

import rig

GUESTS = rig.TOP / "build/guests"
GNUMACH = rig.CACHE / "gnumach/gnumach-dbg"
GRUB32 = rig.CACHE / "root/usr/lib/grub-xen/grub-i386-xen.bin"
FORMATS = ["pt64", "pt32p", "pt32"]
SUITES = ["smoke", "hypercalls", "pagetables", "refusals", "traps", "formats", "memory", "events", "vcpu"]

pytestmark = pytest.mark.pvisor_only


@pytest.fixture(scope="module")
def built(images):
    """The files that dom0 needs, made on the host."""
    rig.make("-C", "tests/guests")
    rig.make("loader")
    rig.build_images("gnumach/gnumach-dbg")
    kernels = [GUESTS / f"{suite}-{form}" for suite in SUITES for form in FORMATS]
    return [*kernels, rig.LOADER, GRUB32, GNUMACH]


@pytest.fixture
def files(dom0, built):
    """The directory in dom0 with test kernels and the loader. A machine that was started anew gets them anew."""
    directory = "/tmp/formats"
    if dom0.run(f"[ -e {directory}/complete ]").status:
        dom0.ok(f"mkdir -p {directory}")
        for path in built:
            rig.put(dom0, path, f"{directory}/{path.name}")
        dom0.ok(f"touch {directory}/complete")
    return directory


def settings(files, suite, form):
    return {**rig.kernel_settings(f"{files}/{suite}-{form}", form), "extra": None, "memory": 64, "vcpus": 2,
            "on_poweroff": "preserve", "on_crash": "preserve"}


def verdict(dom0, domain, timeout=90):
    dom0.wait_until(f"grep -aqE 'PVTEST (.* passed|panic)' {domain.console_log}", timeout)
    return dom0.ok(f"grep -aE 'PVTEST|FAIL' {domain.console_log}")


def test_xl_info_names_all_formats(dom0):
    caps = dom0.ok("xl info xen_caps || xl info | grep xen_caps")
    for form in ("xen-3.0-x86_64", "xen-3.0-x86_32p", "xen-3.0-x86_32"):
        assert form in caps.replace(":", " ").split()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("suite", SUITES)
def test_suite_passes_as_a_domu(dom0, domu, files, suite, form):
    domain = domu(f"{suite}-{form}", **settings(files, suite, form)).create(wait=False)
    assert " 0 failed" in verdict(dom0, domain)


# A round: data to the disk and back, and a file from outside by TCP, each compared.
TRAFFIC = ("(until [ -e /tmp/stop ]; do dd if=/dev/urandom of=/tmp/data bs=64k count=32; dd if=/tmp/data of=/dev/xvda bs=64k; "
           "sync; echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/xvda bs=64k count=32 | cmp - /tmp/data && "
           "wget -q -O /tmp/got {url} && echo '{sum}  /tmp/got' | md5sum -c && echo good || echo bad; done) > /tmp/rounds 2>&1 &")


def test_all_formats_at_once(dom0, domu, files, scratch):
    """Guests of each format run their suites while a Linux reads, writes and fetches beside them."""
    payload = scratch / "payload"
    payload.write_bytes(os.urandom(1 << 20))
    dom0.ok("truncate -s 8M /tmp/traffic.img")
    linux = domu("beside", disk=["/tmp/traffic.img,raw,xvda,rw"], vif=["bridge=xenbr0"], extra="rig.ip=10.0.2.21").create()
    with rig.Outside() as outside:
        digest = hashlib.md5(payload.read_bytes()).hexdigest()
        linux.ok(TRAFFIC.format(url=outside.serve_file(payload), sum=digest))
        domains = [domu(f"once-{form}", **settings(files, "hypercalls", form)).create(wait=False) for form in FORMATS]
        for domain in domains:
            assert " 0 failed" in verdict(dom0, domain, 180)
        linux.ok("touch /tmp/stop; wait; true", 120)
        rounds = linux.ok("cat /tmp/rounds").splitlines()
    assert "bad" not in rounds and rounds.count("good") >= 1, rounds


def test_gnu_mach_finds_its_devices(dom0, domu, files):
    """A 32-bit PAE kernel of the Xen 3 era, as Debian ships it: old call numbers, described by a __xen_guest string only."""
    dom0.ok("truncate -s 8M /tmp/mach.img")
    domain = domu("mach", kernel=f"{files}/gnumach-dbg", ramdisk=None, extra=None, memory=96, on_poweroff="preserve",
                  on_crash="preserve", disk=["/tmp/mach.img,raw,xvda,rw"], vif=["bridge=xenbr0"]).create(wait=False)
    dom0.wait_until(f"grep -aq 'No bootstrap code loaded with the kernel!' {domain.console_log}", 60)
    backends = f"/local/domain/0/backend/{{}}/{domain.domid()}"
    for kind in ("vbd", "vif"):
        paths = dom0.ok(f"xenstore-ls -f {backends.format(kind)} | grep -a '/state = '")
        assert paths.endswith('"4"'), paths
    console = dom0.ok(f"cat {domain.console_log}")
    assert "dom0's VBD 51712 (/tmp/mach.img,w) 8MB" in console and "dom0's VIF 0" in console, console


def test_32_bit_pv_grub_reads_its_disk(dom0, domu, files):
    dom0.ok("mkdir -p /tmp/gd; truncate -s 8M /tmp/g32.img; mke2fs -q -F /tmp/g32.img; mount -o loop /tmp/g32.img /tmp/gd; "
            "mkdir -p /tmp/gd/boot/grub; echo words-of-a-file > /tmp/gd/words; "
            "echo 'cat (xen/xvda)/words; sleep 60' > /tmp/gd/boot/grub/grub.cfg; umount /tmp/gd")
    domain = domu("grub32", kernel=f"{files}/grub-i386-xen.bin", ramdisk=None, extra=None, memory=64,
                  disk=["/tmp/g32.img,raw,xvda,r"]).create(wait=False)
    dom0.wait_until(f"grep -aq words-of-a-file {domain.console_log}", 120)


LOADER_REFUSALS = {
    "nothing": (None, "no kernel"),
    "64-bit": ("smoke-pt64", "a 64-bit one, this loader is for 32-bit ones"),
    "no kernel at all": ("text", "not a kernel|ELF"),
    "truncated": ("truncated", "truncated|malformed|outside|past the end|beyond"),
}


@pytest.mark.parametrize("what", sorted(LOADER_REFUSALS))
def test_loader_says_why_it_refuses(dom0, domu, files, what):
    name, why = LOADER_REFUSALS[what]
    dom0.ok(f"head -c 3000 {files}/smoke-pt32 > {files}/truncated; yes text | head -c 9000 > {files}/text")
    domain = domu("refused", **{**settings(files, "smoke", "pt32"), "ramdisk": name and f"{files}/{name}"}).create(wait=False)
    dom0.wait_until(f"grep -aqE 'pvisor loader: .*({why})' {domain.console_log}", 60)


# What a kernel says of itself, and a lie of the same length.
LIES = {
    "nonpae-says-pae": ("pt32", b"GUEST_VER=1,", b"PAE=yes,X=1,"),
    "pae-says-nonpae": ("pt32p", b"\x09\0\0\0Xen\0yes\0", b"\x09\0\0\0Xen\0no\0\0"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_pae_flag_that_lies_ends_that_guest_alone(dom0, domu, files, scratch, lie):
    """Nothing but the flag says what tables a kernel expects. It finds others, and dies: by a fault, or when it looks at them."""
    form, truth, claim = LIES[lie]
    content = (GUESTS / f"smoke-{form}").read_bytes()
    assert content.count(truth) == 1 and len(truth) == len(claim)
    (scratch / lie).write_bytes(content.replace(truth, claim))
    rig.put(dom0, scratch / lie, f"{files}/{lie}")
    claimed = "pt32p" if form == "pt32" else "pt32"
    dom0.ok("xl dmesg -c > /dev/null")
    changes = {"ramdisk": f"{files}/{lie}"} if claimed == "pt32" else {"kernel": f"{files}/{lie}"}
    domain = domu("liar", **{**settings(files, "smoke", claimed), **changes}).create(wait=False)
    dom0.wait_until("xl list liar | tail -n 1 | awk '{ print $5 }' | grep -q c", 60)
    log = dom0.hypervisor_log()
    assert re.search(r"d\d+v0 crashed: .*(trap|fault|handler|stack|mapped)[^$]*rip [0-9a-f]{4}:|PVTEST panic", log), log
    assert dom0.ok("echo alive") == "alive"


@pytest.mark.parametrize("kind", rig.BARE_KERNELS)
def test_kernel_that_names_no_addresses_as_a_domu(dom0, domu, files, scratch, kind):
    """Notes without entry and base, as xl takes them; for the loader, also a string without a base."""
    rig.put(dom0, rig.bare_kernel(kind, scratch), f"{files}/bare")
    dom0.ok("xl dmesg -c > /dev/null")
    form = kind.split("-")[0]
    domu("bare", **rig.kernel_settings(f"{files}/bare", form), extra=None, memory=32, on_poweroff="preserve").create(wait=False)
    dom0.wait_until("xl list bare | tail -n 1 | awk '{ print $5 }' | grep -q s", 60)
    assert rig.BARE_RUNS in dom0.hypervisor_log()


@pytest.mark.parametrize("kind", rig.BARE_KERNELS)
def test_kernel_that_names_no_addresses_as_dom0(images, scratch, kind):
    """What xl starts as a domU, the hypervisor's own builder starts as dom0."""
    kernel, words = rig.bare_kernel(kind, scratch), rig.HYPERVISOR_ARGS.replace("512M", "128M")
    with rig.Machine(name="bare", kernel=kernel, initrd=kernel, memory=512, nic=None, base_cmdline=words) as vm:
        vm.expect(rig.BARE_RUNS, 60)
        vm.expect("Domain 0 halted", 60)


def test_non_pae_kernel_needs_the_loader(dom0, domu, files):
    domain = domu("plain", **{**settings(files, "smoke", "pt32"), "kernel": f"{files}/smoke-pt32", "ramdisk": None})
    result = domain.try_create()
    assert result.status != 0 and dom0.run("xl domid plain").status != 0
