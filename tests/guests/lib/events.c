#include "events.h"
#include "hypercall.h"
#include "mm.h"
#include "traps.h"

#define WORD_BITS (sizeof(word) * 8)

GUEST(shared_info) *shared_info;
GUEST(shared_info) first_shared_info;
volatile u32 event_count[MAX_PORTS];
volatile u32 upcall_count;
void (*upcall)(unsigned vcpu) = scan_two_level;

/* The page frame of shared_info is not in the p2m; it gets a page of virtual space instead of RAM. */
static u8 shared_info_page[4096] __attribute__((aligned(4096)));

void events_map(void)
{
    if (update_va_mapping(shared_info_page, (u64)start_info->shared_info | PTE_DATA, UVMF_INVLPG))
        panic("shared_info cannot be mapped");
}

void events_unmap(void)
{
    if (unmap_at(shared_info_page))
        panic("shared_info cannot be unmapped");
}

void events_open_all(void)
{
    for (unsigned i = 0; i < WORD_BITS; i++)
        shared_info->evtchn_mask.word[i] = 0;
}

void events_init(void)
{
    events_map();
    shared_info = (void *)shared_info_page;
    first_shared_info = *shared_info;
    /* Nothing is bound yet but a domU's store and console, whose events only count. */
    events_open_all();
}

static void take_word(unsigned index)
{
    volatile word *pending = (void *)&shared_info->evtchn_pending.word[index];
    word ready;

    while ((ready = *pending & ~(word)read_once(shared_info->evtchn_mask.word[index]))) {
        unsigned bit = (unsigned)__builtin_ctzl(ready);

        __atomic_fetch_and(pending, ~((word)1 << bit), __ATOMIC_SEQ_CST);
        event_count[index * WORD_BITS + bit]++;
    }
}

void scan_two_level(unsigned vcpu)
{
    GUEST(vcpu_info) *info = vcpu_info(vcpu);
    word selected;

    upcall_count++;
    write_once(info->evtchn_upcall_pending, 0);
    selected = __atomic_exchange_n((volatile word *)(void *)&info->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);
    for (; selected; selected &= selected - 1)
        take_word((unsigned)__builtin_ctzl(selected));
}

void events_off(void)
{
    write_once(vcpu_info(this_vcpu())->evtchn_upcall_mask, 1);
    barrier();
}

void events_on(void)
{
    GUEST(vcpu_info) *info = vcpu_info(this_vcpu());

    barrier();
    write_once(info->evtchn_upcall_mask, 0);
    barrier();
    if (read_once(info->evtchn_upcall_pending))
        xen_version(XENVER_version, NULL); /* any hypercall delivers on its way out */
}

void port_mask(unsigned port)
{
    volatile word *mask = (void *)&shared_info->evtchn_mask.word[port / WORD_BITS];

    __atomic_fetch_or(mask, (word)1 << port % WORD_BITS, __ATOMIC_SEQ_CST);
}

long port_unmask(unsigned port)
{
    struct evtchn_unmask op = { .port = port };

    return event_channel_op(EVTCHNOP_unmask, &op);
}

bool port_pending(unsigned port)
{
    return read_once(shared_info->evtchn_pending.word[port / WORD_BITS]) >> port % WORD_BITS & 1;
}

void port_clear(unsigned port)
{
    volatile word *pending = (void *)&shared_info->evtchn_pending.word[port / WORD_BITS];

    __atomic_fetch_and(pending, ~((word)1 << port % WORD_BITS), __ATOMIC_SEQ_CST);
}

long bind_virq(unsigned virq, unsigned vcpu)
{
    struct evtchn_bind_virq op = { .virq = virq, .vcpu = vcpu };
    long rc = event_channel_op(EVTCHNOP_bind_virq, &op);

    return rc ? rc : (long)op.port;
}

long bind_ipi(unsigned vcpu)
{
    struct evtchn_bind_ipi op = { .vcpu = vcpu };
    long rc = event_channel_op(EVTCHNOP_bind_ipi, &op);

    return rc ? rc : (long)op.port;
}

long alloc_unbound(domid_t domain, domid_t remote)
{
    struct evtchn_alloc_unbound op = { .dom = domain, .remote_dom = remote };
    long rc = event_channel_op(EVTCHNOP_alloc_unbound, &op);

    return rc ? rc : (long)op.port;
}

long bind_interdomain(domid_t remote, unsigned remote_port)
{
    struct evtchn_bind_interdomain op = { .remote_dom = remote, .remote_port = remote_port };
    long rc = event_channel_op(EVTCHNOP_bind_interdomain, &op);

    return rc ? rc : (long)op.local_port;
}

long bind_pirq(unsigned pirq, unsigned flags)
{
    struct evtchn_bind_pirq op = { .pirq = pirq, .flags = flags };
    long rc = event_channel_op(EVTCHNOP_bind_pirq, &op);

    return rc ? rc : (long)op.port;
}

long close_port(unsigned port)
{
    struct evtchn_close op = { .port = port };

    return event_channel_op(EVTCHNOP_close, &op);
}

long send_port(unsigned port)
{
    struct evtchn_send op = { .port = port };

    return event_channel_op(EVTCHNOP_send, &op);
}

long port_status(unsigned port, struct evtchn_status *status)
{
    *status = (struct evtchn_status){ .dom = DOMID_SELF, .port = port };
    return event_channel_op(EVTCHNOP_status, status);
}
