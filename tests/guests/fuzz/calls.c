/*
 * Every hypercall and every command that the hypervisor dispatches, with the fields of its structure (tests/guests/fuzz/table compares this
 * with the hypervisor's sources). A field is a letter for its kind (value_of()) and its size: 1, 2, 4, 8 bytes, w a word, x 8 bytes
 * aligned to 8 in 32-bit kernels too. Where that is not enough, make() has the rest. Left out is what would stop us: make() and the
 * fields see to it, each with its reason.
 */
#include "fuzz.h"
#include "events.h"
#include "string.h"
#include "traps.h"
#include <public/domctl.h>
#include <public/hypfs.h>
#include <public/mca.h>
#include <public/platform.h>
#include <public/pvisor.h>
#include <public/sysctl.h>

#define PLATFORM "#4!4"
#define SYSCTL   "#4!4"
#define MCA      "#4!4"
#define CONTROL  "#4!4k2z2z2z2"

/* ---- Fields ---- */

static unsigned size_of(char size) { return size == 'w' ? sizeof(word) : size == 'x' ? 8 : (unsigned)(size - '0'); }

static unsigned alignment_of(char size)
{
    return size == 'x' ? 8 : size == '8' ? sizeof(word) : size_of(size);
}

/* The newest, whose structures we fill in, more often than others that are served. */
static u32 version_of(struct fuzz *z, const struct call *c)
{
    switch (c->group->number) {
    case __HYPERVISOR_platform_op:
        return XENPF_INTERFACE_VERSION;
    case __HYPERVISOR_sysctl:
        return XEN_SYSCTL_INTERFACE_VERSION - once_in(z, 8);
    case __HYPERVISOR_mca:
        return XEN_MCA_INTERFACE_VERSION;
    default:
        if (c->command->cmd == XEN_DOMCTL_get_domain_state)
            return XEN_DOMCTL_INTERFACE_STABLE;
        return XEN_DOMCTL_INTERFACE_VERSION - (once_in(z, 8) ? below(z, 4) : 0);
    }
}

void fill(struct fuzz *z, struct call *c, const char *fields)
{
    u8 *at = (u8 *)c->buffer;

    for (; *fields; fields += 2) {
        unsigned size = size_of(fields[1]), align = alignment_of(fields[1]);
        u64 v = fields[0] == '!' ? version_of(z, c) : value_of(z, c, fields[0]);

        if (fields[0] != '#' && fields[0] != '!' && once_in(z, 40))
            v = some_value(z);
        at = (u8 *)((P(at) + align - 1) & ~(word)(align - 1));
        memcpy(at, &v, size);
        at += size;
    }
}

/* What a list's address leads to: frames, numbers, or anything. */
static void fill_list(struct fuzz *z, struct call *c)
{
    word *list = (word *)((u8 *)c->buffer + 2048);
    unsigned what = below(z, 3);

    for (unsigned i = 0; i < 16; i++)
        list[i] = what == 0 ? some_mfn(z) : what == 1 ? below(z, 40) : (word)some_value(z);
}

/* Progress that the hypervisor has never stored, in registers that it would store it in; never in what is an address. */
static void forge(struct fuzz *z, struct call *c)
{
    unsigned i = below(z, 6);

    if (c->args[i] < 1 << 16)   /* the first has the command, which another could make our end */
        c->args[i] |= i && once_in(z, 2) ? (word)1 << below(z, sizeof(word) * 8) : (word)below(z, 64) << 6;
    if (names_vital(c->args[i]))
        c->args[i] = 0;
}

/* Control calls need somebody to control: the first of them makes a domain. */
static const struct command *some_command(struct fuzz *z, const struct group *g)
{
    if (g->number == __HYPERVISOR_domctl && is_dom0() && other_place() < NR_OTHERS && once_in(z, 2))
        return &g->command[0];
    return &g->command[below(z, g->nr)];
}

static struct group *some_group(struct fuzz *z)
{
    static unsigned total;
    unsigned at;

    if (!total)
        for (unsigned i = 0; i < nr_groups; i++)
            total += groups[i].weight;
    at = below(z, total);
    for (unsigned i = 0;; at -= groups[i++].weight)
        if (at < groups[i].weight)
            return &groups[i];
}

/* What calls before it have left in the page: a longer list would have our addresses where it maps or unmaps something. */
static void forget_addresses(u64 *page)
{
    for (unsigned i = 0; i < 512; i++)
        if (names_memory((u32)page[i]) || names_memory((u32)(page[i] >> 32)))
            page[i] = 0;
}

void make_call(struct fuzz *z, struct call *c, unsigned place)
{
    *c = (struct call){ .group = some_group(z) };
    c->command = some_command(z, c->group);
    c->buffer = z->buffer = arguments_of(z, place, c->command->alone);
    forget_addresses(c->buffer);
    if (once_in(z, 4))
        fill_list(z, c);
    if (c->command->fields)
        fill(z, c, c->command->fields);
    else
        scribble(z, 128);
    for (unsigned i = 0; c->group->args[i]; i++)
        c->args[i] = (word)value_of(z, c, c->group->args[i]);
    if (c->command->make)
        c->command->make(z, c);
    else if (once_in(z, 16))
        forge(z, c);
    /* What is done is said to be where nobody has stored it. */
    if ((c->group->number == __HYPERVISOR_mmu_update || c->group->number == __HYPERVISOR_mmuext_op) && once_in(z, 16))
        c->args[1] |= 1u << 31;
}

