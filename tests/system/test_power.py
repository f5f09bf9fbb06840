"""xenpm: what is true of idle CPUs is shown, and of frequencies, which are the firmware's, that there is nothing."""
import re


def test_xenpm_shows_idle_states(dom0):
    text = dom0.ok("xenpm get-cpuidle-states")
    states = dict(re.findall(r"^C(\d) *: transition \[ *(\d+)\]", text, re.M))
    assert set(states) == {"0", "1"} and int(states["1"]) > 0
    residency = [int(n) for n in re.findall(r"residency +\[ *(\d+) ms\]", text)]
    uptime = float(dom0.ok("cut -d' ' -f1 /proc/uptime")) * 1000
    assert 0 < residency[1] and uptime / 2 < sum(residency) < 100 * uptime


def test_xenpm_start_adds_up(dom0):
    text = dom0.ok("timeout -s INT 3 xenpm start; true", 60)
    assert re.search(r"C1\s", text), text


def test_xenpm_has_no_frequencies_and_the_log_says_why(dom0):
    for command in ("get-cpufreq-states", "get-cpufreq-para", "get-cpufreq-average"):
        assert "MHz" not in dom0.run(f"xenpm {command} 2>&1")
    log = dom0.hypervisor_log()
    assert "CPUs' frequencies are left to the firmware: there are no figures of them" in log
    assert "sc_pm_op: operation 0x11: CPUs' frequencies are left to the firmware" in log


def test_deeper_idle_states_are_refused(dom0):
    assert "Operation not supported" in dom0.run("xenpm set-max-cstate 3 2>&1")
    assert "sc_pm_op: idle CPUs wait in C1" in dom0.hypervisor_log()
