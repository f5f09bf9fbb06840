/* What the hypervisor says of itself, to xen_version and the hypervisor filesystem. */
#ifndef PVISOR_VERSION_H
#define PVISOR_VERSION_H

#include <pvisor/types.h>

/* Of the ABI, which the toolstack compares with its own. */
u32 version_major(void);
u32 version_minor(void);
extern const char version_extra[], version_changeset[], version_compile_by[], version_compile_date[], version_compiler[];

#endif