/* ---- What fields cannot say ---- */

/* Our own callbacks stay as they are: another address would be jumped to with our rights. */
static void make_trap_table(struct fuzz *z, struct call *c)
{
    GUEST(trap_info) *t = (void *)c->buffer;
    unsigned n = below(z, 20);

    memset(t, 0, 2048);
    c->args[0] = once_in(z, 12) ? format.hv_start : P(t);   /* none at all would take all handlers away */
    for (unsigned i = 0; i < n; i++) {
        t[i] = trap_table[0x20 + below(z, 0x50)];
        if (once_in(z, 8))
            t[i].cs = (u16)next(z);
        if (once_in(z, 8))
            t[i].flags = (u8)next(z);
    }
}

extern u8 trap_stubs[], event_entry[], failsafe_entry[], sysenter_entry[];

static void make_callback(struct fuzz *z, struct call *c)
{
    static const struct { u8 type; u8 *entry; } ways[] = {
        { CALLBACKTYPE_event, event_entry }, { CALLBACKTYPE_failsafe, failsafe_entry }, { CALLBACKTYPE_sysenter, sysenter_entry },
        { CALLBACKTYPE_syscall32, sysenter_entry }, { CALLBACKTYPE_sysenter_deprecated, sysenter_entry }, { 9, sysenter_entry },
    };
    unsigned i = below(z, ARRAY_SIZE(ways));
    GUEST(callback_register) *r = (void *)c->buffer;

    *r = (GUEST(callback_register)){ .type = ways[i].type, .flags = CALLBACKF_mask_events, .eip = P(ways[i].entry) };
#ifndef FORMAT_PT64
    r->cs = KERNEL_CS;
#endif
    c->args[1] = once_in(z, 12) ? format.hv_start : P(r);
    if (c->command->cmd == CALLBACKOP_unregister)
        r->type = once_in(z, 2) ? CALLBACKTYPE_sysenter : CALLBACKTYPE_nmi;
}

#ifdef FORMAT_PT64
extern u8 syscall_entry[];
#define CALLBACKS { P(event_entry), P(failsafe_entry), P(syscall_entry) }
#else
#define CALLBACKS { KERNEL_CS, P(event_entry), KERNEL_CS, P(failsafe_entry) }
#endif

static void make_callbacks(struct fuzz *z, struct call *c)
{
    static const word callbacks[4] = CALLBACKS;

    (void)z;
    memcpy(c->args, callbacks, sizeof(callbacks));
}

/*
 * What a trap from user mode will be put on. Only the first vCPU goes there, and sets the right one first; but should an instruction ever
 * lead another one there, it is on a part of its own stack that calls do not reach down to: by its stack a vCPU knows which it is.
 */
static void make_stack_switch(struct fuzz *z, struct call *c)
{
    c->args[0] = format.levels == 4 && once_in(z, 2) ? FLAT_RING3_SS64 : KERNEL_SS;
    c->args[1] = P(__builtin_frame_address(0)) - 6144;
}

/* Blocked, we would wait for an event that nobody sends: an event is pending, or it is a yield. */
static void make_block(struct fuzz *z, struct call *c)
{
    if (model.vcpus > 1 || z->batched) {
        c->args[0] = SCHEDOP_yield;
        return;
    }
    write_once(vcpu_info(0)->evtchn_upcall_mask, 1);    /* until the call opens them: no interrupt of the machine takes the event first */
    write_once(vcpu_info(0)->evtchn_upcall_pending, 1);
}

static void make_poll(struct fuzz *z, struct call *c)
{
    *(GUEST(sched_poll) *)c->buffer = (GUEST(sched_poll)){
        .ports = P(c->buffer) + 2048, .nr_ports = below(z, once_in(z, 8) ? 200 : 4), .timeout = once_in(z, 2) ? 1 : fuzz_now() + 20000 };
    for (unsigned i = 0; i < 4; i++)
        ((u32 *)c->buffer)[512 + i] = (u32)value_of(z, c, 'p');
}

/* Never ourselves, and never a reason that ends the machine. */
static void make_shutdown(struct fuzz *z, struct call *c)
{
    if (c->command->cmd == SCHEDOP_shutdown) {
        c->args[0] = SCHEDOP_shutdown_code;
    } else {
        domid_t other = some_other(z);

        *(struct sched_remote_shutdown *)c->buffer = (struct sched_remote_shutdown){
            .domain_id = other ?: DOMID_INVALID, .reason = below(z, 6) };
        c->args[1] = P(c->buffer);
    }
}

/* A watchdog of ours would go off. */
static void make_watchdog(struct fuzz *z, struct call *c)
{
    *(struct sched_watchdog *)c->buffer = (struct sched_watchdog){
        .id = below(z, 4), .timeout = once_in(z, 2) ? 0 : 100000 + below(z, 1000) };
    c->args[1] = P(c->buffer);
}

/* Of a vCPU that makes no calls; one that does would be gone, or would not get its events. */
static void make_spare_vcpu(struct fuzz *z, struct call *c)
{
    c->args[1] = (word)value_of(z, c, 'V');
    if (c->command->cmd == VCPUOP_initialise)
        c->args[2] = c->args[1] < MAX_TEST_VCPUS ? P(vcpu_context((unsigned)c->args[1], idler_main)) : P(c->buffer);
}

