"""The Debian packages that `make deb` builds: what is in them, and what installing, upgrading and removing them does to a Debian 12 and a
Debian 13, each a minimal one in a chroot (tools/image/chroot). Alone: make test T=package.
"""
import gzip
import os
import re
import shutil
import subprocess

import pytest

import rig

VERSION = re.search(r"^PVISOR_VERSION := (\S+)$", (rig.TOP / "Config.mk").read_text(), re.M).group(1)
HYPERVISOR = f"boot/xen-{VERSION}-pvisor.gz"
SETTINGS = "etc/default/grub.d/zz-pvisor.cfg"
RELEASES = {"bookworm": rig.DEBIAN12, "trixie": rig.DEBIAN13}
KERNEL = "6.1.0-1-amd64"        # as tools/image/chroot names it
AS_ROOT = os.getuid() == 0
# In front of a command that is to be root in a namespace of its own.
AS_ANYBODY = [] if AS_ROOT else ["mmdebstrap", "--unshare-helper"]


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, **options)
    return done.returncode, done.stdout


def ok(*command, **options):
    status, text = run(*command, **options)
    assert status == 0, text
    return text


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Where the packages are built, from this tree, in a network of nobody else."""
    directory = tmp_path_factory.mktemp("package")
    ok("unshare", "--map-root-user", "--net", rig.TOP / "tools/deb", directory)
    return directory


@pytest.fixture(scope="module")
def package(out):
    path = out / f"pvisor_{VERSION}_amd64.deb"
    assert path.exists(), "the version in debian/changelog is not that in Config.mk"
    return path


@pytest.fixture(scope="module")
def unpacked(package, tmp_path_factory):
    directory = tmp_path_factory.mktemp("unpacked")
    ok("dpkg-deb", "-x", package, directory)
    return directory


# What is in it

TERMINAL = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "PAGER": "cat"}


def test_lintian_has_nothing_to_say(out):
    sources, packages = list(out.glob("deb/*.dsc")), list(out.glob("*.deb"))
    assert len(sources) == 1 and len(packages) == 2
    assert run("lintian", *(["--allow-root"] if AS_ROOT else []), "--display-info", "--pedantic", *sources, *packages) == (0, "")


def test_has_all_that_make_install_installs(unpacked, tmp_path):
    ok("make", "-s", "install", f"DESTDIR={tmp_path}", cwd=rig.TOP)
    installed = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert len(installed) > 4
    assert [path for path in installed if not (unpacked / path).is_file()] == []


def test_man_pages_render_without_warnings(unpacked):
    pages = sorted(unpacked.glob("usr/share/man/man?/*.gz"))
    assert [page.name for page in pages] == ["pvisor-inspect.1.gz", "pvisor-command-line.5.gz", "pvisor.7.gz"]
    for page in pages:
        assert ok("sh", "-c", 'man --warnings -E UTF-8 -l -Tutf8 -Z "$0" > /dev/null', page, env={**TERMINAL, "MANROFFSEQ": ""}) == ""
        assert page.name.split(".")[0] + " - " in ok("lexgrog", page)


def test_the_page_of_the_command_line_has_every_word_of_the_document(unpacked):
    rows = re.findall(r"^\| `([a-z0-9_-]+)", (rig.TOP / "docs/command-line.md").read_text(), re.M)
    page = ok("man", "-l", unpacked / "usr/share/man/man5/pvisor-command-line.5.gz", env=TERMINAL)
    assert len(rows) > 30
    assert [word for word in rows if not re.search(rf"^ +{re.escape(word)}\b", page, re.M)] == []


def test_pages_name_files_that_are_there(unpacked):
    for page in unpacked.glob("usr/share/man/man?/*.gz"):
        for path in re.findall(r"/usr/share/doc/pvisor/[\w-]+\.md", gzip.decompress(page.read_bytes()).decode().replace("\\-", "-")):
            assert (unpacked / path[1:]).is_file(), path


def build_id(hypervisor):
    """The descriptor of a GNU note of 20 bytes, by its head: lengths of name and descriptor, type, name."""
    head = bytes([4, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0]) + b"GNU\0"
    at = hypervisor.index(head) + len(head)
    return hypervisor[at:at + 20].hex()


def test_symbols_of_the_installed_hypervisor_are_in_the_other_package(out, unpacked, tmp_path):
    ok("dpkg-deb", "-x", out / f"pvisor-dbgsym_{VERSION}_amd64.deb", tmp_path)
    of_it = build_id(gzip.decompress((unpacked / HYPERVISOR).read_bytes()))
    symbols = tmp_path / f"usr/lib/debug/.build-id/{of_it[:2]}/{of_it[2:]}.debug"
    address = re.search(r"^([0-9a-f]+) T do_xen_version$", ok("nm", symbols), re.M).group(1)
    assert "common/version.c:" in ok("addr2line", "-e", symbols, address)
    assert not (unpacked / "usr/lib/pvisor/xen-syms").exists()


def test_stripped_loaders_are_still_kernels(unpacked):
    loaders = sorted(unpacked.glob("usr/lib/pvisor/pv-loader-*"))
    assert len(loaders) == 2
    said = ok(unpacked / "usr/bin/pvisor-inspect", *loaders)
    assert said.count("pvisor runs it") == 2 and ".debug_info" not in ok("readelf", "-SW", *loaders)


def test_looks_at_the_tools_of_every_release_that_is_served():
    first, last = re.search(r"told, (4\.\d+) to (4\.\d+)", (rig.TOP / "docs/command-line.md").read_text()).groups()
    served = [f"4.{minor}" for minor in range(int(first[2:]), int(last[2:]) + 1)]
    assert re.findall(r"^interest-noawait /usr/lib/xen-(\S+)$", (rig.TOP / "debian/pvisor.triggers").read_text(), re.M) == served
    assert re.findall(r"\bxen-hypervisor-(4[\d.]+)", (rig.TOP / "debian/control").read_text()) == served


# What it does to a system

ADMINISTRATOR = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


class Debian:
    """A minimal Debian of that release below a directory, with the packages in /packages."""

    def __init__(self, release, directory, packages):
        rig.build_images(f"chroot-{release}.tar")
        self.root, self.release = directory, RELEASES[release]
        self.root.mkdir()
        # Without nodes, which not everybody may make (the host's are mounted), and without what is for readers.
        without = [f"--exclude=./{path}/*" for path in ("dev", "usr/share/doc", "usr/share/locale", "usr/share/man")]
        ok(*AS_ANYBODY, "tar", "-C", self.root, "-x", *without, "-f", rig.CACHE / f"chroot-{release}.tar")
        self.ok("mkdir /packages")
        for path in packages:
            self.put(path)

    def command(self, text):
        inside = 'mount --rbind /dev "$0/dev" && exec chroot "$0" sh -c "$1"'
        return [*(["unshare", "--mount"] if AS_ROOT else AS_ANYBODY), "sh", "-c", inside, self.root, text]

    def ok(self, text):
        return ok(*self.command(text), env=ADMINISTRATOR)

    def put(self, path):
        subprocess.run(self.command(f"cat > /packages/{path.name}"), input=path.read_bytes(), check=True)

    def install(self, *names):
        return self.ok("dpkg -i " + " ".join(name if name.startswith("/") else f"/packages/{name}" for name in names))

    def entries(self):
        """Each menu entry of a hypervisor: its file's name and its words."""
        return re.findall(r"^\s*multiboot2\s+\S*/(xen-\S+)\s+(.*)$", self.ok("cat /boot/grub/grub.cfg"), re.M)

    def hypervisors(self):
        return {name for name, _ in self.entries()}

    def has(self, path):
        return self.ok(f"[ ! -e /{path} ] || echo yes").strip() == "yes"


