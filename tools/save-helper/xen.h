/*
 * What is asked of the hypervisor about the one domain that is saved, restored or made. Only libraries of a stable interface are used, and
 * control calls of the version of the headers that this was built with: pvisor serves those of all releases from 4.17 on.
 *
 * But for xen_open(), xen_version(), xen_is_non_pae(), xen_try_populate(), xen_map_there(), xen_end_log(),
 * xen_destroy() and xen_shutdown_reason(), what fails here ends the program, by fail().
 */
#ifndef SAVE_HELPER_XEN_H
#define SAVE_HELPER_XEN_H

#ifndef __XEN_TOOLS__
#define __XEN_TOOLS__ 1
#endif
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <xen/xen.h>
#include <xen/domctl.h>

#define PAGE      4096u
/* A non-PAE guest's frames lie below 4 GiB, its own numbers of them too. */
#define MAX_FRAMES (1u << 20)
#define NO_FRAME   0xffffffffu      /* as guests' lists have it */

/* domid: NO_DOMAIN if it is to be made. */
bool xen_open(uint32_t domid);
#define NO_DOMAIN 0xffffu
/* Major and minor, 16 bits each; negative: there is no hypervisor. */
int xen_version(void);
/* Does pvisor say that the domain's tables are non-PAE? */
bool xen_is_non_pae(void);

/* Memory that calls may name. */
void *xen_buffer(size_t size);

/* A control call on the domain: op has its arguments and gets its results. what: what was tried, for the log. */
void xen_control(struct xen_domctl *op, uint32_t cmd, const char *what);
struct xen_domctl_getdomaininfo xen_domain_info(void);

/* Kinds (XEN_DOMCTL_PFINFO_*) of frames, in place; nr is at most MAX_BATCH. */
void xen_kinds(const uint32_t *frames, uint32_t *kinds, unsigned nr);

/* nr frames, however many, side by side. what: whose, for the log. */
void *xen_map(const uint32_t *frames, unsigned nr, int prot, const char *what);
/* The same, of a guest that runs and may have given some of them up: there[i] says whether it has not; no others are mapped. */
void *xen_map_there(const uint32_t *frames, unsigned nr, bool *there, const char *what);
void xen_unmap(void *pages, unsigned nr);

/*
 * The log of what is written to the domain's memory. One that stands in the way is ended: who began it was killed, since of those who live
 * one alone gets here.
 */
void xen_begin_log(void);
/*
 * The guest's numbers below nr that were written since, a bit for each, in memory that xen_buffer() gave; they are in the log no more.
 * is_last: the domain stands still, and what others can write without a word is among them.
 */
void xen_take_log(uint64_t *bits, uint32_t nr, bool is_last);
/* Also if there is none. */
void xen_end_log(void);

/* Restoring. frames: the guest's numbers of nr frames that are wanted, in their places the frames that it got. */
void xen_become_non_pae(void);
void xen_populate(uint32_t *frames, unsigned nr);
/* Extents of 2^order frames: as above. How many there are now; what went wrong with the rest is not said. */
unsigned xen_try_populate(uint64_t *frames, unsigned nr, unsigned order);
/* They are the domain's no more. */
void xen_give_up(const uint32_t *frames, unsigned nr);
void xen_pin(const uint32_t *frames, const uint32_t *kinds, unsigned nr);
/* Entries of the domain's grant table that are there before it asks for it: it grants that frame to that domain. */
void xen_grant(unsigned entry, uint16_t domid, uint32_t frame);
/* The domain lets us read these frames, by entries from this one on. */
void xen_grant_to_read(unsigned entry, const uint32_t *frames, unsigned nr);
/* nr frames of the domain, which does not run, become copies of what another lets us read by entries from this one on. */
void xen_copy_granted(uint16_t from, unsigned entry, const uint32_t *frames, unsigned nr);
#define FREE_GRANT 8u           /* the first entry that nobody has a use for in a domain without a life */

/* Making a domain, which all that is above is about from then on; it is paused. Its number. */
uint32_t xen_create(const struct xen_domctl_createdomain *config);
/* A port of its that the other domain can bind. */
uint32_t xen_new_port(uint16_t remote);
/* Its end. */
void xen_destroy(void);

/* Why it has shut itself down (SHUTDOWN_*), or else these. */
int xen_shutdown_reason(void);
#define RUNS_ON  (-1)
#define IS_GONE  (-2)

#endif
