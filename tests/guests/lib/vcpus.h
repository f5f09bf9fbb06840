/* More vCPUs than the first: their stacks and start. */
#ifndef GUEST_VCPUS_H
#define GUEST_VCPUS_H

#include "abi.h"

#define MAX_TEST_VCPUS 8

unsigned this_vcpu(void);    /* by the stack in use */
/* What VCPUOP_initialise wants, to run main() on a stack of its own, with events masked; in a static variable. */
vcpu_guest_context *vcpu_context(unsigned vcpu, void (*main)(void));
/* Initialises it and brings it up: 0, or the hypervisor's refusal. */
long vcpu_start(unsigned vcpu, void (*main)(void));

#endif