def made_package(directory, control, files):
    """A package with these fields and files, as a path."""
    for path, text in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text)
    (directory / "DEBIAN").mkdir(exist_ok=True)
    (directory / "DEBIAN/control").write_text("".join(f"{field}: {value}\n" for field, value in control.items()))
    path = directory.parent / f"{directory.name}.deb"
    ok("dpkg-deb", "--root-owner-group", "-b", directory, path)
    return path


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    """Packages that have of Xen's tools the one that is looked for."""
    place = tmp_path_factory.mktemp("tools")
    return [made_package(place / f"xen-utils-{version}",
                         {"Package": f"xen-utils-{version}", "Version": "1", "Architecture": "all",
                          "Maintainer": "nobody <nobody@pvisor.invalid>", "Description": "stands for Xen's tools"},
                         {f"usr/lib/xen-{version}/bin/xl": ""})
            for version in (release.xen for release in RELEASES.values())]


@pytest.fixture(scope="module")
def newer(package, tmp_path_factory):
    """The package as a later version might be: another number, name of the hypervisor, and text of the settings."""
    tree = tmp_path_factory.mktemp("newer") / "pvisor-newer"
    ok("dpkg-deb", "-R", package, tree)
    (tree / HYPERVISOR).rename(tree / "boot/xen-0.9-pvisor.gz")
    (tree / SETTINGS).write_text("# A line that is new.\n" + (tree / SETTINGS).read_text())
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace(f"Version: {VERSION}\n", "Version: 0.9\n"))
    path = tree.parent / "pvisor-newer.deb"
    ok("dpkg-deb", "--root-owner-group", "-b", tree, path)
    return path


@pytest.fixture(params=RELEASES)
def debian(request, tmp_path, package, newer, tools):
    system = Debian(request.param, tmp_path / "debian", [package, newer, *tools])
    assert system.entries() == []
    yield system
    ok(*AS_ANYBODY, "rm", "-rf", system.root)


def test_installing_adds_entries(debian, package):
    debian.install(package.name)
    assert debian.hypervisors() == {f"xen-{VERSION}-pvisor.gz"}
    assert "pvisor runs it" in debian.ok("pvisor-inspect /usr/lib/pvisor/pv-loader-i386")


