/*
 * Trace buffers as dom0 sees them: frames of the hypervisor's, one to read and the others to write too, with an index in each that is ours.
 * What is traced stands there; nothing that we write there makes the hypervisor write elsewhere.
 */
#include "hypercall.h"
#include "mm.h"
#include "string.h"
#include "test.h"
#include <public/sched.h>
#include <public/sysctl.h>
#include <public/trace.h>

#define PAGES 1
#define BYTES (PAGES * 4096 - (u32)sizeof(struct t_buf))

/* struct xen_sysctl, which has one layout for both word sizes; a 32-bit compiler would make another of the public one. */
typedef u64 __attribute__((aligned(8))) wide;
static struct {
    u32 cmd, interface_version;
    struct tbuf_op { u32 cmd; wide cpus; u32 nr_cpus, pad, evt_mask; wide buffer_mfn; u32 size; } op __attribute__((aligned(8)));
    u8 rest[80];
} call;
_Static_assert(sizeof(struct tbuf_op) == 48 && sizeof(call) == 136, "as in public/sysctl.h");

static long tbuf_op(u32 cmd, struct tbuf_op arg)
{
    arg.cmd = cmd;
    call.cmd = XEN_SYSCTL_tbuf_op;
    call.interface_version = XEN_SYSCTL_INTERFACE_VERSION;
    call.op = arg;
    return HYPERCALL(__HYPERVISOR_sysctl, P(&call));
}
#define TBUF_OP(name, ...) tbuf_op(XEN_SYSCTL_TBUFOP_##name, (struct tbuf_op){ __VA_ARGS__ })

static long map_theirs(void *at, word mfn, u64 flags)
{
    return update_va_mapping_otherdomain(at, pte_make(mfn, flags), UVMF_INVLPG | UVMF_LOCAL, DOMID_XEN);
}

/* ---- A reader ---- */

static const struct t_info *info;
static volatile struct t_buf *head;             /* of CPU 0's, on which we run alone */
static volatile u32 *words;

static bool have_buffer(void)
{
    if (head)
        return true;
    (void)TBUF_OP(set_size, .size = PAGES);
    if (!CHECK_OK(TBUF_OP(get_info)) || !CHECK(call.op.buffer_mfn) || !CHECK_EQ(call.op.size % 4096, 0))
        return false;
    if (!CHECK_OK(map_theirs(window(0), (word)call.op.buffer_mfn, PTE_READ)))
        return false;
    info = window(0);
    if (!CHECK_EQ(info->tbuf_size, PAGES) || !CHECK_OK(map_theirs(window(1), ((const u32 *)info)[info->mfn_offset[0]], PTE_DATA)))
        return false;
    head = window(1);
    words = (volatile u32 *)(head + 1);
    return true;
}

struct record { u32 event, nr, words[TRACE_EXTRA_MAX]; };

static bool next(struct record *r)
{
    while (head->cons != head->prod) {
        volatile u32 *at = words + head->cons % BYTES / 4;
        u32 size = 1 + (at[0] >> TRACE_EXTRA_SHIFT & 7) + (at[0] >> 31) * 2;

        r->event = at[0] & 0x0fffffff;
        r->nr = at[0] >> TRACE_EXTRA_SHIFT & 7;
        for (u32 i = 0; i < r->nr; i++)
            r->words[i] = at[size - r->nr + i];
        head->cons = (head->cons + 4 * size) % (2 * BYTES);
        if (r->event != TRC_TRACE_WRAP_BUFFER)
            return true;
    }
    return false;
}

/* Looks for an event whose first word is this, in what has been recorded; forgets what came before. */
static bool find(u32 event, u32 first, struct record *r)
{
    while (next(r))
        if (r->event == event && r->words[0] == first)
            return true;
    return false;
}

static void trace_only(u32 mask)
{
    CHECK_OK(TBUF_OP(set_evt_mask, .evt_mask = mask));
    CHECK_OK(TBUF_OP(enable));
    head->cons = head->prod;
}

static void stop(void)
{
    CHECK_OK(TBUF_OP(disable));
    CHECK_OK(TBUF_OP(set_evt_mask, .evt_mask = TRC_ALL));
}

/* ---- Tests ---- */

/* First, before there are any. */
TEST(without_buffers)
{
    CHECK_EQ(TBUF_OP(enable), -EINVAL);
    CHECK_OK(TBUF_OP(disable));
    CHECK_OK(TBUF_OP(get_info));
    CHECK_EQ(call.op.buffer_mfn, 0);
    CHECK_EQ(call.op.size, 0);
    CHECK_EQ(TBUF_OP(set_size, .size = 0), -EINVAL);
    CHECK_EQ(TBUF_OP(set_size, .size = 65535), -EINVAL);
    CHECK_EQ(TBUF_OP(set_size, .size = ~0u), -EINVAL);
    CHECK_EQ(tbuf_op(6, (struct tbuf_op){ 0 }), -EINVAL);
    CHECK_EQ(TBUF_OP(set_cpu_mask, .cpus = format.hv_start, .nr_cpus = 8), -EFAULT);
}

TEST(what_is_shown_stays_what_it_is)
{
    word info_frame, frame;

    REQUIRE(have_buffer());
    info_frame = frame_at(info);
    frame = frame_at((void *)(word)head);
    CHECK_REFUSED(map_theirs(window(2), info_frame, PTE_DATA));
    CHECK_REFUSED(map_at(window(2), info_frame, PTE_READ));
    CHECK_REFUSED(map_at(window(2), frame, PTE_DATA));
    CHECK_OK(map_theirs(window(2), frame, PTE_DATA));
    CHECK_OK(unmap_at(window(2)));
    CHECK_EQ(TBUF_OP(set_size, .size = PAGES + 1), -EINVAL);
    for (unsigned cmd = MMUEXT_PIN_L1_TABLE; cmd <= MMUEXT_PIN_L4_TABLE; cmd++) {
        GUEST(mmuext_op) op = { .cmd = cmd, .arg1 = frame };

        CHECK_REFUSED(mmuext_op(&op, 1, NULL, DOMID_SELF));
        CHECK_REFUSED(mmuext_op(&op, 1, NULL, DOMID_XEN));
    }
}

