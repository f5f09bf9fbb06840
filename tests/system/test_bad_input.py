"""Kernels that cannot run, guests that break: a clear refusal, that guest alone ends, and its memory is free again."""
import pytest

import rig


@pytest.fixture
def unchanged_memory(dom0, domu):
    """Free pages must be the same after the test as before it, once every domain of it is gone."""
    if not getattr(dom0, "had_a_domain", False):
        # What dom0's drivers, and the hypervisor for them, keep after a first domain.
        domu("first").create().destroy()
        dom0.had_a_domain = True
    before = dom0.settled_free_pages()
    yield
    for name in dom0.ok("xl list | awk 'NR > 2 { print $1 }'").split():
        dom0.ok(f"xl destroy {name}")
    dom0.wait_until(f"[ $(free-pages) -eq {before} ]", 30)


BAD_KERNELS = {
    "missing": "true",
    "empty": ": > /tmp/bad",
    "text": "yes 'not a kernel' | head -n 5000 > /tmp/bad",
    "truncated-elf": "zcat /boot/domu/vmlinux.gz | head -c 1000000 > /tmp/bad",
    "truncated-gzip": "head -c 1000000 /boot/domu/vmlinux.gz > /tmp/bad",
    "truncated-bzimage": "head -c 1000000 /boot/domu/vmlinuz > /tmp/bad",
    "ordinary-program": "cp /bin/busybox /tmp/bad",
}


@pytest.mark.parametrize("kind", BAD_KERNELS)
def test_bad_kernel_is_refused(dom0, domu, unchanged_memory, kind):
    """These never reach the hypervisor: the tools must say so, and give everything back."""
    dom0.ok(f"rm -f /tmp/bad; {BAD_KERNELS[kind]}")
    result = domu(kernel="/tmp/bad", ramdisk=None).try_create()
    assert result.status != 0
    assert rig.re.search("(?i)(invalid|no such file|failed|empty).*", result), result
    assert dom0.run("xl domid domu").status != 0


def test_kernel_larger_than_the_domain(dom0, domu, unchanged_memory):
    result = domu(memory=32).try_create()
    assert result.status != 0
    assert dom0.run("xl domid domu").status != 0


def test_more_memory_than_the_machine_has(dom0, domu, unchanged_memory):
    result = domu(memory=8192).try_create()
    assert result.status != 0 and "memory" in result


def test_guest_that_panics_ends_alone(dom0, domu, unchanged_memory):
    domain = domu(on_crash="destroy").create()
    domain.start_command("echo c > /proc/sysrq-trigger")
    dom0.wait_until("! xl domid domu 2>/dev/null", 60)
    assert "Kernel panic" in dom0.ok(f"cat {domain.console_log}")


@pytest.mark.parametrize("mode", ["no_handler", "fault_recursion", "null_callback", "bad_iret", "unmapped_code"])
def test_guest_that_faults_without_handlers(dom0, domu, unchanged_memory, mode):
    """The in-guest test kernel that dies on purpose (tests/guests/crash.c), as a domU."""
    kernel = rig.TOP / "build/guests/crash-pt64"
    if not kernel.exists():
        rig.make("-C", "tests/guests", "S=crash")
    rig.put(dom0, kernel, "/tmp/crash")
    dom0.ok("xl dmesg -c > /dev/null")
    domain = domu(kernel="/tmp/crash", ramdisk=None, extra=f"mode={mode}", memory=32, on_crash="preserve")
    domain.create(wait=False)
    dom0.wait_until("xl list domu | tail -n 1 | awk '{ print $5 }' | grep -q c", 60)
    log = dom0.hypervisor_log()
    assert rig.re.search(r"(?i)rip", log), log
    domain.destroy()


def run_test_kernel(dom0, domu, suite, form, extra=""):
    """One of tests/guests as a domU; it ends as it should, and is destroyed."""
    rig.subprocess.run(["make", "-s", "-C", rig.TOP / "tests/guests", f"S={suite}"], check=True)
    rig.put(dom0, rig.TOP / f"build/guests/{suite}-{form}", "/tmp/kernel")
    if form == "pt32":
        rig.make("loader")
        rig.put(dom0, rig.LOADER, f"/tmp/{rig.LOADER.name}")
    domain = domu(**rig.kernel_settings("/tmp/kernel", form), extra=extra, memory=64, vcpus=2, on_poweroff="preserve",
                  on_crash="preserve").create(wait=False)
    dom0.wait_until(f"grep -aqE 'PVTEST (.* passed|panic)' {domain.console_log} || xl list domu | grep -q -- c-", 180)
    assert " 0 failed" in dom0.ok(f"grep -aE 'PVTEST|FAIL' {domain.console_log}")
    domain.destroy()


@pytest.mark.parametrize("form", ["pt64", "pt32p", "pt32"])
def test_hostile_kernel_as_a_domu(dom0, domu, form):
    """What tests/guests/hostile.c tries as dom0 it also tries without dom0's rights."""
    run_test_kernel(dom0, domu, "hostile", form)


@pytest.mark.parametrize("form", ["pt64", "pt32p"])
def test_random_calls_of_a_domu(dom0, domu, form):
    """tests/guests/fuzz.c: whatever it did, it gives everything back."""
    memory_settles(dom0, lambda: run_test_kernel(dom0, domu, "fuzz", form, "rounds=400"))


def memory_settles(dom0, life):
    """
    Domains that live the same life again and again leave the same free memory, soon: the first ones may have dom0's table of
    grant handles grow, or share a page of small objects with one that stays. What leaked would go on growing.
    """
    counts = []
    while len(counts) < 2 or (counts[-1] != counts[-2] and len(counts) < 6):
        life()
        counts.append(dom0.settled_free_pages())
    assert counts[-1] == counts[-2], counts


def test_killed_while_doing_io(dom0, domu):
    """A domU that is destroyed in the middle of its I/O leaves no grants behind: all memory comes back."""
    def life():
        dom0.ok("truncate -s 16M /tmp/busy")
        domain = domu(disk=["/tmp/busy,raw,xvda,rw"]).create()
        domain.start_command("while :; do dd if=/dev/zero of=/dev/xvda bs=1M count=16; done")
        domain.destroy()
        dom0.wait_until("! losetup -a | grep -q /tmp/busy", 60)
    memory_settles(dom0, life)