/* Memory that the hypervisor writes to from now on: what is written behind the arguments. */
static void make_area(struct fuzz *z, struct call *c)
{
    c->buffer[0] = once_in(z, 4) ? 0 : P(z->scratch) + 3000;
}

static void make_phys_area(struct fuzz *z, struct call *c)
{
    *(u64 *)c->buffer = once_in(z, 4) ? ~0UL : (u64)some_mfn(z) << 12 | below(z, 4096);
}

/* Never one that is taken: memory that others write to would say whether events are masked, and upcalls nest until the stack ends. */
static void make_vcpu_info(struct fuzz *z, struct call *c)
{
    c->args[1] = (word)value_of(z, c, 'V');
    c->args[2] = P(c->buffer);
    *(struct vcpu_register_vcpu_info *)c->buffer = (struct vcpu_register_vcpu_info){
        .mfn = some_mfn(z), .offset = 4096 - below(z, 60) };
}

/* A domU speaks by its first ports: the arguments must be those that were looked at. */
static void make_close(struct fuzz *z, struct call *c)
{
    (void)z;
    if (is_dom0())
        return;
    if (c->command->cmd != EVTCHNOP_close || *(u32 *)c->buffer < 4)
        c->args[0] = EVTCHNOP_unmask;
    c->args[1] = P(c->buffer);
}

/* All ports are gone, so not often. */
static void make_reset(struct fuzz *z, struct call *c)
{
    if (!once_in(z, 20))
        c->args[0] = EVTCHNOP_unmask;
    make_close(z, c);
}

static void make_event_control(struct fuzz *z, struct call *c)
{
    if (!once_in(z, 20))
        *(domid_t *)c->buffer = 77;
    c->args[0] = once_in(z, 20) || c->command->cmd != EVTCHNOP_init_control ? c->args[0] : EVTCHNOP_set_priority;
}

static void learn_port(struct fuzz *z, struct call *c, long rc)
{
    const char *q = strstr(c->command->fields, "q");
    unsigned at = 0;

    if (rc || !q)
        return;
    for (const char *f = c->command->fields; f < q; f += 2)
        at = ((at + alignment_of(f[1]) - 1) & ~(alignment_of(f[1]) - 1)) + size_of(f[1]);
    hold_port(z, *(u32 *)((u8 *)c->buffer + ((at + 3) & ~3u)));
}

/* Breakpoints in windows and on addresses of the hypervisor's: #DB goes on (fuzz_trap()). */
static void make_debugreg(struct fuzz *z, struct call *c)
{
    c->args[0] = below(z, 9);
    c->args[1] = c->args[0] == 7 ? (word)(next(z) & 0xffff07ff) : once_in(z, 4) ? format.hv_start : P(slot(z));
}

static void make_assist(struct fuzz *z, struct call *c)
{
    c->args[0] = below(z, 3);
    c->args[1] = below(z, 40);
}

static void make_timer(struct fuzz *z, struct call *c)
{
    u64 t = once_in(z, 8) ? next(z) >> below(z, 64) : value_of(z, c, 't');
    const word args[] = { ARG64(t) };

    memcpy(c->args, args, sizeof(args));
}

/* The console is where results are told: a dot or two at most. */
static void make_console(struct fuzz *z, struct call *c)
{
    *(u16 *)c->buffer = '.' << 8 | '.';
    c->args[1] = c->command->cmd == CONSOLEIO_write ? below(z, 2) : below(z, 100);
    c->args[2] = c->command->cmd == CONSOLEIO_write ? some_pointer(z, c->buffer) : P(z->scratch);
}

/* One level of calls within a call: what a multicall says of itself is refused. */
static void make_multicall(struct fuzz *z, struct call *c)
{
    GUEST(multicall_entry) *e = (void *)c->buffer;

    for (unsigned i = 0; i < 4; i++)
        e[i] = (GUEST(multicall_entry)){ .op = once_in(z, 4) ? __HYPERVISOR_multicall : __HYPERVISOR_xen_version,
                                         .args = { below(z, 12), P(z->scratch) } };
    c->args[1] = below(z, 5);
    if (once_in(z, 20)) {   /* what lies behind the entries is none */
        c->args[0] = format.hv_start;
        c->args[1] = (word)next(z);
    }
}

/* A domain that changes its format starts anew: what is asked for is none. */
static void make_pvisor(struct fuzz *z, struct call *c)
{
    *(u32 *)c->buffer = below(z, 2) ? 0 : 3 + below(z, 9);
    c->args[1] = P(c->buffer);
}

/* Old ways of event_channel_op and physdev_op: the command is in the structure. */
static void make_old_event(struct fuzz *z, struct call *c)
{
    static const u8 commands[] = { 0, 1, 2, 4, 5, 6, 7, 8, 9 };

    fill(z, c, "z4p4p4p4p4");
    *(u32 *)c->buffer = commands[below(z, ARRAY_SIZE(commands))];
    c->args[0] = P(c->buffer);
    c->args[1] = 0;
}

static void make_old_physdev(struct fuzz *z, struct call *c)
{
    *(u32 *)c->buffer = 5 + below(z, 28);
    c->args[0] = P(c->buffer);
}

static void make_old_sched(struct fuzz *z, struct call *c)
{
    c->args[0] = once_in(z, 8) ? 3 + below(z, 20) : SCHEDOP_yield;
    c->args[1] = below(z, 3);
}

