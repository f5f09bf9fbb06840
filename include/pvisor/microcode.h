/*
 * Microcode: the patches in a file of Intel's or AMD's, the one for this CPU, and its loading. A file is dom0's or the boot loader's, and
 * may be anything: it is read within its length, and each patch is checked as far as its format has checks; the CPU does the rest.
 */
#ifndef PVISOR_MICROCODE_H
#define PVISOR_MICROCODE_H

#include <pvisor/types.h>

struct ucode_cpu {
    bool amd;
    u32 signature;      /* CPUID leaf 1, eax */
    u32 platform;       /* Intel: one bit, of MSR 0x17's bits 50 to 52 */
    u32 revision;       /* what is loaded */
};

struct ucode_patch {
    const u8 *at;       /* in the file */
    u32 size, revision;
};

/*
 * microcode_parse.c: the newest of the file's patches for this CPU, older than what is loaded or not. 0; -ENOENT: the file is well formed
 * and has none; -EINVAL: it is not, and *why says what is wrong, which is the first thing that is.
 */
int ucode_find(const u8 *file, size_t len, const struct ucode_cpu *cpu, struct ucode_patch *best, const char **why);

/*
 * The file in an archive (cpio, newc, not packed) at the start of a ramdisk, as Linux wants it: kernel/x86/microcode/GenuineIntel.bin
 * or AuthenticAMD.bin. False: there is none.
 */
bool ucode_in_cpio(const u8 *archive, size_t len, bool amd, const u8 **file, size_t *size) must_check;

/* microcode.c, on this CPU. */
struct ucode_cpu ucode_this_cpu(void);
/*
 * Loads the file's newest patch on all CPUs, one after the other, if it is newer than what is loaded, or force. The patch is kept for CPUs
 * that come later. 0; -EINVAL, -ENOENT: as above; -EEXIST: nothing newer; -ENOMEM; -EBUSY: it is being done; -EIO: a CPU did not take it.
 */
int ucode_load(const u8 *file, size_t len, bool force);
/* A CPU that has just come: what is kept. */
void ucode_load_kept(void);

#endif
