"""xentrace and xenalyze, Debian's own, on a machine that runs a domU."""
import re

import rig


def test_xentrace_records_what_xenalyze_reads(dom0, standing):
    standing("domu")
    dom0.ok("xentrace -D -e all -T 2 /tmp/trace", 60)
    lines = dom0.ok("xenalyze --dump-all /tmp/trace 2>/dev/null", 120)
    assert re.search(r"d0v0 hypercall +1d \(sched_op\) block", lines)
    assert re.search(r"runstate_change d0v0 running->blocked", lines)
    assert re.search(r"sched_switch prev d32767v0 next d0v0", lines)
    assert "next slice" not in lines
    summary = dom0.ok("xenalyze --summary /tmp/trace 2>/dev/null", 120)
    assert "|-- Domain 0 --|" in summary and "Runstates" in summary
    assert "unknown" not in summary.lower().replace("unknown (0)", "")


def test_xentrace_records_chosen_events_alone(dom0, standing):
    standing("domu")
    dom0.ok("xentrace -D -e sched -T 1 /tmp/trace", 60)
    lines = dom0.ok("xenalyze --dump-all /tmp/trace 2>/dev/null", 120)
    assert "vcpu_wake d0v0" in lines and "hypercall" not in lines


def test_words_of_the_command_line_trace_from_boot_on(scratch):
    with rig.Machine("traced", cmdline="tbuf_size=16 tevt_mask=0x2f000") as machine:
        machine.wait_for_dom0()
        assert "Trace buffers: 16 pages for each of 1 CPUs" in machine.transcript()
        assert "there are trace buffers, of 16 pages" not in machine.transcript()
        machine.ok("xentrace -x -T 1 /tmp/trace", 60)
        assert "vcpu_wake d0v0" in machine.ok("xenalyze --dump-all /tmp/trace 2>/dev/null", 120)
