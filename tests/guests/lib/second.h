/* vCPU 1: it has traps and events like vCPU 0, and stacks of its own. */
#ifndef GUEST_SECOND_H
#define GUEST_SECOND_H

#include "abi.h"

/* The context in which it begins with run(), for VCPUOP_initialise; to be changed at will. */
vcpu_guest_context *context_of_second(void (*run)(void));

#endif
