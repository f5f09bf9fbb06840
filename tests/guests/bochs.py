"""A machine of Bochs's instead of QEMU's: it checks what a CPU checks and QEMU does not, such as addresses that are not canonical on the
way out, segments' limits, null data segments. It boots through GRUB from a CD; its serial line is a pipe.
"""
import os
import pty
import shutil
import subprocess
import threading
from pathlib import Path

CPU = "corei7_skylake_x"
GRUB = """set timeout=0
menuentry test {{
multiboot2 /boot/xen {words}
module2 /boot/kernel {kernel_words}
}}
"""
# The debugger that Debian builds in waits for a command first. The screen is a terminal's that nobody looks at.
CONFIG = """display_library: term
config_interface: textconfig
plugin_ctrl: speaker=0, gameport=0, parallel=0
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
megs: {memory}
cpu: model={cpu}, count={cpus}, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs=0
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
ata0-master: type=cdrom, path={directory}/cd.iso, status=inserted
boot: cdrom
log: {directory}/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
com1: enabled=1, mode=file, dev=/dev/fd/{line}
clock: sync=none
"""


def make_cd(directory, hypervisor, words, kernel, kernel_words):
    boot = directory / "cd/boot"
    (boot / "grub").mkdir(parents=True)
    shutil.copyfile(hypervisor, boot / "xen")
    shutil.copyfile(kernel, boot / "kernel")
    (boot / "grub/grub.cfg").write_text(GRUB.format(words=words, kernel_words=kernel_words))
    subprocess.run(["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "-o", directory / "cd.iso", directory / "cd"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def drain(terminal):
    """Takes what comes until nobody is at the other end."""
    with open(terminal, "rb", 0) as stream:
        try:
            while stream.read(65536):
                pass
        except OSError:
            pass


def start(directory, hypervisor, words, kernel, kernel_words, cpus, memory, cpu=None):
    """The running machine, a Popen whose stdout is its serial line. directory: an empty one that outlives it."""
    directory = Path(directory)
    make_cd(directory, hypervisor, words, kernel, kernel_words)
    ours, line = os.pipe()
    (directory / "bochsrc").write_text(CONFIG.format(memory=memory, cpu=cpu or CPU, cpus=cpus, directory=directory, line=line))
    (directory / "commands").write_text("c\n")
    screen, theirs = pty.openpty()
    process = subprocess.Popen(["bochs", "-q", "-f", directory / "bochsrc", "-rc", directory / "commands"], stdin=theirs, stdout=theirs,
                               stderr=theirs, pass_fds=[line], env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    os.close(line)
    threading.Thread(target=drain, args=[screen], daemon=True).start()
    process.stdout = os.fdopen(ours, "rb", 0)
    return process
