"""Whether a guest of Debian's Xen can come here: all that Xen tells guests of a CPU by default, a guest of ours may have on the same CPU.

By name only: make test T=xen_policies.
"""
import re

import pytest

import rig

pytestmark = pytest.mark.long

# Where feature bits are (public/arch-x86/cpufeatureset.h): leaf, subleaf, and which of eax, ebx, ecx and edx.
ANY = 0xffffffff
FEATURES = {(1, ANY): (2, 3), (0x80000001, ANY): (2, 3), (0xd, 1): (0,), (7, 0): (1, 2, 3), (0x80000007, ANY): (3,), (0x80000008, ANY): (1,),
            (7, 1): (0, 1, 2, 3), (7, 2): (3,), (0x80000021, ANY): (0, 2)}
LIMITS = [(0, ANY), (0x80000000, ANY), (7, 0)]
ARCH_CAPS = 0x10a
# What no guest misses (policy_check.c): RSBA and RRSBA in IA32_ARCH_CAPABILITIES; HTT; CMP_LEGACY; FDP_EXCP_ONLY and NO_FPU_SEL; ITSC.
NOT_MISSED = {(1, ANY, 3): 1 << 28, (0x80000001, ANY, 2): 1 << 1 | 1 << 26, (7, 0, 1): 1 << 6 | 1 << 13, (0x80000007, ANY, 3): 1 << 8}
ARCH_CAPS_NOT_MISSED = 1 << 2 | 1 << 19


def policy(text, name):
    """{(leaf, subleaf): registers}, {MSR: value} of one of those that xen-cpuid has shown."""
    part = re.search(rf"^{name} policy:.*\n((?:[ ].*\n)+)", text + "\n", re.M).group(1)
    leaves = re.findall(r"^ +([0-9a-f]{8}):([0-9a-f]{8}) -> (\S+)", part, re.M)
    return ({(int(leaf, 16), int(sub, 16)): [int(word, 16) for word in words.split(":")] for leaf, sub, words in leaves},
            {int(msr, 16): int(value, 16) for msr, value in re.findall(r"^ +([0-9a-f]{8}) -> (\S+)", part, re.M)})


def missing(told, possible):
    """What the one policy has and the other has not."""
    (leaves, msrs), (most, most_msrs) = told, possible
    nothing = [0, 0, 0, 0]
    found = [(place, "eax ebx ecx edx".split()[reg], hex(bits)) for place, regs in FEATURES.items() for reg in regs
             if (bits := leaves.get(place, nothing)[reg] & ~most.get(place, nothing)[reg] & ~NOT_MISSED.get((*place, reg), 0))]
    found += [(place, "limit", hex(leaves[place][0])) for place in LIMITS if place in leaves and leaves[place][0] > most.get(place, nothing)[0]]
    caps = msrs[ARCH_CAPS] & ~most_msrs[ARCH_CAPS] & ~ARCH_CAPS_NOT_MISSED
    return found + ([("IA32_ARCH_CAPABILITIES", hex(caps))] if caps else [])


def policies(cpu, hypervisor):
    with rig.Machine(name="policies", cpu=cpu, hypervisor=hypervisor) as vm:
        vm.wait_for_dom0(400)
        return vm.ok(f"{vm.tool('xen-cpuid')} -p")


@pytest.mark.parametrize("cpu", ["core2duo", "Nehalem", "IvyBridge", "Haswell-noTSX", "Skylake-Client-v1,smap=off", "EPYC,-svm,smap=off"])
def test_what_xen_tells_a_guest_is_possible_here(images, cpu):
    del images
    told, here = policy(policies(cpu, "debian"), "PV Default"), policies(cpu, None)
    ours = policy(here, "PV Max")
    assert len(told[0]) > 10 and told[0][1, ANY][3]
    assert missing(told, ours) == []
    # The look sees what is missing: the CPU's own policy has what no PV guest may have.
    assert missing(policy(here, "Host"), ours)
