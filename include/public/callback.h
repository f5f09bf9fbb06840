/* SPDX-License-Identifier: MIT */
/*
 * callback_op: the guest's entry points. Facts from Xen 4.17's public/callback.h and, for the 32-bit
 * address with its segment, arch-x86/xen-x86_32.h.
 */
#ifndef PUBLIC_CALLBACK_H
#define PUBLIC_CALLBACK_H

#include <public/xen.h>

#define CALLBACKOP_register   0
#define CALLBACKOP_unregister 1

#define CALLBACKTYPE_event               0
#define CALLBACKTYPE_failsafe            1
#define CALLBACKTYPE_syscall             2 /* 64-bit guests */
#define CALLBACKTYPE_sysenter_deprecated 3
#define CALLBACKTYPE_nmi                 4
#define CALLBACKTYPE_sysenter            5
#define CALLBACKTYPE_syscall32           7

#define _CALLBACKF_mask_events 0
#define CALLBACKF_mask_events  (1U << _CALLBACKF_mask_events)

/* The address is {cs, eip} for a 32-bit guest, and a plain word for a 64-bit one, whose cs reads zero. */
#define CALLBACK_REGISTER_FIELDS(X) X(U16, type) X(U16, flags) X(LONG_IN32, cs) X(LONG, eip)
ABI_STRUCT(callback_register, CALLBACK_REGISTER_FIELDS)

struct callback_unregister {
    u16 type;
    u16 _unused;
};

#endif
