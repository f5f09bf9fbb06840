/*
 * Event channels of both formats, by a list of moves of three domains: calls with numbers that are nearly right, bits and words that guests
 * spoil in memory that they share with us, interrupts, resets and ends. When all is closed nothing is left (the unit tests' rig says so).
 * The first byte says the guests' word size.
 */
// MAX: 961
// AS: test_event
#include "fake/event_rig.h"
#include "moves.h"

#define PORTS 12

static struct domain *all[3];
static mfn_t pages[3][2];           /* that each domain gives for control blocks and event words */
static bool dead[3];

static u32 nearly(u32 below, u32 wild)
{
    u8 b = (u8)take(&move, 1);

    return b == 0xff ? wild : b % below;
}

static u16 some_domain(void) { return (u16)nearly(4, DOMID_SELF); }
static u32 some_port(void) { return nearly(PORTS, (u32)take(&move, 4)); }
static u32 some_vcpu(void) { return nearly(4, (u32)take(&move, 4)); }
static u64 some_page(void) { return pages[take(&move, 1) % 3][take(&move, 1) % 2].v; }

/* --- Calls ----------------------------------------------------------------------------------------------------------- */

static void open_offer(void) { (void)CALL(alloc_unbound, .dom = some_domain(), .remote_dom = some_domain()); }
static void open_pair(void) { (void)bind_interdomain(some_domain(), some_port()); }
static void open_virq(void) { (void)bind_virq(nearly(24, (u32)take(&move, 4)), some_vcpu()); }
static void open_ipi(void) { (void)bind_ipi(some_vcpu()); }
/* Not one that is bound: the fake machine's interrupts do not refuse that, as the real ones do. */
static void open_pirq(void)
{
    u32 pirq = (u32)take(&move, 1) % 8;

    for (u32 port = 0; port < current->domain->evtchn->nr_ports; port++) {
        const struct evtchn *chn = evtchn_at(current->domain, port);

        if (chn->state == PORT_PIRQ && chn->u.pirq == pirq)
            return;
    }
    (void)CALL(bind_pirq, .pirq = pirq, .flags = (u32)take(&move, 1));
}

static void close_some(void) { (void)CALL(close, some_port()); }
static void send_some(void) { (void)CALL(send, some_port()); }
static void unmask_some(void) { (void)CALL(unmask, some_port()); }
static void move_some(void) { (void)CALL(bind_vcpu, some_port(), some_vcpu()); }
static void ask_some(void) { (void)CALL(status, .dom = some_domain(), .port = some_port()); }
static void set_priority(void) { (void)CALL(set_priority, some_port(), nearly(17, (u32)take(&move, 4))); }
static void reset_some(void) { (void)CALL(reset, some_domain()); }
static void give_words(void) { (void)CALL(expand_array, some_page()); }

static void give_control(void)
{
    (void)CALL(init_control, .control_gfn = some_page(), .offset = nearly(9, (u32)take(&move, 4)) * 128, .vcpu = some_vcpu());
}

/* Any command, a reset that goes on among them, with bytes for its structure. */
static void call_anything(void)
{
    u32 cmd = (u32)take(&move, 1) % 18;
    u8 bytes[32];

    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (u8)take(&move, 1);
    if (cmd != EVTCHNOP_bind_pirq)
        (void)event_call(cmd, bytes, sizeof(bytes));
}

/* --- What guests do to memory ------------------------------------------------------------------------------------------ */

/* A word of a page that it gave, as it likes: an event word, a head, the bitmap of queues. */
static void spoil_page(void)
{
    u32 *words = (u32 *)fake_frame_data(pages[take(&move, 1) % 3][take(&move, 1) % 2]), n = (u32)take(&move, 1);

    words[n % 48] = n & 0x80 ? (u32)take(&move, 4) : (u32)take(&move, 1) << 24 | (u32)take(&move, 1) % PORTS;
}

