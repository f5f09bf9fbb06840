"""A machine of Bochs's instead of QEMU's: it checks what a CPU checks and QEMU does not, such as addresses that are not canonical on the
way out, segments' limits, null data segments. It boots through GRUB from a CD, and has a serial line.
"""
import os
import pty
import re
import shutil
import subprocess
import threading
import tty
from pathlib import Path

CPU = "corei7_skylake_x"
# The debugger that Debian builds in waits for a command first.
CONFIG = """display_library: term
config_interface: textconfig
plugin_ctrl: speaker=0, gameport=0, parallel=0
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
megs: {memory}
cpu: model={cpu}, count={cpus}, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs=0
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
ata0-master: type=cdrom, path={cd}, status=inserted
boot: cdrom
log: {directory}/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
com1: enabled=1, {line}
clock: sync=none
"""


def read_all(terminal):
    """What comes until nobody is at the other end."""
    try:
        while data := os.read(terminal, 65536):
            yield data
    except OSError:
        pass


def drain(terminal):
    for _ in read_all(terminal):
        pass


def drain_screens(terminal):
    """The terminal that Bochs was started on, and the one that it makes for the machine's screen and names there. If nobody reads what is
    drawn, the machine stops.
    """
    said = b""
    for data in read_all(terminal):
        said = (said + data)[-4096:]
        if found := re.search(rb'connected to screen "([^"]+)"', said):
            said = b""
            screen = os.open(found.group(1), os.O_RDWR | os.O_NOCTTY)
            tty.setraw(screen)
            threading.Thread(target=drain, args=[screen], daemon=True).start()


def prepare(directory, cd, line, cpus, memory, cpu=None):
    """The command that starts a machine, and the terminal to start it on, a file descriptor. directory: one that outlives it; cd: the image
    that it boots; line: where its serial line leads, in Bochs's words.
    """
    (directory / "bochsrc").write_text(CONFIG.format(memory=memory, cpu=cpu or CPU, cpus=cpus, directory=directory, cd=cd, line=line))
    (directory / "commands").write_text("c\n")
    ours, theirs = pty.openpty()
    threading.Thread(target=drain_screens, args=[ours], daemon=True).start()
    return ["env", "TERM=xterm", "bochs", "-q", "-f", str(directory / "bochsrc"), "-rc", str(directory / "commands")], theirs


# For the end of a menu entry: Bochs cannot show graphics on a terminal, and gives up. multiboot2 asks for graphics where there are any.
STAY_TEXT = "set gfxpayload=text"
GRUB = """set timeout=0
menuentry test {{
multiboot2 /boot/xen {words}
module2 /boot/kernel {kernel_words}
{stay}
}}
"""


def make_cd(directory, hypervisor, words, kernel, kernel_words):
    boot = directory / "cd/boot"
    (boot / "grub").mkdir(parents=True)
    shutil.copyfile(hypervisor, boot / "xen")
    shutil.copyfile(kernel, boot / "kernel")
    (boot / "grub/grub.cfg").write_text(GRUB.format(stay=STAY_TEXT, words=words, kernel_words=kernel_words))
    subprocess.run(["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "-o", directory / "cd.iso", directory / "cd"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return directory / "cd.iso"


def start(directory, hypervisor, words, kernel, kernel_words, cpus, memory, cpu=None):
    """The running machine with a kernel of tests/guests, a Popen whose stdout is its serial line. directory: an empty one that outlives it."""
    directory = Path(directory)
    cd = make_cd(directory, hypervisor, words, kernel, kernel_words)
    ours, line = os.pipe()
    command, terminal = prepare(directory, cd, f"mode=file, dev=/dev/fd/{line}", cpus, memory, cpu)
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, pass_fds=[line])
    os.close(terminal)
    os.close(line)
    process.stdout = os.fdopen(ours, "rb", 0)
    return process
