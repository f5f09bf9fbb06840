/* For tools/save-helper: a non-PAE guest in the hypervisor of arrays (fake/tools.h), libxl, and runs that save and restore it. */
#ifndef FAKE_SAVED_GUEST_H
#define FAKE_SAVED_GUEST_H

#include "../../../tools/save-helper/guest.h"
#include "tools.h"

/* Its own numbers. From DATA on is data. */
enum pfn {
    START_INFO, STORE, CONSOLE, LIST_TOP, LIST_MIDDLE, LIST, ROOT, TABLE, OTHER_ROOT, GDT, OTHER_GDT, DATA, BALLOONED = 30, NR_PFNS = 120
};
#define ABSENT 0xdeadbee0u          /* an entry that is not present */

extern uint32_t kind_of[NR_FRAMES]; /* of those that are the domain's */
extern context_t *const its_context, second_context;           /* of its two vCPUs */
extern uint32_t save_flags;         /* as libxl gives them */
extern bool (*on_suspend)(void);    /* the guest is asked to suspend itself. NULL: it does */
extern void (*on_complete)(void);   /* all is done: in the process that has done it */

void make_guest(void);
uint32_t saved_frame(uint32_t pfn); /* where it has a number before anything has changed */
uint32_t frame_now(uint32_t pfn);   /* and where it has one once it is restored */
uint32_t *words(uint32_t frame);

/* For run_apart(). */
void save_run(int fd);
void restore_run(int fd);
int restored(const uint8_t *bytes, size_t size);
/* All that was written to fd, which is closed; to be freed. */
uint8_t *stream_from(int fd, size_t *size);

#endif