TEST(hypercalls)
{
    GUEST(multicall_entry) entry = { .op = __HYPERVISOR_xen_version, .args = { XENVER_version } };
    struct record r;

    REQUIRE(have_buffer());
    trace_only(TRC_PV);
    CHECK(xen_version(XENVER_version, NULL) > 0);
    stack_switch(0, 0);
    CHECK_OK(multicall(&entry, 1));
    stop();
    REQUIRE(find(TRC_PV_HYPERCALL_V2, __HYPERVISOR_xen_version | TRC_PV_HYPERCALL_V2_ARG_32(0), &r));
    CHECK_EQ(r.nr, 2);
    CHECK_EQ(r.words[1], XENVER_version);
    REQUIRE(find(TRC_PV_HYPERCALL_V2, __HYPERVISOR_stack_switch, &r));
    CHECK_EQ(r.nr, 1);
    REQUIRE(find(TRC_PV_HYPERCALL_V2, __HYPERVISOR_multicall | TRC_PV_HYPERCALL_V2_ARG_32(1), &r));
    CHECK_EQ(r.words[1], 1);
    REQUIRE(find(TRC_PV_HYPERCALL_SUBCALL, __HYPERVISOR_xen_version | TRC_PV_HYPERCALL_V2_ARG_32(0), &r));
    head->cons = head->prod;
    CHECK(xen_version(XENVER_version, NULL) > 0);
    CHECK(!next(&r));
}

TEST(page_faults)
{
    struct record r;
    volatile char *hole = window(3);
    bool wide = sizeof(word) == 8;

    REQUIRE(have_buffer());
    trace_only(TRC_PV_ENTRY);
    CHECK_FAULT(VECTOR_PF, (void)*hole);
    stop();
    while (next(&r) && (r.event & ~TRC_64_FLAG) != TRC_PV_PAGE_FAULT)
        ;
    REQUIRE(r.event == (TRC_PV_PAGE_FAULT | (wide ? TRC_64_FLAG : 0)));
    CHECK_EQ(r.nr, wide ? 5 : 3);
    CHECK_EQ(r.words[wide ? 2 : 1], (u32)P(hole));
}

/* A wait whose time is over at once. */
TEST(the_scheduler)
{
    GUEST(sched_poll) poll = { .timeout = 1 };
    struct record r;

    REQUIRE(have_buffer());
    trace_only(TRC_SCHED);
    CHECK_OK(sched_op(SCHEDOP_poll, &poll));
    stop();
    CHECK(find(TRC_SCHED_BLOCK, 0, &r));
    CHECK_EQ(r.words[1], 0);
    CHECK(find(TRC_SCHED_WAKE, 0, &r));
}

TEST(not_on_this_cpu)
{
    u8 none = 0, first = 1;
    struct record r;

    REQUIRE(have_buffer());
    CHECK_OK(TBUF_OP(set_cpu_mask, .cpus = P(&none), .nr_cpus = 8));
    trace_only(TRC_ALL);
    (void)xen_version(XENVER_version, NULL);
    CHECK(!next(&r));
    CHECK_OK(TBUF_OP(set_cpu_mask, .cpus = P(&first), .nr_cpus = 1));
    (void)xen_version(XENVER_version, NULL);
    CHECK(next(&r));
    stop();
}

/* More than the buffer holds: what is lost is counted. */
TEST(lost)
{
    struct record r;
    u32 seen = 0, lost = 0;

    REQUIRE(have_buffer());
    trace_only(TRC_PV_ENTRY);
    for (unsigned i = 0; i < 2000; i++)
        stack_switch(0, 0);
    while (next(&r))
        seen += r.event == TRC_PV_HYPERCALL_V2 && r.words[0] == __HYPERVISOR_stack_switch;
    stack_switch(0, 0);
    while (next(&r))
        lost += r.event == TRC_LOST_RECORDS ? r.words[0] : 0;
    stop();
    CHECK(seen > 100 && seen < 2000);
    CHECK_EQ(seen + lost, 2000);
}

/* The index and all else that is ours to write may say anything. */
TEST(nonsense_in_the_buffer)
{
    struct record r;

    REQUIRE(have_buffer());
    trace_only(TRC_ALL);
    for (unsigned i = 0; i < 3000; i++) {
        head->cons = (u32)random_u64();
        head->prod = (u32)random_u64();
        for (unsigned n = 0; n < BYTES / 4; n += 97)
            words[n] = (u32)random_u64();
        (void)xen_version(XENVER_version, NULL);
        CHECK_FAULT(VECTOR_PF, (void)*(volatile char *)window(3));
    }
    stop();
    /* It goes on where it was, as soon as there is room. */
    trace_only(TRC_PV_ENTRY);
    head->prod = ~0u;
    for (u32 cons = 0; head->prod == ~0u && cons < 2 * BYTES; cons += BYTES / 2) {
        head->cons = cons & ~3u;
        (void)xen_version(XENVER_version, NULL);
    }
    REQUIRE(head->prod < 2 * BYTES);
    head->cons = head->prod;
    (void)xen_version(XENVER_version, NULL);
    CHECK(find(TRC_PV_HYPERCALL_V2, __HYPERVISOR_xen_version | TRC_PV_HYPERCALL_V2_ARG_32(0), &r));
    stop();
}
