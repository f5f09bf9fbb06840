/* What the hypervisor's log says of a refusal. Only dom0 may read it. */
#ifndef GUEST_LOG_H
#define GUEST_LOG_H

#include "mm.h"
#include "test.h"

/* A debug build of the hypervisor looks whether what must hold does (pvisor/invariant.h), and says so. For dom0: others are refused. */
void look_at_invariant(void);
/* What comes after this counts. */
void log_mark(void);
bool log_says(const char *text);

/* The call must be refused with -error; as dom0, the log must say why. */
#define CHECK_SAYS(error, text, call) do {                      \
    log_mark();                                                 \
    CHECK_EQ((long)(call), (long)-(error));                     \
    if (is_dom0() && !CHECK(log_says(text)))                    \
        printf("     the log does not say: %s\n", (text));      \
} while (0)

#endif
