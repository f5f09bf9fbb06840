/*
 * asm/dirty.h, but that whether a domain's writes are logged is asked out of line: another branch in the callers would be the last one
 * taken, by which Eva keeps cases apart (run). The answer is either, as it is of a word that others write.
 */
#include_next <asm/dirty.h>
#ifndef EVA_DIRTY_H
#define EVA_DIRTY_H
bool any_logged(void);
void log_dirty_if_any(struct domain *d, mfn_t m);
#define dirty_log_is_kept(d) any_logged()
#define log_dirty log_dirty_if_any
#endif
