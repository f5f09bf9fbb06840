"""The build: the same source gives the same bytes wherever it lies, without warnings."""
import subprocess

import rig


def build(directory, **choices):
    """Build a copy of the source there; what make printed."""
    rig.copy_source(directory)
    words = [f"{key}={value}" for key, value in choices.items()]
    done = subprocess.run(["make", "-j2", "build/xen.gz", *words], cwd=directory, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_same_source_gives_the_same_bytes(scratch):
    for directory in (scratch / "one", scratch / "a-longer-name"):
        assert "warning" not in build(directory).lower()
    for name in ("xen.gz", "xen-syms"):
        assert (scratch / "one/build" / name).read_bytes() == (scratch / "a-longer-name/build" / name).read_bytes(), name
