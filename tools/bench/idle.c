/* A domain that waits, without a tick, as today's kernels do: what a machine with many of them pays for each. */
#include "hypercall.h"
#include "test.h"
#include <public/vcpu.h>

TEST(idle)
{
    REQUIRE_OK(vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL));
    for (;;)
        sched_op(SCHEDOP_block, NULL);
}
