#include "saved_guest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include <xen/grant_table.h>
#include <xen/sched.h>

uint32_t kind_of[NR_FRAMES];
context_t second_context;
bool (*on_suspend)(void);
void (*on_complete)(void);
uint32_t save_flags;
context_t *const its_context = (context_t *)&context;
static bool is_non_pae;

/* --- The guest --- */

uint32_t saved_frame(uint32_t pfn) { return pfn == BALLOONED ? NO_FRAME : 0x100 + pfn * 7 % NR_PFNS; }
uint32_t *words(uint32_t frame) { return (uint32_t *)memory[frame]; }

static void fill_tables(void)
{
    uint32_t *root = words(saved_frame(ROOT)), *table = words(saved_frame(TABLE));

    memset(root, 0, PAGE);
    memset(table, 0, PAGE);
    root[0] = saved_frame(TABLE) << 12 | 0x67;
    root[5] = saved_frame(ROOT) << 12 | 0x61;       /* the tables as pages */
    root[OURS] = 0x12345067;                        /* whatever the hypervisor has there */
    for (uint32_t pfn = 0; pfn < NR_PFNS; pfn++)
        table[pfn] = pfn == BALLOONED ? ABSENT : saved_frame(pfn) << 12 | 0x25;
    memcpy(words(saved_frame(OTHER_ROOT)), root, PAGE);
    kind_of[saved_frame(ROOT)] = kind_of[saved_frame(OTHER_ROOT)] = XEN_DOMCTL_PFINFO_L2TAB | XEN_DOMCTL_PFINFO_LPINTAB;
    kind_of[saved_frame(TABLE)] = XEN_DOMCTL_PFINFO_L1TAB;
}

static void fill_list(void)
{
    for (uint32_t pfn = 0; pfn < NR_PFNS; pfn++)
        words(saved_frame(LIST))[pfn] = saved_frame(pfn);
    words(saved_frame(LIST_MIDDLE))[0] = saved_frame(LIST);
    words(saved_frame(LIST_TOP))[0] = saved_frame(LIST_MIDDLE);
}

static void fill_context(void)
{
    its_context->user_regs.edx = saved_frame(START_INFO);
    its_context->gdt_frames[0] = saved_frame(GDT);
    its_context->gdt_ents = 100;
    its_context->ctrlreg[3] = xen_pfn_to_cr3_x86_32(saved_frame(ROOT));
    its_context->kernel_sp = 0xc0101000;
    second_context = *its_context;
    second_context.user_regs.edx = 0xffff;
    second_context.gdt_frames[0] = saved_frame(OTHER_GDT);
    second_context.ctrlreg[3] = xen_pfn_to_cr3_x86_32(saved_frame(OTHER_ROOT));
}

void make_guest(void)
{
    struct shared_info_x86_32 *s = (void *)memory[SHARED_INFO];
    struct start_info_x86_32 *i = (void *)memory[saved_frame(START_INFO)];

    for (uint32_t pfn = 0; pfn < NR_PFNS; pfn++)
        if (pfn != BALLOONED) {
            owned[saved_frame(pfn)] = true;
            memset(memory[saved_frame(pfn)], (int)pfn, PAGE);
        }
    i->store_mfn = STORE;           /* as a guest has them while it is suspended */
    i->console.domU.mfn = CONSOLE;
    fill_tables();
    fill_list();
    fill_context();
    s->arch.max_pfn = NR_PFNS;
    s->arch.pfn_to_mfn_frame_list_list = saved_frame(LIST_TOP);
    s->vcpu_info[3].evtchn_pending_sel = 5;
    s->vcpu_info[3].arch.cr2 = 77;
    s->evtchn_pending[1] = 1;
}

/* --- The hypervisor --- */

int xen_version(void) { return 4 << 16 | 17; }

struct xen_domctl_getdomaininfo xen_domain_info(void)
{
    count_call();
    return (struct xen_domctl_getdomaininfo){ .shared_info_frame = SHARED_INFO, .max_vcpu_id = 1,
                                              .flags = XEN_DOMINF_shutdown | SHUTDOWN_suspend << XEN_DOMINF_shutdownshift };
}

