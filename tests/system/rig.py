"""An emulated machine under test: QEMU with a hypervisor, a dom0 and a serial console that tests drive.

Settings from the environment:
    HYPERVISOR      the hypervisor: a path, or "debian" for Debian's own Xen; build/xen.gz unless told
    TIMEOUT_SCALE   every timeout is multiplied by this; 1 unless told
A timeout is the machine's: time for which the host kept it waiting for a CPU does not count (tests/patience.py).
"""
import contextlib
import fcntl
import gzip
import http.server
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pexpect

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests"))
from patience import TIMEOUT_SCALE, Patience, Waits
CACHE = TOP / "build/cache"
KERNELS = CACHE / "kernel"


class Release(NamedTuple):
    """What of a release of Debian dom0 and the domUs are: images in build/cache, and the version of its Xen tools."""
    dom0: Path
    domu: Path
    kernels: Path
    xen: str


DEBIAN12 = Release(CACHE / "dom0.cpio", CACHE / "domu.cpio", KERNELS, "4.17")
DEBIAN13 = Release(CACHE / "trixie/dom0.cpio", CACHE / "trixie-domu.cpio", CACHE / "trixie/kernel", "4.20")
LOGS = TOP / "build/log"
OVMF = Path("/usr/share/OVMF")

# A small buffer of translated code is emptied often. With a large one, GRUB's code stays in it to the end, and
# QEMU takes the slow way on every write to a page where GRUB once ran: 3 to 5 times slower for hours.
# Each CPU has its own part of it, and needs some MiB to work in.
# A machine that is started without GRUB may have more: a whole Debian boots in two thirds of the CPU time with 256 MiB of it.
# in_turns: one thread of the host's runs all CPUs, and goes on with the next where one waits for another (PAUSE, HLT). Threads of their own
# need as many CPUs of the host's at once, or one spins for another that does not run.
def accelerator(cpus, mib=0, in_turns=False):
    return f"tcg,tb-size={max(32, 8 * cpus, mib)}{',thread=single' if in_turns else ''}"


# CPUs of today, with all that QEMU's emulation gives but what is of no use (SVM). Machines have a Nehalem unless told.
INTEL, AMD = "Skylake-Client-v1,+pku,+umip", "EPYC,-svm,+pku,+umip"


# What a rig-driven dom0 gets on its command line besides what the test asks for.
DOM0_ARGS = "console=hvc0 rig.shell=plain loglevel=5"
# The emulated CPU says nothing of Meltdown, and would get page-table isolation, at twice the time for everything (an emulator pays
# dearly for a load of CR3); test_isolation.py is for that.
HYPERVISOR_ARGS = "console=com1 com1=115200,8n1 loglvl=all guest_loglvl=all dom0_mem=512M,max:512M xpti=no"
# The hypervisor shares the serial line with dom0 and may speak in the middle of dom0's line.
HYPERVISOR_LINE = re.compile(r"\((?:XEN|pvisor)\)[^\n]*\n")


live_machines = []


class Failure(AssertionError):
    """The machine did not do what was expected of it."""


# How long libxl waits for a hotplug script, by the clock (LIBXL_HOTPLUG_TIMEOUT), and what it says then.
SCRIPT_SECONDS = 40
SCRIPT_GIVEN_UP = "because of timeout"


class Result(str):
    """A command's output, with its exit status in .status."""

    def __new__(cls, output, status):
        self = super().__new__(cls, output)
        self.status = status
        return self


def hypervisor_path(name=None):
    name = name or os.environ.get("HYPERVISOR") or "build/xen.gz"
    if name == "debian":
        return debian_hypervisor()
    path = Path(name)
    return path if path.is_absolute() or path.exists() else TOP / path


DEBIAN_HYPERVISOR = "root/boot/xen-*-amd64.gz"


def debian_hypervisor():
    for path in CACHE.glob(DEBIAN_HYPERVISOR):
        return path
    raise Failure(f"{CACHE}/{DEBIAN_HYPERVISOR} is missing: `make images` fetches it")


def is_debian(path):
    return Path(path).resolve().match(DEBIAN_HYPERVISOR)


