/* SPDX-License-Identifier: MIT */
/*
 * sched_op: yield, block, shut down. Facts from Xen 4.17's public/sched.h. sched_op_compat takes yield,
 * block and shutdown only, with the reason as a number.
 */
#ifndef PUBLIC_SCHED_H
#define PUBLIC_SCHED_H

#include <public/event_channel.h>

#define SCHEDOP_yield           0
#define SCHEDOP_block           1
#define SCHEDOP_shutdown        2
#define SCHEDOP_poll            3
#define SCHEDOP_remote_shutdown 4
#define SCHEDOP_shutdown_code   5
#define SCHEDOP_watchdog        6
#define SCHEDOP_pin_override    7

#define SHUTDOWN_poweroff   0
#define SHUTDOWN_reboot     1
#define SHUTDOWN_suspend    2
#define SHUTDOWN_crash      3
#define SHUTDOWN_watchdog   4
#define SHUTDOWN_soft_reset 5
#define SHUTDOWN_MAX        5

struct sched_shutdown {
    u32 reason;
};

/* ports: a list of nr_ports u32. timeout: absolute system time in ns, 0 for none. */
#define SCHED_POLL_FIELDS(X) X(PTR, ports) X(U32, nr_ports) X(U64, timeout)
ABI_STRUCT(sched_poll, SCHED_POLL_FIELDS)

struct sched_remote_shutdown {
    domid_t domain_id;
    u32 reason;
};

struct sched_watchdog {
    u32 id;      /* 0: a new one */
    u32 timeout; /* s; 0: stop */
};

struct sched_pin_override {
    s32 pcpu;
};

#endif