/* Keys that print little and end nothing. */
static void make_keys(struct fuzz *z, struct call *c)
{
    static const char keys[] = "\x01?+";

    *(char *)(c->buffer + 256) = once_in(z, 40) ? keys[below(z, 3)] : '\x02';
    *(u64 *)((u32 *)c->buffer + 2) = P(c->buffer + 256);
    ((u32 *)c->buffer)[4] = 1;
    c->args[0] = P(c->buffer);
}

/* The machine would be off. */
static void make_sleep(struct fuzz *z, struct call *c)
{
    ((u32 *)c->buffer)[3] = 6 + below(z, 300);
    c->args[0] = P(c->buffer);
}

/* The CPUs that we run on stay, and dom0 in its pool. */
static void make_hotplug(struct fuzz *z, struct call *c)
{
    ((u32 *)c->buffer)[2] = once_in(z, 2) ? 7 + below(z, 100) : (u32)next(z);
    c->args[0] = P(c->buffer);
}

static void make_hypfs(struct fuzz *z, struct call *c)
{
    static const char *const paths[] = { "/", "/buildinfo", "/buildinfo/version/major", "/params", "/params/loglvl", "/nothing",
                                         "/buildinfo/", "//", "" };
    const char *path = paths[below(z, ARRAY_SIZE(paths))];
    size_t n = strlen(path) + 1;

    memcpy(c->buffer, path, n);
    c->args[1] = some_pointer(z, c->buffer);
    c->args[2] = once_in(z, 8) ? below(z, 2000) : n;
    c->args[3] = P(z->scratch);
    c->args[4] = below(z, 2) ? 2048 : below(z, 40);
    if (c->command->cmd == XEN_HYPFS_OP_write_contents)     /* nothing that would change how much is logged */
        c->args[4] = 0;
}

/* Numbers that nobody has given a meaning, and sub-commands likewise. */
static void make_nonsense(struct fuzz *z, struct call *c)
{
    c->args[0] = (word)some_value(z);
    for (unsigned i = 1; i < 6; i++)
        c->args[i] = (word)some_value(z);
}

/* ---- The table ---- */

#pragma GCC diagnostic ignored "-Wmissing-field-initializers"     /* no make(), no learn() */
#define EVTCHNOP_reset_cont 14    /* how the hypervisor goes on with a reset: pvisor's own */

#define C(name_, ...) { name_, #name_, __VA_ARGS__ }

static const struct command trap_commands[] = { { 0, "set_trap_table", NULL, make_trap_table, NULL, .alone = true } };
static const struct command mmu_commands[] = { { 0, "mmu_update", "", make_mmu_update, learn_mmu_update } };
static const struct command gdt_commands[] = { { 0, "set_gdt", "", make_gdt, NULL } };
static const struct command stack_commands[] = { { 0, "stack_switch", "", make_stack_switch, NULL } };
static const struct command callbacks_commands[] = { { 0, "set_callbacks", "", make_callbacks, NULL } };
static const struct command fpu_commands[] = { { 0, "fpu_taskswitch", "", NULL, NULL } };
static const struct command set_debugreg_commands[] = { { 0, "set_debugreg", "", make_debugreg, NULL } };
static const struct command get_debugreg_commands[] = { { 0, "get_debugreg", "", make_debugreg, NULL } };
static const struct command descriptor_commands[] = { { 0, "update_descriptor", "", make_descriptor, NULL } };
static const struct command va_commands[] = { { 0, "update_va_mapping", "", make_va_mapping, NULL } };
static const struct command va_other_commands[] = { { 0, "update_va_mapping_otherdomain", "", make_va_mapping_other, NULL } };
static const struct command timer_commands[] = { { 0, "set_timer_op", "", make_timer, NULL } };
static const struct command old_event_commands[] = { { 0, "event_channel_op_compat", "", make_old_event, NULL, .alone = true } };
static const struct command old_physdev_commands[] = { { 0, "physdev_op_compat", NULL, make_old_physdev, NULL, .alone = true } };
static const struct command old_sched_commands[] = { { 0, "sched_op_compat", "", make_old_sched, NULL } };
static const struct command console_commands[] = { C(CONSOLEIO_write, "", make_console), C(CONSOLEIO_read, "", make_console) };
static const struct command assist_commands[] = { { 0, "vm_assist", "", make_assist, NULL } };
static const struct command segment_commands[] = { { 0, "set_segment_base", "", NULL, NULL } };
static const struct command ext_commands[] = {
    { 0, "mmuext_op", "", make_mmuext, learn_mmuext }, { 0, "mmuext_op", "", make_mmuext, learn_mmuext },
    { 0, "mmuext_op", "", make_mmuext, learn_mmuext }, { 0, "mmuext_op", "", make_mmuext, learn_mmuext },
    { 0, "new_baseptr", "", make_root, .alone = true },
};
static const struct command multicall_commands[] = { { 0, "multicall", "", make_multicall, NULL, .alone = true } };
static const struct command pvisor_commands[] = {
    { 1, "PVISOROP_switch_format", "f4m4r4r4r4", make_pvisor, NULL, .alone = true }, { 7, "none", NULL },
};
static const struct command hypfs_commands[] = {
    C(XEN_HYPFS_OP_get_version, ""), C(XEN_HYPFS_OP_read, "", make_hypfs), C(XEN_HYPFS_OP_write_contents, "", make_hypfs),
};
static const struct command mca_commands[] = {
    C(XEN_MC_fetch, MCA "n4z4n8sw"), C(XEN_MC_fetch, MCA "b4z4n8sw"), C(XEN_MC_notifydomain, MCA), C(XEN_MC_physcpuinfo, MCA "c4z4sw"),
    C(XEN_MC_msrinject, MCA "c4n4r4r4"), C(XEN_MC_mceinject, MCA "c4"), C(XEN_MC_inject_v2, MCA "n4z4awN4"), { 7, "none", MCA },
};
static const struct command absent_commands[] = { { 0, "0", NULL }, { 1, "1", NULL }, { 2, "2", NULL }, { 3, "3", NULL } };
static const struct command nonsense_commands[] = { { 0, "nonsense", NULL, make_nonsense, NULL } };
static const struct command callback_commands[] = {
    C(CALLBACKOP_register, NULL, make_callback, .alone = true), C(CALLBACKOP_unregister, NULL, make_callback, .alone = true) };

