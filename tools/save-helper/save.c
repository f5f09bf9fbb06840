/* A non-PAE domain into the stream. Its memory is sent while it stands still, or first in rounds while it runs: a migration. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "memory.h"
#include "state.h"
#include "talk.h"

#include <xen/sched.h>

/*
 * A domain has one log, and two who save it at the same time would take from each other what was written. Who saves domain N while it runs
 * has byte N of this file locked, until it ends, however it ends.
 */
#define SAVERS "/run/pvisor-save-helper"

#define FLAG_LIVE  1u
#define FLAG_DEBUG 2u       /* xl migrate --debug */

static struct xen_domctl_getdomaininfo info;

/* --- Standing still --- */

static void suspend(void)
{
    if (!ask_to_suspend())
        fail(0, "the guest has not suspended itself");
    info = xen_domain_info();
    if (!(info.flags & XEN_DOMINF_shutdown) ||
        (info.flags >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask) != SHUTDOWN_suspend)
        fail(EINVAL, "the domain has not suspended itself: its flags are %#x", info.flags);
    say(XTL_INFO, "the domain is suspended");
}

/* --- What the new domain is made with --- */

static void put_policy(void)
{
    struct xen_domctl op = { 0 };
    xen_cpuid_leaf_t *leaves;
    xen_msr_entry_t *msrs;

    xen_control(&op, XEN_DOMCTL_get_cpu_policy, "say how large its CPU policy can be");
    leaves = xen_buffer(op.u.cpu_policy.nr_leaves * sizeof(*leaves));
    msrs = xen_buffer(op.u.cpu_policy.nr_msrs * sizeof(*msrs));
    set_xen_guest_handle(op.u.cpu_policy.leaves, leaves);
    set_xen_guest_handle(op.u.cpu_policy.msrs, msrs);
    xen_control(&op, XEN_DOMCTL_get_cpu_policy, "tell its CPU policy");
    if (op.u.cpu_policy.nr_leaves)
        stream_put(REC_CPUID_POLICY, leaves, op.u.cpu_policy.nr_leaves * sizeof(*leaves), NULL, 0);
    if (op.u.cpu_policy.nr_msrs)
        stream_put(REC_MSR_POLICY, msrs, op.u.cpu_policy.nr_msrs * sizeof(*msrs), NULL, 0);
}

static void put_static_data(void)
{
    struct pv_info pv = { .width = NONPAE_WIDTH, .levels = NONPAE_LEVELS };

    stream_put(REC_PV_INFO, &pv, sizeof(pv), NULL, 0);
    put_policy();
    stream_put(REC_STATIC_DATA_END, NULL, 0, NULL, 0);
}

/* --- Memory --- */

static void put_standing(void)
{
    suspend();
    memory_begin((uint32_t)info.shared_info_frame, false);
    memory_send("Frames");
}

/*
 * Until a round had few frames to send, or there were many rounds: as the tools decide. What is left in the log then goes while the guest
 * stands still.
 */
#define ROUNDS     5u
#define FEW_FRAMES 50u

static void put_rounds(void)
{
    for (unsigned round = 1;; round++) {
        char title[32];
        struct sent s;

        snprintf(title, sizeof(title), "Frames, round %u", round);
        s = memory_send(title);
        say(XTL_INFO, "round %u while the guest runs: %u frames, %u of them left for later", round, s.frames, s.later);
        if (round == ROUNDS || s.frames < FEW_FRAMES)
            return;
        memory_want_written();
    }
}

/* Of a guest that stands still the reader compares with what it has. */
static void put_again(void)
{
    stream_put(REC_VERIFY, NULL, 0, NULL, 0);
    memory_want_all();
    memory_send("Frames, once more");
}

/*
 * libxl ends a save that it wants no more by SIGTERM, a terminal by the others: then nothing can be written any more, which is an error as
 * others. Who is killed leaves the log on; the next one ends it (xen_begin_log()).
 */
static int unwritable;

static void give_up(int signal)
{
    (void)signal;
    stream_give_up(unwritable);
    talk_give_up(unwritable);
}

static void claim(uint32_t domid)
{
    struct flock byte = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = domid, .l_len = 1 };
    int fd = open(SAVERS, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0)
        fail(errno, "cannot open %s, where who saves a domain says so", SAVERS);
    if (!fcntl(fd, F_SETLK, &byte))
        return;
    if (errno != EAGAIN && errno != EACCES)
        fail(errno, "cannot lock byte %u of %s", domid, SAVERS);
    fcntl(fd, F_GETLK, &byte);
    fail(EBUSY, "another process, %d, saves domain %u: await or end it", byte.l_pid, domid);
}

static void begin_log(void)
{
    static const int ends[] = { SIGTERM, SIGINT, SIGHUP };
    struct sigaction action = { .sa_handler = give_up };

    unwritable = open("/dev/null", O_RDONLY | O_CLOEXEC);
    for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        if (unwritable < 0 || sigaction(ends[i], &action, NULL))
            fail(errno, "cannot be told to end");
    at_end(xen_end_log);
    xen_begin_log();
}

static void end_log(void)
{
    xen_end_log();
    at_end(NULL);
}

static void put_live(const struct job *j)
{
    struct sent s;

    claim(j->domid);
    info = xen_domain_info();
    begin_log();
    memory_begin((uint32_t)info.shared_info_frame, true);
    put_rounds();
    suspend();
    memory_stands_still((uint32_t)info.shared_info_frame);
    memory_want_written();
    s = memory_send("Frames, the last round");
    say(XTL_INFO, "the last round: %u frames", s.frames);
    if (j->flags & FLAG_DEBUG)
        put_again();
    end_log();
}