void describe(struct xen_domctl *op, uint32_t cmd)
{
    static const uint8_t some[600] = "state";

    if (cmd == XEN_DOMCTL_get_cpu_policy) {
        op->u.cpu_policy.nr_leaves = 2;
        op->u.cpu_policy.nr_msrs = 1;
    } else if (cmd == XEN_DOMCTL_getvcpuinfo) {
        op->u.getvcpuinfo.online = 1;
    } else if (cmd == XEN_DOMCTL_getvcpucontext) {
        memcpy(op->u.vcpucontext.ctxt.p, op->u.vcpucontext.vcpu ? &second_context : its_context, sizeof(*its_context));
    } else if (cmd == XEN_DOMCTL_setvcpucontext && op->u.vcpucontext.vcpu) {
        memcpy(&second_context, op->u.vcpucontext.ctxt.p, sizeof(second_context));
    } else if (cmd == XEN_DOMCTL_get_ext_vcpucontext) {
        op->u.ext_vcpucontext.size = 32;
    } else if (cmd == XEN_DOMCTL_getvcpuextstate) {
        op->u.vcpuextstate.xfeature_mask = 3;
        op->u.vcpuextstate.size = sizeof(some);
        if (op->u.vcpuextstate.buffer.p)
            memcpy(op->u.vcpuextstate.buffer.p, some, sizeof(some));
    } else if (cmd == XEN_DOMCTL_get_vcpu_msrs) {
        op->u.vcpu_msrs.msr_count = 1;
    }
}

void xen_kinds(const uint32_t *frames, uint32_t *kinds, unsigned nr)
{
    count_call();
    for (unsigned i = 0; i < nr; i++)
        kinds[i] = frames[i] < NR_FRAMES && owned[frames[i]] ? kind_of[frames[i]] : XEN_DOMCTL_PFINFO_XTAB;
}

void xen_become_non_pae(void)
{
    count_call();
    EXPECT(!next_frame && !is_non_pae);
    is_non_pae = true;
    next_frame = SHARED_INFO;
}

/* --- libxl --- */

void say_progress(const char *what, unsigned long done, unsigned long total) { (void)what, (void)done, (void)total; }
bool ask_to_suspend(void) { return !on_suspend || on_suspend(); }
bool say_static_data_done(unsigned missing) { EXPECT(missing < 4); return true; }
void say_restore_results(uint64_t store, uint64_t console) { EXPECT(owned[store] && owned[console]); }
void promise_restore_results(void) { }

void say_complete(void)
{
    put_right();
    if (on_complete)
        on_complete();
    _exit(DONE);
}

/* --- What it is afterwards --- */

uint32_t frame_now(uint32_t pfn)
{
    static uint32_t list;

    for (uint32_t f = 1; f < NR_FRAMES && !list; f++)       /* by what it says of itself */
        if (owned[f] && words(f)[LIST] == f && words(f)[BALLOONED] == NO_FRAME)
            list = f;
    EXPECT(list);
    return words(list)[pfn];
}

/* --- Runs --- */

void save_run(int fd)
{
    struct job j = { .fd = fd, .domid = 7, .flags = save_flags };

    save(&j);
}

void restore_run(int fd)
{
    struct job j = { .is_restore = true, .fd = fd, .domid = 7, .store_port = 11, .store_domid = 21, .console_port = 12,
                     .console_domid = 22 };

    memset(&second_context, 0, sizeof(second_context));
    forget_domain();
    restore(&j);
}

int restored(const uint8_t *bytes, size_t size)
{
    int fd = file_of(bytes, size), result = run_apart(restore_run, fd);

    close(fd);
    return result;
}

uint8_t *stream_from(int fd, size_t *size)
{
    uint8_t *bytes;

    *size = (size_t)lseek(fd, 0, SEEK_END);
    bytes = malloc(*size);
    assert_int_equal(pread(fd, bytes, *size, 0), *size);
    close(fd);
    return bytes;
}