static const struct command memory_commands[] = {
    C(XENMEM_increase_reservation, NULL, make_reservation, learn_frames),
    C(XENMEM_decrease_reservation, NULL, make_reservation),
    C(XENMEM_populate_physmap, NULL, make_reservation, learn_frames),
    C(XENMEM_exchange, NULL, make_exchange, learn_exchange),
    C(XENMEM_exchange, NULL, make_exchange, learn_exchange),
    C(XENMEM_maximum_ram_page, ""),
    C(XENMEM_current_reservation, "d2"),
    C(XENMEM_maximum_reservation, "d2"),
    C(XENMEM_maximum_gpfn, "d2"),
    C(XENMEM_machphys_mfn_list, "n4awz4"),
    C(XENMEM_machphys_compat_mfn_list, "n4awz4"),
    C(XENMEM_machphys_mapping, "zwzwzw"),
    C(XENMEM_memory_map, "n4aw"),
    C(XENMEM_machine_memory_map, "n4aw"),
    C(XENMEM_set_memory_map, "D2n4aw"),
    C(XENMEM_set_pod_target, "N8z8z8d2"),
    C(XENMEM_get_pod_target, "z8z8z8d2"),
    C(XENMEM_get_sharing_freed_pages, ""),
    C(XENMEM_get_sharing_shared_pages, ""),
    C(XENMEM_claim_pages, "zwNwO4z4D2"),
    C(XENMEM_add_to_physmap, "d2n2n4nwmw"),
    C(XENMEM_add_to_physmap_batch, "d2n2n2n2awawaw"),
    C(XENMEM_remove_from_physmap, "d2mw"),
    C(XENMEM_get_vnumainfo, "d2z2n4n4n4awawaw"),
    C(XENMEM_reserved_device_memory_map, "n4n4awz4"),
    C(XENMEM_acquire_resource, "d2b2n4n4z4n8aw"),
};

static const struct command version_commands[] = {
    C(XENVER_version, ""), C(XENVER_extraversion, ""), C(XENVER_compile_info, ""), C(XENVER_capabilities, ""), C(XENVER_changeset, ""),
    C(XENVER_platform_parameters, ""), C(XENVER_get_features, "n4z4"), C(XENVER_pagesize, ""), C(XENVER_guest_handle, ""),
    C(XENVER_commandline, ""), C(XENVER_build_id, "N4"), C(XENVER_extraversion2, "N4"), C(XENVER_capabilities2, "N4"),
    C(XENVER_changeset2, "N4"), C(XENVER_commandline2, "N4"),
};

static const struct command grant_commands[] = {
    C(GNTTABOP_map_grant_ref, "", make_grant, learn_map), C(GNTTABOP_map_grant_ref, "", make_grant, learn_map),
    C(GNTTABOP_map_grant_ref, "", make_grant, learn_map), C(GNTTABOP_map_grant_ref, "", make_grant, learn_map),
    C(GNTTABOP_unmap_grant_ref, "", make_grant, learn_unmap), C(GNTTABOP_unmap_grant_ref, "", make_grant, learn_unmap),
    C(GNTTABOP_unmap_grant_ref, "", make_grant, learn_unmap),
    C(GNTTABOP_setup_table, "", make_grant), C(GNTTABOP_dump_table, "D2z2z2z2", make_grant),
    C(GNTTABOP_transfer, "", make_grant), C(GNTTABOP_copy, "", make_grant), C(GNTTABOP_copy, "", make_grant),
    C(GNTTABOP_query_size, "d2z2z4z4z2", make_grant), C(GNTTABOP_unmap_and_replace, "", make_grant, learn_unmap),
    C(GNTTABOP_set_version, "", make_grant), C(GNTTABOP_get_status_frames, "", make_grant), C(GNTTABOP_get_version, "d2z2z4", make_grant),
    C(GNTTABOP_swap_grant_ref, "", make_grant),
};

static const struct command vcpu_commands[] = {
    C(VCPUOP_initialise, NULL, make_spare_vcpu), C(VCPUOP_up, "", make_spare_vcpu), C(VCPUOP_down, "", make_spare_vcpu),
    C(VCPUOP_is_up, ""), C(VCPUOP_get_runstate_info, ""),
    C(VCPUOP_register_runstate_memory_area, "zw", make_area), C(VCPUOP_set_periodic_timer, "t8"), C(VCPUOP_stop_periodic_timer, ""),
    C(VCPUOP_set_singleshot_timer, "t8f4"), C(VCPUOP_stop_singleshot_timer, ""),
    C(VCPUOP_register_vcpu_info, "", make_vcpu_info, .alone = true),
    C(VCPUOP_send_nmi, ""), C(VCPUOP_get_physid, ""), C(VCPUOP_register_vcpu_time_memory_area, "zw", make_area),
    C(VCPUOP_register_runstate_phys_area, "", make_phys_area), C(VCPUOP_register_vcpu_time_phys_area, "", make_phys_area),
};