def test_the_version_follows_the_tools(debian, package, tools):
    """In every entry, that for recovery included, and whichever is installed first."""
    def told():
        entries = debian.entries()
        assert len(entries) >= 3
        versions = {" ".join(re.findall(r"xen-version=(\S+)", words)) for _, words in entries}
        assert len(versions) == 1
        return versions.pop()

    debian.install(tools[0].name)
    debian.install(package.name)
    assert told() == "4.17"
    debian.install(tools[1].name)
    assert told() == "4.20"
    debian.ok("dpkg -r xen-utils-4.20 xen-utils-4.17")
    assert told() == ""


def test_an_upgrade_keeps_the_settings_and_renews_the_entries(debian, package, newer):
    debian.install(package.name)
    debian.ok(f"sed -i s/^PVISOR_XEN_VERSION=.*/PVISOR_XEN_VERSION=4.19/ /{SETTINGS}")
    debian.ok(f"dpkg --force-confdef -i /packages/{newer.name}")
    assert "PVISOR_XEN_VERSION=4.19" in debian.ok(f"cat /{SETTINGS}")
    assert debian.hypervisors() == {"xen-0.9-pvisor.gz"}
    assert all("xen-version=4.19" in words for _, words in debian.entries())


def test_removing_takes_the_entries_and_purging_the_settings(debian, package):
    everything = r"find / -xdev \( -path /proc -o -path /dev -o -path /var/lib/dpkg -o -path /var/log \) -prune -o -print | sort"
    before = debian.ok(everything)
    debian.install(package.name)
    debian.ok("dpkg -r pvisor")
    assert debian.entries() == [] and debian.has(SETTINGS)
    # They are read yet, and do nothing.
    debian.ok("update-grub")
    debian.ok("dpkg -P pvisor")
    assert not debian.has(SETTINGS)
    assert debian.ok(everything) == before


def test_sits_beside_debians_hypervisor(debian, package, tools):
    debian.install(*[tool.name for tool in tools], package.name)
    debian.install("/debs/*.deb")
    debians = f"xen-{debian.release.xen}-amd64.gz"
    both = debian.hypervisors()
    assert {debians, f"xen-{VERSION}-pvisor.gz"} <= both
    # Where its users say words for hypervisors.
    debian.ok("echo GRUB_CMDLINE_XEN=dom0_mem=1G >> /etc/default/grub.d/xen.cfg && update-grub")
    assert all("dom0_mem=1G xen-version=4.20" in words for _, words in debian.entries())
    debian.ok("dpkg -r pvisor")
    assert debian.hypervisors() == both - {f"xen-{VERSION}-pvisor.gz"}


def named_by(document):
    """What a document has grub-reboot start, as the shell words it."""
    return re.search(r"^    grub-reboot (.*) && reboot$", (rig.TOP / document).read_text(), re.M).group(1)


def menu_entry(debian, name):
    """The text of the one menu entry of that name, which the shell makes of the words."""
    identifier = debian.ok(f"echo {name}").strip()
    menu = debian.ok("cat /boot/grub/grub.cfg")
    entries = re.findall(rf"^menuentry [^\n]* '{re.escape(identifier)}' \{{\n(.*?)\n\}}$", menu, re.M | re.S)
    assert len(entries) == 1, identifier
    return entries[0]


def test_documents_name_the_entry(debian, package):
    debian.install(package.name)
    assert named_by("README") == named_by("docs/install.md")
    assert f"/boot/xen-{VERSION}-pvisor.gz" in menu_entry(debian, named_by("README"))


def test_the_entry_boots(debian, package, tools, unpacked, tmp_path):
    """The first one, as update-grub has made it, with a kernel and a ramdisk where it names them; xl tells the symbols' name."""
    rig.build_images("kernel/vmlinuz", "dom0.cpio", "trixie/dom0.cpio")
    settings = [f'GRUB_CMDLINE_XEN="{rig.HYPERVISOR_ARGS}"', f'GRUB_CMDLINE_LINUX_XEN_REPLACE_DEFAULT="{rig.DOM0_ARGS}"']
    debian.ok(f"echo '{chr(10).join(settings)}' >> /etc/default/grub; touch /boot/initrd.img-{KERNEL}")
    debian.install(package.name, f"xen-utils-{debian.release.xen}.deb")
    entry = menu_entry(debian, named_by("README"))
    files = {f"xen-{VERSION}-pvisor.gz": unpacked / HYPERVISOR, f"vmlinuz-{KERNEL}": debian.release.kernels / "vmlinuz",
             f"initrd.img-{KERNEL}": debian.release.dom0}
    disk = rig.grub_disk(tmp_path / "disk.img", entry.splitlines(), files)
    with rig.Machine(name=f"package-{debian.release.xen}", release=debian.release, boot_disk=rig.Disk(disk)) as machine:
        machine.wait_for_dom0()
        assert machine.ok("xl info xen_version").startswith(debian.release.xen)
        assert machine.ok("xl info build_id").strip() == build_id(gzip.decompress((unpacked / HYPERVISOR).read_bytes()))
