/* The page of stubs through which a guest calls: for domains that are built, here and by the boot loader in them (tools/loader). */
#ifndef PVISOR_HYPERCALL_PAGE_H
#define PVISOR_HYPERCALL_PAGE_H

#include <pvisor/types.h>

/* Fills a page, 32 bytes for each number. narrow: for 32-bit code. */
void fill_hypercall_page(bool narrow, void *page);

#endif
