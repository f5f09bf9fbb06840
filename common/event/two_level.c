/*
 * Two-level delivery: a pending and a mask bit per port in shared_info, and one selector bit per word of
 * pending bits in vcpu_info. A guest of word size w has (8w)^2 ports, so 64-bit guests have 4096 and 32-bit
 * ones 1024. No port beyond is ever open in this format: FIFO channels go back to it only when all ports
 * are closed.
 */
#include "event.h"

/* w: d's word size, which is a constant where every event comes by. */
static always_inline void *pending_map_as(enum abi_word w, const struct domain *d)
{
    return shared_raw((u8 guest_shared *)d->shared_info + abi_offset(w, shared_info, evtchn_pending));
}

static always_inline void *mask_map_as(enum abi_word w, const struct domain *d)
{
    return shared_raw((u8 guest_shared *)d->shared_info + abi_offset(w, shared_info, evtchn_mask));
}

static always_inline void *selector_as(enum abi_word w, const struct vcpu *v)
{
    return shared_raw((u8 guest_shared *)v->info + abi_offset(w, vcpu_info, evtchn_pending_sel));
}

static void *pending_map(const struct domain *d) { return pending_map_as(d->arch.word, d); }
static void *mask_map(const struct domain *d) { return mask_map_as(d->arch.word, d); }

static u32 nr_ports(const struct domain *d)
{
    return d->arch.word == ABI_64 ? EVTCHN_2L_NR_CHANNELS_64 : EVTCHN_2L_NR_CHANNELS_32;
}

static always_inline void select_port(enum abi_word w, struct vcpu *v, u32 port)
{
    if (!test_and_set_bit(port / (8 * abi_word_bytes(w)), selector_as(w, v)))
        evtchn_mark(v);
}

/*
 * Whoever changes to FIFO writes the format, says so in event_watch, and then takes the bits that are set; we have set a bit, and then
 * looked at event_watch: one of the two sees the other. The bit does not stay: after a reset it would say that there is an event already.
 */
static __attribute__((cold, noinline)) void look_further(struct domain *d, u32 port)
{
    if (evtchn_format(d) != &evtchn_two_level) {
        clear_bit(port, pending_map(d));
        evtchn_deliver(d, evtchn_at(d, port));
    }
    evtchn_wake_pollers(d, port);
}

static always_inline void set_pending(enum abi_word w, struct vcpu *v, struct domain *d, u32 port)
{
    if (test_and_set_bit(port, pending_map_as(w, d)))
        return;
    if (!test_bit(port, mask_map_as(w, d)))
        select_port(w, v, port);
    if (unlikely(read_once(d->event_watch)))
        look_further(d, port);
}

void two_level_set_pending(struct vcpu *v, struct evtchn *chn)
{
    struct domain *d = v->domain;

    if (likely(d->arch.word == ABI_64))
        set_pending(ABI_64, v, d, chn->port);
    else
        set_pending(ABI_32, v, d, chn->port);
}

static void clear_pending(struct domain *d, struct evtchn *chn)
{
    clear_bit(chn->port, pending_map(d));
}

bool two_level_take_pending(struct domain *d, const struct evtchn *chn) { return test_and_clear_bit(chn->port, pending_map(d)); }

static void unmask(struct vcpu *v, struct evtchn *chn)
{
    struct domain *d = v->domain;

    if (test_and_clear_bit(chn->port, mask_map(d)) && test_bit(chn->port, pending_map(d)))
        select_port(d->arch.word, v, chn->port);
}

static bool is_pending(const struct domain *d, const struct evtchn *chn)
{
    return test_bit(chn->port, pending_map(d));
}

static bool is_masked(const struct domain *d, const struct evtchn *chn)
{
    return test_bit(chn->port, mask_map(d));
}

static bool never_busy(const struct domain *, const struct evtchn *)
{
    return false;
}

const struct evtchn_format evtchn_two_level = {
    .name = "two-level",
    .clear_pending = clear_pending,
    .unmask = unmask,
    .is_pending = is_pending,
    .is_masked = is_masked,
    .is_busy = never_busy,
    .nr_ports = nr_ports,
};

/* A write through the old place may have been lost: let the guest look at every word. */
void evtchn_vcpu_info_moved(struct vcpu *v)
{
    u32 bits = abi_word_bytes(v->domain->arch.word) * 8;

    for (u32 i = 0; i < bits; i++)
        set_bit(i, selector_as(v->domain->arch.word, v));
    write_shared(*(u8 guest_shared *)v->info, 0);
    vcpu_mark_events_pending(v);
}