static const struct command sched_commands[] = {
    C(SCHEDOP_yield, ""), C(SCHEDOP_block, "", make_block), C(SCHEDOP_shutdown, "n4", make_shutdown),
    C(SCHEDOP_poll, "", make_poll, .alone = true),
    C(SCHEDOP_remote_shutdown, "", make_shutdown, .alone = true), C(SCHEDOP_shutdown_code, "n4"),
    C(SCHEDOP_watchdog, "", make_watchdog, .alone = true),
    C(SCHEDOP_pin_override, "c4"),
};

static const struct command event_commands[] = {
    C(EVTCHNOP_bind_interdomain, "d2p4q4", NULL, learn_port), C(EVTCHNOP_bind_virq, "i4v4q4", NULL, learn_port),
    C(EVTCHNOP_bind_pirq, "I4b4q4", NULL, learn_port), C(EVTCHNOP_close, "p4", make_close, .alone = true), C(EVTCHNOP_send, "p4"),
    C(EVTCHNOP_send, "p4"), C(EVTCHNOP_status, "d2p4z4v4z4z4"), C(EVTCHNOP_alloc_unbound, "d2d2q4", NULL, learn_port),
    C(EVTCHNOP_bind_ipi, "v4q4", NULL, learn_port), C(EVTCHNOP_bind_vcpu, "p4v4"), C(EVTCHNOP_unmask, "p4"),
    C(EVTCHNOP_reset, "d2", make_reset, .alone = true), C(EVTCHNOP_init_control, "m8N4v4z1", make_event_control),
    C(EVTCHNOP_expand_array, "m8"), C(EVTCHNOP_set_priority, "p4f4"), C(EVTCHNOP_reset_cont, "d2", make_reset, .alone = true),
};

static const struct command physdev_commands[] = {
    C(PHYSDEVOP_irq_status_query, "I4z4"), C(PHYSDEVOP_set_iopl, "c4"), C(PHYSDEVOP_set_iobitmap, "swN4"),
    C(PHYSDEVOP_apic_read, "rwn4z4"), C(PHYSDEVOP_apic_write, "rwn4r4"), C(PHYSDEVOP_alloc_irq_vector, "I4z4"),
    C(PHYSDEVOP_free_irq_vector, "I4z4"), C(PHYSDEVOP_eoi, "I4"), C(PHYSDEVOP_map_pirq, "d2c4I4I4n4n4n4z8"),
    C(PHYSDEVOP_unmap_pirq, "d2I4"), C(PHYSDEVOP_manage_pci_add, "n1n1"), C(PHYSDEVOP_manage_pci_remove, "n1n1"),
    C(PHYSDEVOP_pirq_eoi_gmfn_v1, "mw"), C(PHYSDEVOP_restore_msi, "n1n1"), C(PHYSDEVOP_manage_pci_add_ext, "n1n1b4b4n1n1"),
    C(PHYSDEVOP_setup_gsi, "I4b1b1"), C(PHYSDEVOP_get_free_pirq, "c4z4"), C(PHYSDEVOP_pci_mmcfg_reserved, "r8n2n1n1b4"),
    C(PHYSDEVOP_pci_device_add, "z2n1n1n4n1n1n4"), C(PHYSDEVOP_pci_device_remove, "z2n1n1"), C(PHYSDEVOP_restore_msi_ext, "z2n1n1"),
    C(PHYSDEVOP_pirq_eoi_gmfn_v2, "mw"), C(PHYSDEVOP_dbgp_op, "c1c1z2n1n1"), C(PHYSDEVOP_prepare_msix, "z2n1n1"),
    C(PHYSDEVOP_release_msix, "z2n1n1"), C(PHYSDEVOP_pci_device_reset, "z2n1n1c4"),
};

static const struct command platform_commands[] = {
    C(XENPF_settime32, PLATFORM "r4r4t8"), C(XENPF_settime64, PLATFORM "r8r4z4t8"), C(XENPF_add_memtype, PLATFORM "mwr8n4r4r4"),
    C(XENPF_del_memtype, PLATFORM "n4n4"), C(XENPF_read_memtype, PLATFORM "n4mw"), C(XENPF_microcode_update, PLATFORM "awN4"),
    C(XENPF_platform_quirk, PLATFORM "n4"), C(XENPF_get_cpu_version, PLATFORM "c4"), C(XENPF_efi_runtime_call, PLATFORM "n4b4zwaw"),
    C(XENPF_efi_runtime_call, PLATFORM "n4z4zwawNwsw"), C(XENPF_efi_runtime_call, PLATFORM "n4b4zwNwsw"),
    C(XENPF_firmware_info, PLATFORM "n4n4r8r8"), C(XENPF_enter_acpi_sleep, PLATFORM "n2n2n4b4", make_sleep, .alone = true),
    C(XENPF_change_freq, PLATFORM "z4c4r8"), C(XENPF_getidletime, PLATFORM "awn4swz8"),
    C(XENPF_set_processor_pminfo, PLATFORM "c4n4n4r4awaw"), C(XENPF_get_cpuinfo, PLATFORM "c4z4z4"),
    C(XENPF_cpu_online, PLATFORM "r4"), C(XENPF_cpu_offline, PLATFORM "r4"), C(XENPF_cpu_hotadd, PLATFORM "r4r4r4"),
    C(XENPF_mem_hotadd, PLATFORM "r8r8r4r4"), C(XENPF_core_parking, PLATFORM "c4n4"), C(XENPF_resource_op, PLATFORM "c4c4aw"),
    C(XENPF_get_symbol, PLATFORM "N4N4swr8z1"), C(XENPF_get_dom0_console, PLATFORM), C(XENPF_get_ucode_revision, PLATFORM "c4"),
    C(XENPF_microcode_update2, PLATFORM "b4N4aw"),
};

