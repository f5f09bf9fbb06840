/* What the hypervisor says of itself, to xen_version and the hypervisor filesystem. */
#ifndef PVISOR_VERSION_H
#define PVISOR_VERSION_H

#include <pvisor/types.h>

/*
 * Xen's, which tools compare with their own: xen-version= on the command line. Whoever asks looks for tools of that version; the calls of
 * all versions that pvisor knows are served, whatever it says.
 */
extern u32 version_number;      /* as XENVER_version has it: the major number in the upper half */
static inline u32 version_major(void) { return version_number >> 16; }
static inline u32 version_minor(void) { return version_number & 0xffff; }

extern const char version_extra[], version_changeset[], version_compile_by[], version_compile_date[], version_compiler[];

#endif
