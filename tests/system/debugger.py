"""As little of GDB's remote protocol as it takes to stop the machine at a function of the hypervisor's, to look around there, and to move a
CPU elsewhere.

https://sourceware.org/gdb/current/onlinedocs/gdb.html/Remote-Protocol.html
"""
import re
import socket
import subprocess

import pytest

import rig

REGISTERS = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16)), "rip", "eflags"]


def needs_symbols():
    """Skips the test unless the hypervisor is the one whose symbols are beside it."""
    if rig.hypervisor_path().resolve() != (rig.TOP / "build/xen.gz").resolve():
        pytest.skip("the symbols are those of build/xen.gz")


def arguments(folder):
    """QEMU's, so that Debugger(folder) can attach itself."""
    return ["-gdb", f"unix:{folder}/gdb,server=on,wait=off"]


def symbol(name):
    """The address of a function or variable of the hypervisor's."""
    table = subprocess.run(["nm", rig.TOP / "build/xen-syms"], capture_output=True, text=True, check=True).stdout
    return int(re.search(rf"^([0-9a-f]+) [a-zA-Z] {name}$", table, re.M)[1], 16)


class Debugger:
    """The machine stands while one is attached, but for run_to()."""

    def __init__(self, folder):
        self.link = socket.socket(socket.AF_UNIX)
        self.link.settimeout(60)
        self.link.connect(f"{folder}/gdb")
        self.pending = b""
        self.ask("qXfer:features:read:target.xml:0,ffb")    # it takes single registers only from one that knows their names

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """The machine goes on."""
        self.send("D")
        self.link.close()

    def send(self, text):
        self.link.sendall(f"${text}#{sum(text.encode()) & 0xff:02x}".encode())

    def answer(self):
        while not (found := re.search(rb"\$([^#]*)#..", self.pending)):
            self.pending += self.link.recv(4096)
        self.pending = self.pending[found.end():]
        self.link.sendall(b"+")
        return found[1].decode()

    def ask(self, text):
        self.send(text)
        while (answer := self.answer()).startswith("T"):    # in between it may tell that the machine has stopped
            pass
        return answer

    def move(self, cpu, address):
        assert self.ask(f"Hg{cpu + 1:02x}") == "OK"
        self.set("rip", address)

    # Of the CPU that was chosen last, at first the first

    def get(self, name):
        return int.from_bytes(bytes.fromhex(self.ask(f"p{REGISTERS.index(name):x}")), "little")

    def set(self, name, value):
        size = 4 if name == "eflags" else 8
        assert self.ask(f"P{REGISTERS.index(name):x}={value.to_bytes(size, 'little').hex()}") == "OK"

    def read(self, address, size):
        """Memory as the CPU sees it where it is."""
        return bytes.fromhex(self.ask(f"m{address:x},{size:x}"))

    def write_physical(self, address, content):
        assert self.ask("Qqemu.PhyMemMode:1") == "OK"
        assert self.ask(f"M{address:x},{len(content):x}:{content.hex()}") == "OK"
        assert self.ask("Qqemu.PhyMemMode:0") == "OK"

    def write(self, address, content):
        assert self.ask(f"M{address:x},{len(content):x}:{content.hex()}") == "OK"

    def run_to(self, address, meanwhile=lambda: None):
        """The machine runs until a CPU is at that address; meanwhile() is called when it has begun to run. A CPU that is there already is
        so at once, unless an interrupt comes first.
        """
        assert self.ask(f"Z1,{address:x},1") == "OK"
        self.send("c")
        meanwhile()
        assert self.answer().startswith("T05")              # a trap
        assert self.ask(f"z1,{address:x},1") == "OK"