static const struct command sysctl_commands[] = {
    C(XEN_SYSCTL_readconsole, SYSCTL "b1b1z1z1r4sxN4"), C(XEN_SYSCTL_tbuf_op, SYSCTL "n4z4axn4z4n4z4zxN4"), C(XEN_SYSCTL_physinfo, SYSCTL),
    C(XEN_SYSCTL_sched_id, SYSCTL), C(XEN_SYSCTL_getdomaininfolist, SYSCTL "n2n4sxz4"),
    C(XEN_SYSCTL_debug_keys, SYSCTL "axb4", make_keys, .alone = true), C(XEN_SYSCTL_getcpuinfo, SYSCTL "N4sx"),
    C(XEN_SYSCTL_cpu_hotplug, SYSCTL "r4c4", make_hotplug, .alone = true), C(XEN_SYSCTL_availheap, SYSCTL "N4N4z4"),
    C(XEN_SYSCTL_cputopoinfo, SYSCTL "n4sx"), C(XEN_SYSCTL_numainfo, SYSCTL "n4sxsx"), C(XEN_SYSCTL_pcitopoinfo, SYSCTL "n4axsx"),
    C(XEN_SYSCTL_cpupool_op, SYSCTL "n4n4n4D4c4z4sxn4"), C(XEN_SYSCTL_scheduler_op, SYSCTL "n4n4b4N4N4N4"),
    C(XEN_SYSCTL_get_cpu_levelling_caps, SYSCTL), C(XEN_SYSCTL_get_cpu_featureset, SYSCTL "n4N4sx"),
    C(XEN_SYSCTL_get_cpu_policy, SYSCTL "n4N4N4z4sxsx"),
    C(XEN_SYSCTL_get_pmstat, SYSCTL "I4c4n4z4zxsxsx"), C(XEN_SYSCTL_pm_op, SYSCTL "I4c4r4"),
    C(XEN_SYSCTL_psr_cmt_op, SYSCTL "r4r4"), C(XEN_SYSCTL_psr_alloc, SYSCTL "r4r4"),
};

static const struct command domctl_commands[] = {
    C(XEN_DOMCTL_createdomain, CONTROL, make_created, learn_created, .alone = true),
    C(XEN_DOMCTL_destroydomain, CONTROL, NULL, learn_destroyed),
    C(XEN_DOMCTL_pausedomain, CONTROL), C(XEN_DOMCTL_unpausedomain, CONTROL), C(XEN_DOMCTL_resumedomain, CONTROL),
    C(XEN_DOMCTL_getdomaininfo, CONTROL), C(XEN_DOMCTL_max_vcpus, CONTROL "n4"), C(XEN_DOMCTL_setdomainhandle, CONTROL "rxrx"),
    C(XEN_DOMCTL_setdebugging, CONTROL "b1"), C(XEN_DOMCTL_settimeoffset, CONTROL "rx"), C(XEN_DOMCTL_subscribe, CONTROL "p4"),
    C(XEN_DOMCTL_set_virq_handler, CONTROL "i4"), C(XEN_DOMCTL_setvcpucontext, CONTROL "c4", make_context),
    C(XEN_DOMCTL_getvcpucontext, CONTROL "c4", make_got_context), C(XEN_DOMCTL_getvcpuinfo, CONTROL "c4"),
    C(XEN_DOMCTL_setvcpuaffinity, CONTROL "c4n4axn4z4axn4"), C(XEN_DOMCTL_getvcpuaffinity, CONTROL "c4n4sxn4z4sxn4"),
    C(XEN_DOMCTL_setnodeaffinity, CONTROL "axn4"), C(XEN_DOMCTL_getnodeaffinity, CONTROL "sxn4"),
    C(XEN_DOMCTL_scheduler_op, CONTROL "n4c4N2N2n4sxn4", make_created, .alone = true), C(XEN_DOMCTL_sendtrigger, CONTROL "n4c4"),
    C(XEN_DOMCTL_set_ext_vcpucontext, CONTROL "c4z4r8r8z2z2b1b1"), C(XEN_DOMCTL_get_ext_vcpucontext, CONTROL "c4z4"),
    C(XEN_DOMCTL_setvcpuextstate, CONTROL "c4n8N8ax"), C(XEN_DOMCTL_getvcpuextstate, CONTROL "c4n8N8sx"),
    C(XEN_DOMCTL_set_vcpu_msrs, CONTROL "c4n4ax"), C(XEN_DOMCTL_get_vcpu_msrs, CONTROL "c4n4sx"),
    C(XEN_DOMCTL_max_mem, CONTROL "N8", make_created, .alone = true), C(XEN_DOMCTL_getpageframeinfo3, CONTROL "n8ax"),
    C(XEN_DOMCTL_shadow_op, CONTROL "n4n4n4axN8"), C(XEN_DOMCTL_hypercall_init, CONTROL "m8"),
    C(XEN_DOMCTL_set_address_size, CONTROL "N4"), C(XEN_DOMCTL_get_address_size, CONTROL), C(XEN_DOMCTL_irq_permission, CONTROL "I4b1"),
    C(XEN_DOMCTL_gsi_permission, CONTROL "I4b4"), C(XEN_DOMCTL_set_llc_colors, CONTROL "n4z4sx"), C(XEN_DOMCTL_get_domain_state, CONTROL),
    C(XEN_DOMCTL_iomem_permission, CONTROL "m8n8b1"), C(XEN_DOMCTL_ioport_permission, CONTROL "o4n4b1"),
    C(XEN_DOMCTL_assign_device, CONTROL "n4n4n4"), C(XEN_DOMCTL_test_assign_device, CONTROL "n4n4n4"),
    C(XEN_DOMCTL_deassign_device, CONTROL "n4n4n4"), C(XEN_DOMCTL_get_device_group, CONTROL "n4n4z4sx"),
    C(XEN_DOMCTL_bind_pt_irq, CONTROL "r4r4"), C(XEN_DOMCTL_unbind_pt_irq, CONTROL "r4r4"),
    C(XEN_DOMCTL_memory_mapping, CONTROL "m8m8n8b4"),
    C(XEN_DOMCTL_ioport_mapping, CONTROL "o4o4n4b4"), C(XEN_DOMCTL_gethvmcontext, CONTROL "N4sx"),
    C(XEN_DOMCTL_sethvmcontext, CONTROL "N4ax"), C(XEN_DOMCTL_gethvmcontext_partial, CONTROL "n4n4sx"),
    C(XEN_DOMCTL_get_cpu_policy, CONTROL "N4N4sxsx"), C(XEN_DOMCTL_set_cpu_policy, CONTROL "n4n4axax", make_policy),
    C(XEN_DOMCTL_settscinfo, CONTROL "c4r4r4z4r8"), C(XEN_DOMCTL_gettscinfo, CONTROL),
};

