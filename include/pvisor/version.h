/* What the hypervisor says of itself, to xen_version and the hypervisor filesystem. */
#ifndef PVISOR_VERSION_H
#define PVISOR_VERSION_H

#include <pvisor/types.h>

/*
 * Xen's, which tools compare with their own: xen-version= on the command line. Whoever asks looks for tools of that version; the calls of
 * all versions that pvisor knows are served, whatever it says.
 */
u32 version_major(void);
u32 version_minor(void);
extern const char version_extra[], version_changeset[], version_compile_by[], version_compile_date[], version_compiler[];

#endif