/* --- What is not memory --- */

static void put_tsc(void)
{
    struct xen_domctl op = { 0 };
    struct tsc_info t;

    xen_control(&op, XEN_DOMCTL_gettscinfo, "tell of its time stamp counter");
    t = (struct tsc_info){ op.u.tsc_info.tsc_mode, op.u.tsc_info.gtsc_khz, op.u.tsc_info.elapsed_nsec, op.u.tsc_info.incarnation, 0 };
    stream_put(REC_TSC_INFO, &t, sizeof(t), NULL, 0);
}

static void put_shared_info(void)
{
    static uint8_t page[PAGE];

    memcpy(page, memory_shared_info(), sizeof(*memory_shared_info()));
    stream_put(REC_SHARED_INFO, page, PAGE, NULL, 0);
}

/* The frames in vCPU id's context become the guest's own numbers. */
static void normalise_context(uint32_t id, context_t *c)
{
    if (!id)
        c->user_regs.edx = memory_pfn_of(c->user_regs.edx, "start info, in edx");
    if (c->gdt_ents > MAX_GDT_ENTRIES)
        fail(ERANGE, "vCPU %u has a GDT of %u entries, expected at most %u", id, c->gdt_ents, MAX_GDT_ENTRIES);
    for (unsigned i = 0; i < GDT_FRAMES(c->gdt_ents); i++)
        c->gdt_frames[i] = memory_pfn_of(c->gdt_frames[i], "a vCPU's GDT");
    c->ctrlreg[3] = xen_pfn_to_cr3_x86_32(memory_pfn_of(xen_cr3_to_pfn_x86_32(c->ctrlreg[3]), "a vCPU's CR3"));
}

static void put_context(uint32_t id)
{
    struct vcpu_head head = { .vcpu = id };
    struct xen_domctl op = { .u.vcpucontext.vcpu = id };
    static context_t *c;

    if (!c)
        c = xen_buffer(sizeof(vcpu_guest_context_t));
    set_xen_guest_handle(op.u.vcpucontext.ctxt, (void *)c);
    xen_control(&op, XEN_DOMCTL_getvcpucontext, "give a vCPU's context");
    normalise_context(id, c);
    stream_put(REC_VCPU_BASIC, &head, sizeof(head), c, sizeof(*c));
}

static void put_extended(uint32_t id)
{
    struct vcpu_head head = { .vcpu = id };
    struct xen_domctl op = { .u.ext_vcpucontext.vcpu = id };
    uint32_t size;

    xen_control(&op, XEN_DOMCTL_get_ext_vcpucontext, "give a vCPU's callbacks");
    size = op.u.ext_vcpucontext.size;
    if (size > sizeof(op.u))
        fail(ERANGE, "the callbacks of vCPU %u have %u bytes, expected at most %zu", id, size, sizeof(op.u));
    if (size)
        stream_put(REC_VCPU_EXTENDED, &head, sizeof(head), &op.u, size);
}

static void put_xsave(uint32_t id)
{
    struct vcpu_head head = { .vcpu = id };
    struct xen_domctl op = { .u.vcpuextstate.vcpu = id };
    void *state;

    xen_control(&op, XEN_DOMCTL_getvcpuextstate, "say how large a vCPU's FPU state is");
    if (!op.u.vcpuextstate.xfeature_mask || !op.u.vcpuextstate.size)
        return;
    state = xen_buffer(op.u.vcpuextstate.size);
    set_xen_guest_handle(op.u.vcpuextstate.buffer, state);
    xen_control(&op, XEN_DOMCTL_getvcpuextstate, "give a vCPU's FPU state");
    stream_put(REC_VCPU_XSAVE, &head, sizeof(head), state, op.u.vcpuextstate.size);
}

static void put_msrs(uint32_t id)
{
    struct vcpu_head head = { .vcpu = id };
    struct xen_domctl op = { .u.vcpu_msrs.vcpu = id };
    xen_domctl_vcpu_msr_t *msrs;

    xen_control(&op, XEN_DOMCTL_get_vcpu_msrs, "say how many MSRs a vCPU has");
    if (!op.u.vcpu_msrs.msr_count)
        return;
    msrs = xen_buffer(op.u.vcpu_msrs.msr_count * sizeof(*msrs));
    set_xen_guest_handle(op.u.vcpu_msrs.msrs, msrs);
    xen_control(&op, XEN_DOMCTL_get_vcpu_msrs, "give a vCPU's MSRs");
    if (op.u.vcpu_msrs.msr_count)
        stream_put(REC_VCPU_MSRS, &head, sizeof(head), msrs, op.u.vcpu_msrs.msr_count * sizeof(*msrs));
}

static void put_vcpus(void)
{
    for (uint32_t id = 0; id <= info.max_vcpu_id; id++) {
        struct xen_domctl op = { .u.getvcpuinfo.vcpu = id };

        xen_control(&op, XEN_DOMCTL_getvcpuinfo, "say whether a vCPU is up");
        if (!op.u.getvcpuinfo.online)
            continue;
        put_context(id);
        put_extended(id);
        put_xsave(id);
        put_msrs(id);
    }
}

void save(const struct job *j)
{
    /* First, so that the other end knows at once what comes, however long the guest takes. */
    stream_begin(j->fd);
    stream_put_head((uint32_t)xen_version());
    put_static_data();
    if (j->flags & FLAG_LIVE)
        put_live(j);
    else
        put_standing();
    put_tsc();
    put_shared_info();
    put_vcpus();
    stream_put(REC_END, NULL, 0, NULL, 0);
    say_complete();
}
