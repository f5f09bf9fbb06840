"""Machines for benchmarks: one CPU, emulated, where virtual time counts instructions (a nanosecond each)."""
import gzip
import os
import re
import selectors
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
TIMEOUT_SCALE = float(os.environ.get("TIMEOUT_SCALE", "1"))


@dataclass
class Hypervisor:
    """A hypervisor's ELF file, its compressed one, and the words of its command line that say what security it gives."""
    name: str
    elf: Path
    packed: Path
    words: str


def need(path, command):
    """The path, if it is there; else the end, with the command that makes it."""
    if not Path(path).exists():
        raise SystemExit(f"{path} is missing: `{command}`, in {TOP}, builds it (`make bench` all that benchmarks need)")
    return path


def benchmark_kernel(name, options):
    """A kernel of ours that measures, in the page-table format of the options."""
    return need(TOP / f"build/guests/{name}-{options.format}", f"make -C tests/guests S={name}")


def unpacked(path, scratch, name):
    """An ELF file for QEMU's -kernel."""
    data = Path(path).read_bytes()
    if data[:2] != b"\x1f\x8b":
        return Path(path)
    out = Path(scratch) / name
    out.write_bytes(gzip.decompress(data))
    return out


def qemu(hypervisor, modules, memory, dom0, options, extra=(), cpus=1, words=""):
    """The command line. modules: dom0's kernel with its arguments, and its ramdisk; commas already doubled. words: for the hypervisor."""
    words = f"com1=115200,8n1 console=com1 noreboot dom0_mem={dom0},max:{dom0} {hypervisor.words} {options.cmdline} {words}"
    return machine(options, memory, hypervisor.elf, words.strip(), ",".join(str(m) for m in modules), extra, cpus)


def machine(options, memory, kernel, append, initrd, extra=(), cpus=1):
    command = ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-cpu", options.cpu, "-m", str(memory), "-smp", str(cpus),
               "-nographic", "-no-reboot", "-net", "none", "-kernel", str(kernel), "-append", append, "-initrd", initrd, *extra]
    if not options.wall_clock:
        command += ["-icount", "shift=0,sleep=off"]
    return command


def lines(command, timeout):
    """Lines of the serial console until the machine stops, the caller does, or time is up."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    end = time.monotonic() + timeout * TIMEOUT_SCALE
    pending = b""
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while selector.select(max(0, end - time.monotonic())):
                data = os.read(process.stdout.fileno(), 65536)
                if not data:
                    return
                *complete, pending = (pending + data).split(b"\n")
                for raw in complete:
                    yield raw.decode(errors="replace").strip("\r")
    finally:
        process.kill()
        process.wait()


def figures(command, options, progress):
    """{name: figure} that one of our benchmark kernels prints. What goes wrong is told through progress."""
    found = {}
    for line in lines(command, options.timeout):
        if match := re.match(r"BENCH (\w+) (\d+)", line):
            found[match[1]] = int(match[2])
            progress(f"{match[1]} {match[2]}")
        elif line.startswith("FAIL"):
            progress(line, keep=True)
        elif re.match(r"PVTEST (\d+ passed|panic)", line):
            return found
    progress("the benchmark kernel did not finish", keep=True)
    return found


def need_qemu():
    if not shutil.which("qemu-system-x86_64"):
        raise SystemExit("qemu-system-x86_64 is missing: run tools/setup")