class Disk:
    """A disk of the machine. kind: ahci, nvme or virtio; shared: other machines have it, too."""

    def __init__(self, path, kind="virtio", image_format="raw", shared=False):
        self.path, self.kind, self.format, self.shared = path, kind, image_format, shared

    def arguments(self, number, boot=False):
        drive = f"file={self.path},if=none,id=disk{number},format={self.format},cache=unsafe"
        drive += ",file.locking=off,snapshot=off" if self.shared else ""
        device = {"virtio": f"virtio-blk-pci,drive=disk{number}",
                  "nvme": f"nvme,drive=disk{number},serial=disk{number}",
                  "ahci": f"ide-hd,drive=disk{number},bus=ahci{number}.0"}[self.kind]
        device += ",bootindex=0" if boot else ""
        controller = ["-device", f"ich9-ahci,id=ahci{number}"] if self.kind == "ahci" else []
        return ["-drive", drive, *controller, "-device", device]


def end(child):
    """pexpect kills it in the end, and gives a tenth of a second for its death: a busy host takes longer."""
    try:
        child.close(force=True)
    except pexpect.ExceptionPexpect:
        os.waitpid(child.pid, 0)


class Machine:
    """One QEMU run. Use as a context manager: entering starts it, leaving kills it.

    hypervisor, kernel, initrd: files; cmdline and dom0_args are appended to the rig's own words.
    cdrom, or boot_disk: boot through the firmware and GRUB from that image instead of QEMU's -kernel.
    machine: q35 or pc; memory in MiB; nic: a QEMU device name or None; disks: Disk objects.
    uefi: the firmware is UEFI's, with variables of its own, and the boot disk one that it boots from.
    name: of the log file under build/log. qemu: the program; topology: what follows the number of CPUs in -smp.
    release: of Debian, in dom0 and, unless told, the domUs; the hypervisor must be told of its tools.
    code, in_turns: MiB of translated code that QEMU keeps, if more than usual; its CPUs in one thread (accelerator()).
    """

    def __init__(self, name="machine", hypervisor=None, cmdline="", kernel=None, initrd=None, dom0_args="",
                 cdrom=None, boot_disk=None, machine="q35", cpu="Nehalem", cpus=1, memory=1536, nic="e1000e",
                 disks=(), extra=(), base_cmdline=HYPERVISOR_ARGS, reboots=False, echo=None,
                 qemu="qemu-system-x86_64", topology="", release=DEBIAN12, code=0, in_turns=False, uefi=False):
        self.name, self.release = name, release
        self.hypervisor = hypervisor_path(hypervisor)
        self.cmdline = f"{base_cmdline} {cmdline}".strip()
        self.kernel = Path(kernel or release.kernels / "vmlinux.gz")
        self.initrd = Path(initrd or release.dom0)
        self.dom0_args = f"{DOM0_ARGS} {dom0_args}".strip()
        self.cdrom, self.boot_disk = cdrom, boot_disk
        self.machine, self.cpu, self.cpus, self.memory = machine, cpu, cpus, memory
        self.nic, self.disks, self.extra, self.reboots = nic, list(disks), list(extra), reboots
        self.echo, self.qemu, self.topology = echo, str(qemu), topology
        self.code, self.in_turns, self.uefi = code, in_turns, uefi
        self.child = None
        self.scratch = None
        self.standing = {}          # domUs that tests share, by name
        self.domu_kernel = "/boot/domu/vmlinux.gz"

    # Life cycle

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.close()

    def start(self):
        self.scratch = tempfile.TemporaryDirectory(prefix="pvisor-")
        LOGS.mkdir(parents=True, exist_ok=True)
        self.log_path = LOGS / f"{self.name}.log"
        self.log = open(self.log_path, "w", encoding="utf-8", errors="replace")
        program, arguments = self.command()
        self.child = pexpect.spawn(program, arguments, echo=False, timeout=None, encoding="utf-8", codec_errors="replace", maxread=65536)
        self.child.delaybeforesend = None
        live_machines.append(self)
        self.child.logfile_read = self

    def close(self):
        if self.child:
            live_machines.remove(self)
            end(self.child)
            self.child = None
            self.log.close()
            self.scratch.cleanup()

    def command(self):
        return self.qemu, self.arguments()

    def arguments(self):
        args = ["-machine", self.machine, "-accel", accelerator(self.cpus, self.code, self.in_turns), "-cpu", self.cpu,
                "-smp", f"{self.cpus}{self.topology}", "-m", str(self.memory), "-display", "none", "-monitor", "none", "-nodefaults",
                "-device", "VGA",
                "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
                "-qmp", f"unix:{self.scratch.name}/qmp,server=on,wait=off"]
        args += [] if self.reboots else ["-no-reboot"]
        if self.nic:
            args += ["-netdev", "user,id=net", "-device", f"{self.nic},netdev=net"]
        else:
            args += ["-nic", "none"]
        for number, disk in enumerate(self.disks):
            args += disk.arguments(number)
        return args + self.firmware_arguments() + self.boot_arguments() + self.extra

    def firmware_arguments(self):
        if not self.uefi:
            return []
        variables = Path(self.scratch.name) / "variables"
        shutil.copyfile(OVMF / "OVMF_VARS_4M.fd", variables)
        return ["-drive", f"if=pflash,format=raw,readonly=on,file={OVMF}/OVMF_CODE_4M.fd",
                "-drive", f"if=pflash,format=raw,file={variables}"]

    def boot_arguments(self):
        if self.cdrom:
            return ["-cdrom", str(self.cdrom)]
        if self.boot_disk:
            return self.boot_disk.arguments(9, boot=True)
        plain = self.plain_hypervisor()
        modules = f"{self.kernel} {self.dom0_args}".replace(",", ",,") + f",{self.initrd}"
        return ["-kernel", str(plain), "-append", self.cmdline, "-initrd", modules]

    def plain_hypervisor(self):
        """QEMU's -kernel takes the ELF itself, not gzipped."""
        with open(self.hypervisor, "rb") as stream:
            content = stream.read()
        if content[:2] != b"\x1f\x8b":
            return self.hypervisor
        plain = Path(self.scratch.name) / "hypervisor"
        plain.write_bytes(gzip.decompress(content))
        return plain

    # The serial line

    def write(self, text):
        """pexpect hands everything read here: keep it, and show it if asked to."""
        self.log.write(text.replace("\r", ""))
        if self.echo:
            self.echo.write(text.replace("\r", ""))
            self.echo.flush()

    def flush(self):
        self.log.flush()

    def send(self, text):
        """Type text. In small portions: the receiving side's buffers are small and know no flow control."""
        for start in range(0, len(text), 32):
            self.child.send(text[start:start + 32])
            time.sleep(0.02)

    def expect(self, pattern, timeout=60):
        """Wait for a regular expression on the serial line; the match object."""
        try:
            if self.await_output([pattern], timeout) is None:
                raise self.stuck(f"no {pattern!r} within {timeout} s")
        except pexpect.EOF:
            raise self.failure(f"the machine stopped before {pattern!r}") from None
        return self.child.match

    def await_output(self, patterns, timeout):
        """The index of the pattern that came first; None when time is up."""
        patience = Patience(timeout, self.child.pid)
        while (left := patience.left()) > 0:
            found = self.child.expect([pexpect.TIMEOUT, *patterns], timeout=left)
            if found:
                return found - 1
        return None

    def expect_exit(self, timeout=60):
        """Wait until QEMU is gone, as after a power-off, or a reboot with -no-reboot."""
        if self.await_output([pexpect.EOF], timeout) is None:
            raise self.failure(f"the machine still runs after {timeout} s")

    def running(self):
        return self.child is not None and self.child.isalive()

    def transcript(self):
        """All that came over the serial line so far."""
        self.flush()
        return self.log_path.read_text(errors="replace")

    def tail(self, lines=40):
        return "\n".join(self.transcript().splitlines()[-lines:])

    def stuck(self, message):
        """A failure of a machine that does not answer: with what the hypervisor says of its CPUs and domains. Input goes to dom0 again
        at the end: the tests that share the machine are to have a chance."""
        self.send("\x01\x01\x01")
        for key in "rq0e":
            self.send(key)
        try:
            self.child.expect(pexpect.EOF, timeout=5)
        except pexpect.TIMEOUT:
            self.send("\x01\x01\x01")
        return Failure(f"{message}; the end of {self.log_path}:\n{self.tail(120)}")

    def failure(self, message):
        return Failure(f"{message}; the end of {self.log_path}:\n{self.tail()}")

    # dom0

    def tool(self, name):
        """Where dom0 has one of Xen's tools that no wrapper stands for."""
        return f"/usr/lib/xen-{self.release.xen}/bin/{name}"

    def wait_for_dom0(self, timeout=240):
        self.expect(r"dom0: ready", timeout)
        self.run("dmesg -n 1", timeout=60)

    def run(self, command, timeout=60):
        """Run a command in dom0's shell; its output (both streams) and status, as a Result."""
        nonce = os.urandom(3).hex()
        self.send(f"echo; echo 'be''gin' {nonce}; {{ {command}\n}} </dev/null 2>&1; s=$?; "
                  f"echo; echo 'e''nd' {nonce} $s\n")
        found = self.expect_clean(rf"begin {nonce}\n(.*?)\n?end {nonce} (\d+)\n", command, timeout)
        return Result(found.group(1).removesuffix("\n"), int(found.group(2)))

    def start_command(self, command):
        """Type a command that wants the terminal; go on with expect() and send()."""
        self.send(command + "\n")

    def ok(self, command, timeout=60):
        """Run a command that must succeed; its output."""
        return self.succeeded(command, self.run(command, timeout))

    def succeeded(self, command, result):
        if result.status:
            raise self.failure(f"'{command}' ended with {result.status}: {result}")
        return result

    def ok_on_a_busy_host(self, command, timeout):
        """As ok, for what starts libxl's scripts: once more if it gave one up while the host kept the machine from working."""
        waits = Waits(self.child.pid)
        result = self.run(command, timeout)
        if result.status and SCRIPT_GIVEN_UP in result and waits.seconds() > SCRIPT_SECONDS / 2:
            self.log.write(f"\n--- the host kept the machine waiting for {waits.seconds():.0f} s: '{command}' once more\n")
            result = self.run(command, timeout)
        return self.succeeded(command, result)

    def expect_clean(self, pattern, what, timeout):
        """As expect, on what is left once the hypervisor's own lines are taken out."""
        patience = Patience(timeout, self.child.pid)
        compiled, text = re.compile(pattern, re.S), self.child.buffer
        self.child.buffer = ""
        while True:
            found = compiled.search(HYPERVISOR_LINE.sub("", text.replace("\r", "")))
            if found:
                return found
            if (left := patience.left()) <= 0:
                raise self.stuck(f"no answer to '{what}' within {timeout} s")
            try:
                text += self.child.read_nonblocking(65536, timeout=left)
            except pexpect.TIMEOUT:
                pass
            except pexpect.EOF:
                raise self.failure(f"the machine stopped during '{what}'") from None

    def hypervisor_log(self):
        """What xl dmesg prints. Its (XEN) becomes [XEN]: lines with the former are taken out of commands' output."""
        return self.ok("xl dmesg | sed 's/(XEN)/[XEN]/'")

    def wait_until(self, condition, timeout=60):
        """Wait in dom0 until a shell condition holds. Ten looks are one command; who waits long looks seldom, as each look costs time."""
        patience, pause = Patience(timeout, self.child.pid), max(0.5, timeout / 200)
        looks = f"for i in $(seq 10); do {condition} && break; sleep {pause:.1f}; done; {condition}"
        while (result := self.run(looks, timeout + 60)).status:
            if patience.left() <= 0:
                raise self.failure(f"'{condition}' does not hold within {timeout} s: {result}")

    def settled_free_pages(self):
        """The hypervisor's free pages, once nothing more is given back: backends take their time over a domain's end."""
        counts = []
        while len(counts) < 3 or len(set(counts[-3:])) > 1:
            if len(counts) > 40:
                raise self.failure(f"the number of free pages does not settle: {counts}")
            counts.append(int(self.ok("sleep 0.5; free-pages")))
        return counts[-1]

    # The machine's monitor

    def monitor(self, command, **arguments):
        """One QMP command, such as system_powerdown or inject-nmi; its return value."""
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(f"{self.scratch.name}/qmp")
            stream = link.makefile("rw")
            stream.readline()
            for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                stream.write(json.dumps(request) + "\n")
                stream.flush()
                answer = json.loads(stream.readline())
                while "event" in answer:
                    answer = json.loads(stream.readline())
        return answer.get("return")


