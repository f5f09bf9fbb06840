/*
 * Save, restore and migration as guests of Xen 3's time take part in them (public/xen.h, sched.h; libxenguest's save of PV guests; NetBSD's
 * xen_suspend_domain()): start_info's frame in the shutdown's third register, frame numbers in it that are the domain's own meanwhile,
 * the lists that name the p2m's frames, and all that is made again afterwards. By vCPU 0; others
 * may be up, and touch neither shared_info nor the p2m meanwhile.
 */
#ifndef GUEST_SUSPEND_H
#define GUEST_SUSPEND_H

#include "abi.h"

/* Publishes where the p2m is. Before the first save, and it is done again after each. */
void suspend_init(void);
/*
 * Stops here, with no answer of the store or a backend outstanding. True: it goes on as a new domain, with new frames, whose ports but the
 * store's and the console's are closed and whose watches are gone. False: as the old one; nothing has changed.
 * old_call: by sched_op_compat, as Linux 2.6.16 does where the hypervisor knows no other.
 */
bool suspend(bool old_call);

#endif
