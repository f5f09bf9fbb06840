/* A domain that waits: what a machine with many of them pays for each. */
#include "hypercall.h"
#include "test.h"

TEST(idle)
{
    for (;;)
        sched_op(SCHEDOP_block, NULL);
}
