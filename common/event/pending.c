/* Whether a vCPU has an event that it wants to hear of now. */
#include "event.h"

bool vcpu_event_pending(const struct vcpu *v)
{
    const struct upcall_flags guest_shared *f = v->info;

    return read_shared_again(f->pending) && !read_shared_again(f->mask);
}
