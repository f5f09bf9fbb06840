"""Whole installations of Debian 12, which every run has, and Debian 13: the beginning of test_installed_long.py. One boot of each release
serves its tests, in this order; the last one ends it.
"""
import re

import pytest

from installed import KERNELS, RELEASES, machine, shut_down_virt, start_virt, starts_all_services, virsh


@pytest.fixture(scope="module", params=list(RELEASES))
def dom0(request):
    with machine(request.param, "installed", cpus=1, guests=[request.param]) as dom0:
        yield dom0


@pytest.fixture(scope="module")
def virt(dom0):
    return start_virt(dom0)


def test_all_services_start(dom0):
    starts_all_services(dom0)


def test_the_journal_has_no_complaints(dom0):
    """Of what the kernel says about the machine that the hypervisor shows it."""
    journal = dom0.ok("journalctl -b -k -p err --no-pager -o cat", 120)
    assert journal.strip() in ("", "-- No entries --"), journal


def test_xl_knows_the_machine(dom0):
    assert re.search(rf"^xen_version +: {dom0.release.xen}", dom0.ok("xl info"), re.M)
    assert "Domain-0" in dom0.ok("xl list")


def test_libvirt_starts_a_domu_from_its_own_disk(dom0, virt):
    assert virt.ok("uname -r").startswith(KERNELS[dom0.suite])
    starts_all_services(virt)
    assert " 0% packet loss" in virt.ok("ping -c 3 10.0.2.15")


def test_virsh_and_xl_list_it(dom0, virt):
    assert re.search(r"^ *\d+ +virt +running", virsh(dom0, "list"), re.M)
    assert re.search(r"^virt +\d+ +320 +1 ", dom0.ok("xl list"), re.M)


def test_the_domu_and_dom0_shut_down(dom0, virt):
    shut_down_virt(dom0)
    dom0.start_command("systemctl poweroff")
    dom0.expect_exit(300)
