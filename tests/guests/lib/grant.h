/*
 * Pages of ours for other domains, by a grant table of version 1, or 2 with grants=2 on the command line. Entries are not given
 * back: a driver keeps those it made.
 */
#ifndef GUEST_GRANT_H
#define GUEST_GRANT_H

#include "abi.h"

grant_ref_t grant_new(void);   /* an entry that shares nothing yet */
/* Lets a domain map or copy the page. flags: 0 or GTF_readonly. */
void grant_access(grant_ref_t ref, domid_t to, const void *page, u16 flags);
/* Ends that. False, and nothing changes, while the other domain has the page mapped. */
bool grant_end(grant_ref_t ref);
/* A new entry, with access from now on. */
grant_ref_t grant_page(domid_t to, const void *page);

#endif
