/*
 * The memory of a non-PAE guest that is saved, into the stream: all at once while it stands still, or in rounds while it runs and writes.
 *
 * Each round looks at the guest's list of frames as it is by then, has the kinds of those frames that are to be sent, copies them, and
 * makes numbers of the frames in tables. While the guest runs none of that is a whole: what does not fit together, such as an entry for a
 * frame that is in no list, is left for the next round. When it stands still all of it must fit, or the program ends, by fail().
 */
#ifndef SAVE_HELPER_MEMORY_H
#define SAVE_HELPER_MEMORY_H

#include "guest.h"

/* Where the guest says that its list is, by a frame of shared info. All of its frames are to be sent. */
void memory_begin(uint32_t shared_info, bool runs);
/* From now on it stands still. What it says of its list must be what it said at the beginning. */
void memory_stands_still(uint32_t shared_info);
/* What is to be sent next: those that were left for later, and what was written (xen_take_log()), or all. */
void memory_want_written(void);
void memory_want_all(void);

struct sent { uint32_t frames, later; };
/* Sends what is to be sent, but what it leaves for later; the first time, where the list is, too. title: of the round, for who watches. */
struct sent memory_send(const char *title);

/* Of a guest that stands still: its number of a frame; what: whose, for the log. And shared info as it was then. */
uint32_t memory_pfn_of(uint64_t frame, const char *what);
const struct shared_info_x86_32 *memory_shared_info(void);

#endif
