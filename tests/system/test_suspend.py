"""Guests of Xen 3's time are saved, restored and migrated: tests/guests/domu/suspend.c, which writes to its memory and changes its page
tables all the time and looks at all of it after each life. Those without PAE are so by tools/save-helper, which leaves others to the
tools' own."""
import re

import pytest

import rig

DIRECTORY = "/tmp/suspend"
FORMATS = ["pt64", *(pytest.param(form, marks=pytest.mark.pvisor_only) for form in ("pt32p", "pt32"))]
OURS = f"LIBXL_SAVE_HELPER={DIRECTORY}/{rig.SAVE_HELPER.name}"


@pytest.fixture
def guest(dom0, domu):
    """guest(format, words, setting=...): a new domain; words: more of its command line."""
    def make(form, words="", **settings):
        if dom0.run(f"test -e {DIRECTORY}").status:
            rig.make("-C", "tests/guests", "S=suspend")
            rig.make("loader", "save-helper")
            dom0.ok(f"mkdir {DIRECTORY}")
            for path in [*(rig.TOP / f"build/guests/suspend-{each}" for each in ("pt64", "pt32p", "pt32")), rig.LOADER, rig.SAVE_HELPER]:
                rig.put(dom0, path, f"{DIRECTORY}/{path.name}")
            dom0.ok(f"chmod +x {DIRECTORY}/{rig.SAVE_HELPER.name}")
        domain = domu(**rig.kernel_settings(f"{DIRECTORY}/suspend-{form}", form), memory=32, extra=words, **settings).create()
        expect_lives(dom0, "0 0 0")
        return domain
    return make


def expect_lives(dom0, lives):
    """That it went on as a new domain and as the old one so often, and that so many pages were wrong."""
    path = "/local/domain/$(xl domid domu)/data/lives"
    dom0.wait_until(f"xenstore-read {path} 2>/dev/null | grep -q '^[0-9]'", 60)
    dom0.wait_until(f"[ \"$(xenstore-read {path})\" = '{lives}' ] || {{ xenstore-read {path}; false; }}", 60)


def lives(dom0):
    return dom0.ok("xenstore-read /local/domain/$(xl domid domu)/data/lives").strip()


def save(dom0, more="", helper=""):
    dom0.ok(f"{helper} xl save {more} domu /tmp/saved", 120)


def restore(dom0, helper=""):
    dom0.ok(f"{helper} xl restore /tmp/saved; rm /tmp/saved", 120)


def migrate(dom0, more="", seconds=240):
    return dom0.ok(f"{OURS} xl migrate {more} -s '' domu 'env {OURS} xl migrate-receive' 2>&1", seconds)


def rounds(said):
    """How many frames each had, as the helper says; the last one, for which the guest stands still, is the last here."""
    return [int(number) for number in re.findall(r"round(?: \d+ while the guest runs)?: (\d+) frames", said)]


def is_logged(dom0):
    dom0.ok("xl dmesg -c > /dev/null; xl debug-keys q")
    told = dom0.ok(f"xl dmesg | grep '^.*d'$(xl domid domu)':'")
    return "writes are logged" in told


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("call", ["new", "old"])
def test_lives_on(dom0, guest, form, call):
    """Saved and restored, saved and gone on with, and sent to the same host while it runs."""
    helper = OURS if form == "pt32" or (form, call) == ("pt32p", "new") else ""
    domain = guest(form, f"call={call}" + (" memory=moves" if form == "pt32" else ""))
    save(dom0, helper=helper)
    restore(dom0, helper)
    expect_lives(dom0, "1 0 0")
    save(dom0, "-c", helper)
    expect_lives(dom0, "1 1 0")
    said = dom0.ok(f"{helper} xl migrate -s '' domu 'xl migrate-receive' 2>&1", 240)
    assert not helper or form != "pt32" or len(rounds(said)) > 2, said
    expect_lives(dom0, "2 1 0")
    # What it was after the last life it can be again.
    save(dom0, helper=helper)
    restore(dom0, helper)
    expect_lives(dom0, "3 1 0")
    dom0.ok("xl shutdown -w domu", 60)
    assert domain.state() is None


@pytest.mark.pvisor_only
@pytest.mark.parametrize("cpus", [1, 2])
def test_without_pae_it_is_migrated_while_it_runs(dom0, guest, cpus):
    """In rounds, each of which has what was written meanwhile and not more; and all that it was is there afterwards."""
    guest("pt32", f"vcpus={cpus} memory=moves", vcpus=cpus)
    for life in (1, 2):
        said = migrate(dom0, "--debug")
        sent = rounds(said)
        assert len(sent) > 2 and sent[0] == 8192, said
        assert all(0 < number < 8192 for number in sent[1:]), said
        assert "compared, 0 are not what they were" in said, said
        expect_lives(dom0, f"{life} 0 0")
        assert not is_logged(dom0)


# Half-way: the receiver has only the first pages, and is gone then; and both helpers are told to end when both are there.
CUT = f"head -c 9000000 | env {OURS} xl migrate-receive"
BOTH = f"while [ $(pidof {rig.SAVE_HELPER.name} | wc -w) -lt 2 ]; do sleep 0.1; done; kill $(pidof {rig.SAVE_HELPER.name})"


@pytest.mark.pvisor_only
def test_without_pae_a_migration_that_fails_leaves_it_running_and_not_logged(dom0, guest):
    """And it is migrated after all."""
    domain = guest("pt32", "memory=moves")
    domid = domain.domid()
    for receiver, meanwhile in ((CUT, "true"), (f"env {OURS} xl migrate-receive", BOTH)):
        failed = dom0.run(f"({meanwhile}) & {OURS} xl migrate -s '' domu '{receiver}' 2>&1", 240)
        assert failed.status and domain.domid() == domid, failed
        dom0.wait_until(f"! pidof {rig.SAVE_HELPER.name}")
        assert not is_logged(dom0)
        dom0.run("xl destroy domu--incoming 2>/dev/null")
    assert lives(dom0) == "0 0 0"
    migrate(dom0)
    expect_lives(dom0, "1 0 0")


@pytest.mark.pvisor_only
def test_without_pae_the_tools_own_helper_refuses(dom0, guest):
    """To save such a guest, which lives on, and to restore it from what ours has saved; and ours refuses a stream that is cut off."""
    domain = guest("pt32")
    refused = dom0.run("xl save domu /tmp/saved 2>&1", 120)
    assert refused.status and "Failed to get types" in refused, refused
    expect_lives(dom0, "0 1 0")
    save(dom0, helper=OURS)
    refused = dom0.run("xl restore /tmp/saved 2>&1", 120)
    assert refused.status and "width 4, pt_levels 2" in refused, refused
    refused = dom0.run(f"head -c 9000000 /tmp/saved > /tmp/cut; {OURS} xl restore /tmp/cut 2>&1; s=$?; rm /tmp/cut; (exit $s)", 120)
    assert refused.status and "the stream ends in the middle of a record" in refused, refused
    assert domain.state() is None
    restore(dom0, OURS)
    expect_lives(dom0, "1 1 0")