#define GROUP(name_, args_, weight_, table) { __HYPERVISOR_##name_, #name_, args_, weight_, table, ARRAY_SIZE(table), 0 }
struct group groups[] = {
    GROUP(set_trap_table, "B", 2, trap_commands),
    GROUP(mmu_update, "Bnzd", 36, mmu_commands),
    GROUP(set_gdt, "BN", 3, gdt_commands),
    GROUP(stack_switch, "rr", 1, stack_commands),
    GROUP(set_callbacks, "", 1, callbacks_commands),
    GROUP(fpu_taskswitch, "b", 1, fpu_commands),
    GROUP(sched_op_compat, "", 1, old_sched_commands),
    GROUP(platform_op, "B", 5, platform_commands),
    GROUP(set_debugreg, "", 2, set_debugreg_commands),
    GROUP(get_debugreg, "", 1, get_debugreg_commands),
    GROUP(update_descriptor, "", 5, descriptor_commands),
    GROUP(memory_op, "#B", 24, memory_commands),
    GROUP(multicall, "Bn", 2, multicall_commands),
    GROUP(update_va_mapping, "", 14, va_commands),
    GROUP(set_timer_op, "", 2, timer_commands),
    GROUP(event_channel_op_compat, "B", 2, old_event_commands),
    GROUP(xen_version, "#s", 3, version_commands),
    GROUP(console_io, "#", 1, console_commands),
    GROUP(physdev_op_compat, "B", 1, old_physdev_commands),
    GROUP(grant_table_op, "#Bn", 34, grant_commands),
    GROUP(vm_assist, "", 2, assist_commands),
    GROUP(update_va_mapping_otherdomain, "", 6, va_other_commands),
    GROUP(vcpu_op, "#vB", 10, vcpu_commands),
    GROUP(set_segment_base, "nr", 2, segment_commands),
    GROUP(mmuext_op, "Bnzd", 36, ext_commands),
    GROUP(xsm_op, "B", 1, absent_commands),
    GROUP(nmi_op, "#B", 1, absent_commands),
    GROUP(sched_op, "#B", 6, sched_commands),
    GROUP(callback_op, "#B", 2, callback_commands),
    GROUP(xenoprof_op, "#B", 1, absent_commands),
    GROUP(event_channel_op, "#B", 24, event_commands),
    GROUP(physdev_op, "#B", 10, physdev_commands),
    GROUP(hvm_op, "#B", 1, absent_commands),
    GROUP(sysctl, "Brr", 10, sysctl_commands),
    GROUP(domctl, "B", 28, domctl_commands),
    GROUP(kexec_op, "#B", 1, absent_commands),
    GROUP(argo_op, "#Brrr", 1, absent_commands),
    GROUP(xenpmu_op, "#B", 1, absent_commands),
    GROUP(hypfs_op, "#", 3, hypfs_commands),
    GROUP(pvisor_op, "#Bz", 1, pvisor_commands),
    GROUP(arch_0, "B", 1, mca_commands),
    { 54, "none", "", 1, nonsense_commands, 1, 0 },
};
const unsigned nr_groups = ARRAY_SIZE(groups);