/* Bits of the shared page: ports of all states, with what stands in vcpu_info. */
static void spoil_shared(void)
{
    struct domain *d = all[take(&move, 1) % 3];
    u32 at = (u32)take(&move, 2) % 4096;

    ((u8 *)d->shared_info)[at < 3072 ? at : 2048 + at % 2] = (u8)take(&move, 1);
    quiet(d->vcpu[take(&move, 1) % 4]);
}

/* --- The rest of the world ------------------------------------------------------------------------------------------------ */

static void become(void)
{
    unsigned n = (unsigned)take(&move, 1) % 3;

    if (!dead[n])
        fake_run(all[n], (u32)take(&move, 1) % 4);
}

static void interrupt(void)
{
    struct domain *d = all[take(&move, 1) % 3];

    if (take(&move, 1) & 1)
        send_guest_vcpu_virq(d->vcpu[take(&move, 1) % 4], VIRQ_TIMER);
    else
        (void)evtchn_port_pending(d, some_port());
}

static void trouble(void)
{
    u8 how = (u8)take(&move, 1), n = (u8)take(&move, 1);

    fake = (struct fake_faults){ 0 };
    switch (how % 5) {
    case 0: fake.writes_before_fault = n % 4; break;
    case 1: fake.reads_before_fault = n % 4; break;
    case 2: fake.allocs_before_failure = n % 4; break;
    case 3: fake.preempt_every = n % 4; break;
    }
}

static void die(void)
{
    unsigned n = (unsigned)take(&move, 1) % 3;

    if (n == 0 || all[n] == current->domain || take(&move, 1) % 4)
        return;
    dead[n] = true;
    while (evtchn_domain_destroy(all[n]))
        ;
}

/* --- What holds between two moves --------------------------------------------------------------------------------------------- */

static bool names_back(const struct evtchn *chn, const struct domain *d)
{
    const struct evtchn *far = evtchn_at(chn->remote, chn->u.remote_port);

    return far && far->state == PORT_INTERDOMAIN && far->remote == d && far->u.remote_port == chn->port;
}

/* Both ends of a pair name each other, and ports are counted. The place for whatever else is to hold. */
static void between_moves(void)
{
    for (unsigned n = 0; n < 3; n++) {
        u32 open = 0;

        for (u32 port = 0; port < all[n]->evtchn->nr_ports; port++) {
            const struct evtchn *chn = evtchn_at(all[n], port);

            open += evtchn_is_open(chn);
            EXPECT(chn->port == port && chn->state != PORT_CHANGING);
            EXPECT(chn->state != PORT_INTERDOMAIN || names_back(chn, all[n]));
            if (port < 8)
                note_seen(chn->state, n | (unsigned)(all[n]->evtchn->format == &evtchn_fifo) << 2, chn->notify_vcpu & 3, port);
        }
        EXPECT(open == all[n]->evtchn->nr_active && (!dead[n] || !open));
    }
}

static void play(void)
{
    static void (*const moves[])(void) = {
        open_offer, open_offer, open_pair, open_pair, open_virq, open_ipi, open_pirq, close_some, send_some, send_some, send_some,
        unmask_some, move_some, ask_some, set_priority, reset_some, give_words, give_control, give_control, call_anything, spoil_page,
        spoil_page, spoil_shared, become, become, interrupt, trouble, die,
    };

    moves[take(&move, 1) % ARRAY_SIZE(moves)]();
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct fuzz_input in = { data, data + size };
    enum abi_word *word = take(&in, 1) & 1 ? &WORD_32 : &WORD_64;

    (void)event_setup((void *[]){ word });
    all[0] = ctl, all[1] = one, all[2] = two;
    for (unsigned i = 0; i < 6; i++)
        pages[i / 2][i % 2] = fake_frame_of(all[i / 2]);
    memset(dead, 0, sizeof(dead));
    while (next_move(&in)) {
        play();
        between_moves();
    }
    fake = (struct fake_faults){ 0 };
    (void)event_teardown(NULL);
    return 0;
}
