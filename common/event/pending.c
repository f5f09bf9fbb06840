/* Whether a vCPU has an event that it wants to hear of now. */
#include "event.h"

bool vcpu_event_pending(const struct vcpu *v)
{
    const struct upcall_flags *f = v->info;

    return read_once(f->pending) && !read_once(f->mask);
}
