/* From files to a kernel that starts. */
#ifndef LOADER_BOOT_H
#define LOADER_BOOT_H

#include "fs.h"
#include "grub.h"
#include "pv.h"

struct boot {
    struct file kernel, initrd[GRUB_INITRDS];   /* the ramdisks one behind the other, as one */
    unsigned nr_initrds;
    const char *cmdline;
    void (*done)(void);                         /* when all is read; may be NULL */
};

noreturn_fn void boot_files(struct boot *b);
/* disk.c: from the domain's disk, by what is configured there. */
noreturn_fn void boot_disk(void);
/* Words for the kernel, and behind them those of the domain's configuration (extra=). */
const char *with_extra(const char *cmdline);

#endif