class Domain:
    """A domU of a machine. Settings are xl.cfg's; text, numbers and lists of text."""

    def __init__(self, dom0, name="domu", **settings):
        self.dom0, self.name = dom0, name
        words = f"quiet rig.name={name} " + (settings.pop("extra", None) or "")
        self.settings = {"name": name, "kernel": dom0.domu_kernel, "ramdisk": "/boot/domu/initrd",
                         "memory": 96, "vcpus": 1, "extra": words.strip(), **settings}
        self.config = f"/tmp/{name}.cfg"

    def write_config(self):
        def text(value):
            if isinstance(value, (list, tuple)):
                return "[ " + ", ".join(text(v) for v in value) + " ]"
            return f'"{value}"' if isinstance(value, str) else str(value)
        lines = [f"{key} = {text(value)}" for key, value in self.settings.items() if value is not None]
        self.dom0.ok("printf '%s\\n' " + " ".join(shlex.quote(line) for line in lines) + f" > {self.config}; "
                     f"rm -f {self.console_log}")

    @property
    def console_log(self):
        return f"/var/log/xen/console/guest-{self.name}.log"

    def create(self, wait=True, timeout=180):
        self.write_config()
        self.dom0.ok_on_a_busy_host(f"xl create {self.config}", timeout)
        if wait:
            self.wait_ready()
        return self

    def try_create(self, timeout=180):
        """Create a domain that may well fail; the Result."""
        self.write_config()
        return self.dom0.run(f"xl create {self.config}", timeout)

    def times_ready(self):
        """How often the guest, or another of its name before, has said that it is ready."""
        return int(self.dom0.run(f"grep -sac ': ready' {self.console_log}") or 0)

    def wait_ready(self, times=1, timeout=120):
        """Wait until the guest has said it is ready, for the times-th time since it was created."""
        self.dom0.wait_until(f"[ $(grep -ac ': ready' {self.console_log}) -ge {times} ]", timeout)

    def run(self, command, timeout=60):
        """Run a command in the guest's shell, by its console; a Result."""
        return self.dom0.run(f"guest-run {self.name} {int(timeout * TIMEOUT_SCALE)} {shlex.quote(command)}", timeout + 30)

    def ok(self, command, timeout=60):
        result = self.run(command, timeout)
        if result.status:
            raise self.dom0.failure(f"'{command}' in {self.name} ended with {result.status}: {result}")
        return result

    def start_command(self, command):
        """Give the guest a command that will not come back, such as one that ends it."""
        self.dom0.run(f"guest-run {self.name} 1 {shlex.quote(command)}", 30)

    def state(self):
        """xl list's state letters, without the dashes; None when there is no such domain."""
        line = self.dom0.run(f"xl list {self.name} 2>/dev/null | tail -n +2")
        return line.split()[4].replace("-", "") if line.strip() else None

    def domid(self):
        return int(self.dom0.ok(f"xl domid {self.name}"))

    def destroy(self):
        self.dom0.run(f"xl destroy {self.name} 2>/dev/null")


class Outside:
    """The host outside the machine, which guests reach as 10.0.2.2: servers for tests to talk to."""

    ADDRESS = "10.0.2.2"

    def __init__(self):
        self.ends = contextlib.ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ends.close()

    def listen(self, serve):
        """A TCP server for one connection, serve(connection) in a thread; (port, thread)."""
        server = socket.create_server(("127.0.0.1", 0))
        self.ends.callback(server.close)

        def run():
            connection, _ = server.accept()
            with connection:
                serve(connection)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return server.getsockname()[1], thread

    def serve_file(self, path):
        """A URL that a guest can fetch the file from."""
        data = Path(path).read_bytes()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # A socket that is closed under the serving thread would have it spin for ever: the thread is stopped first.
        self.ends.callback(server.server_close)
        self.ends.callback(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://{self.ADDRESS}:{server.server_address[1]}/{Path(path).name}"


LOADER = TOP / "build/loader/pv-loader-i386"
LOADER64 = TOP / "build/loader/pv-loader-x86_64"
SAVE_HELPER = TOP / "build/pvisor-save-helper"
TEMPLATE = TOP / "build/pvisor-template"


def kernel_settings(kernel, form):
    """A domU's settings for a test kernel, a file in dom0. One without PAE is started by the loader, which lies beside it."""
    if form == "pt32":
        return {"kernel": f"{Path(kernel).parent}/{LOADER.name}", "ramdisk": kernel}
    return {"kernel": kernel, "ramdisk": None}


# The ways in which bare.asm describes itself; the format comes first.
BARE_KERNELS = {"pt64": [], "pt32p": [], "pt32": [], "pt32-string": ["-DSTRING"]}


def bare_kernel(kind, directory):
    """The least kernel (bare.asm): says BARE_RUNS and powers off."""
    path = Path(directory) / f"bare-{kind}"
    form = kind.split("-")[0]
    subprocess.run(["nasm", "-f", "bin", f"-DFORMAT_{form.upper()}", *BARE_KERNELS[kind], "-o", path, TOP / "tests/system/bare.asm"],
                   check=True)
    return path


BARE_RUNS = "bare kernel runs"


def put(dom0, path, destination):
    """Copy a file of the host into dom0, by the machine's network."""
    with Outside() as outside:
        dom0.ok(f"wget -q -O {destination} {outside.serve_file(path)}", 120)


def grub_disk(out, entry, files, partitions=()):
    """A disk image whose GRUB boots ENTRY, lines of a menu entry, over FILES: name under /boot -> source."""
    config = ("serial --unit=0 --speed=115200\nterminal_input serial\nterminal_output serial\nset timeout=0\n"
              "menuentry test {\n" + "\n".join(entry) + "\n}\n")
    with tempfile.TemporaryDirectory(prefix="pvisor-") as scratch:
        tree = boot_tree(Path(scratch), config, files)
        subprocess.run([TOP / "tools/image/grubdisk", out, tree, *partitions], check=True, stdout=subprocess.DEVNULL)
    return out


def uefi_disk(out, entry, files):
    """The same for UEFI: GPT, an EFI system partition, and on it GRUB where firmware looks that was told of nothing, and the files."""
    config = "set timeout=0\nmenuentry test {\n" + "\n".join(entry) + "\n}\n"
    with tempfile.TemporaryDirectory(prefix="pvisor-") as scratch:
        tree = boot_tree(Path(scratch) / "tree", config, files)
        (tree / "EFI/BOOT").mkdir(parents=True)
        # Without a device the prefix is on that which the firmware took GRUB from.
        subprocess.run(["grub-mkimage", "-O", "x86_64-efi", "-p", "/boot/grub", "-o", tree / "EFI/BOOT/BOOTX64.EFI",
                        *"normal part_gpt fat multiboot2 gzio all_video test echo".split()], check=True)
        size = sum(path.stat().st_size + 8192 for path in tree.rglob("*"))
        with open(out, "wb") as disk:
            disk.truncate((size * 21 // 20 + (48 << 20)) >> 20 << 20)
        subprocess.run(["/sbin/sfdisk", "-q", out], input="label: gpt\nstart=2048, type=uefi\n", text=True, check=True)
        partition = f"{out}@@1M"
        sectors = (os.path.getsize(out) - (2 << 20)) // 512
        subprocess.run(["mformat", "-i", partition, "-F", "-v", "ESP", "-T", str(sectors), "::"], check=True)
        subprocess.run(["mcopy", "-i", partition, "-s", *tree.iterdir(), "::"], check=True)
    return out


def boot_tree(directory, config, files):
    grub = directory / "boot/grub"
    grub.mkdir(parents=True)
    (grub / "grub.cfg").write_text(config)
    for name, source in files.items():
        shutil.copyfile(source, directory / "boot" / name)
    return directory


def grub_iso(out, entry, files):
    """The same as a CD."""
    config = "set timeout=0\nmenuentry test {\n" + "\n".join(entry) + "\n}\n"
    with tempfile.TemporaryDirectory(prefix="pvisor-") as scratch:
        tree = boot_tree(Path(scratch), config, files)
        subprocess.run(["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "-o", out, tree], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return out


def multiboot_entry(cmdline="", dom0_args="", version=2):
    """A menu entry for files xen.gz, vmlinuz and initrd under /boot."""
    suffix = "2" if version == 2 else ""
    return [f"multiboot{suffix} /boot/xen.gz {HYPERVISOR_ARGS} {cmdline}",
            f"module{suffix} /boot/vmlinuz {DOM0_ARGS} {dom0_args}", f"module{suffix} /boot/initrd"]


def make(*arguments, apart="lock"):
    """Make something in the tree, one test process at a time. apart: the lock's name, of what has nothing in common with the rest."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / apart, "w") as lock:          # several test processes start at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(["make", "-s", *arguments], cwd=TOP, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
    if done.returncode:
        raise Failure(f"make {' '.join(arguments)} failed:\n{done.stdout}")


SOURCES = ["README", "COPYING", "Makefile", "Config.mk", "arch", "common", "debian", "docs", "drivers", "include", "tools"]


def copy_source(directory):
    """What a build starts from, without what was built; makes the directory."""
    directory.mkdir()
    for name in SOURCES:
        source = TOP / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, directory / name)


def build_images(*names, **how):
    """Make sure image files under build/cache are there and fresh."""
    make("-f", "tools/targets.mk", *[f"build/cache/{name}" for name in names], **how)
