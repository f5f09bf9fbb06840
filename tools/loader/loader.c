/*
 * Starts a non-PAE kernel in a domU that the toolstack built for this program, a 32-bit PAE kernel. The real kernel, an
 * ELF, is our ramdisk; what follows it in that file is its own ramdisk.
 *
 * A domain's frames may be numbered in any order. The toolstack put us, our ramdisk and its tables into the first pfns;
 * we turn the numbering by as many, so that the new kernel's pfn 0 is a frame that nobody uses yet and ours are its last:
 *
 *     old pfn   0 .. used-1   used .. n-1            new pfn   0 .. n-used-1   n-used .. n-1
 *               us, tables    free                             new kernel ...  us, tables
 *
 * Then: kernel, ramdisk, frame list, start_info, 2-level tables and stack go to where a builder puts them, through one
 * page of our address space (the window); the M2P learns the new numbers; and the hypervisor is asked to make those
 * tables the domain's (public/pvisor.h). We end there, with our own tables.
 */
#include <public/arch-x86.h>
#include <public/event_channel.h>
#include <public/pvisor.h>
#include <public/sched.h>
#include <public/xen.h>
#include <pvisor/image.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include "../../common/image/internal.h"

#define BASE     0xc0000000u
#define PTE_DATA  0x63u     /* present, writable, accessed, dirty */
#define PTE_READ  0x61u
#define PTE_TABLE 0x67u     /* user, too */
#define MIB4     0x400000u

struct console_ring {
    char in[1024], out[2048];
    u32 in_cons, in_prod, out_cons, out_prod;
};

static struct start_info_l32 *old;
static const u32 *p2m;
static u32 nr_pages, used;
static char window[PAGE_SIZE] __attribute__((aligned(4096)));

/* Where things go in the new kernel's address space. */
static struct {
    struct kernel_image img;
    const u8 *initrd;
    u32 initrd_size;
    u32 v_start, v_end, v_initrd, v_p2m, v_info, v_pt, v_stack, nr_pt;
} k;

/* Kernels find their rings with the toolstack in the bootstrap mapping, behind start_info: there and here trade frames. */
static struct { u32 there, here; } trade[2];

/* --- Hypercalls --- */

static long hypercall(u32 nr, u32 a, u32 b, u32 c, u32 d)
{
    long rc;

    __asm__ volatile("int $0x82" : "=a"(rc), "+b"(a), "+c"(b), "+d"(c), "+S"(d) : "0"(nr) : "memory");
    return rc;
}

static char *map_mfn(u32 mfn)
{
    static u32 mapped = ~0u;

    if (mfn != mapped)
        hypercall(__HYPERVISOR_update_va_mapping, (u32)window, mfn << 12 | PTE_DATA, mfn >> 20, UVMF_INVLPG);
    mapped = mfn;
    return window;
}

static void say_to_log(const char *text) { hypercall(__HYPERVISOR_console_io, 0, strlen(text), (u32)text, 0); }

/*
 * To the domain's console too. Only for words that end it: the console's other end answers by an event, whenever it comes
 * to it, and the kernel that we start must find the console as new as in a new domain.
 */
static void say(const char *text)
{
    u32 len = strlen(text);
    struct evtchn_send send = { .port = old->console_evtchn };
    struct console_ring *ring;

    say_to_log(text);
    ring = (struct console_ring *)map_mfn((u32)old->console_mfn);
    for (u32 i = 0; i < len && ring->out_prod - ring->out_cons < sizeof(ring->out); i++) {
        if (text[i] == '\n')
            ring->out[ring->out_prod++ % sizeof(ring->out)] = '\r';
        ring->out[ring->out_prod++ % sizeof(ring->out)] = text[i];
    }
    hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_send, (u32)&send, 0, 0);
}

static noreturn_fn void fail(const char *what)
{
    u32 reason = SHUTDOWN_crash;

    say("pvisor loader: ");
    say(what);
    say("\n");
    for (;;)
        hypercall(__HYPERVISOR_sched_op, SCHEDOP_shutdown, (u32)&reason, 0, 0);
}

/* --- Memory under its new numbers --- */

static u32 new_mfn(u32 pfn)
{
    if (pfn >= nr_pages)
        fail("the domain has too little memory for this kernel (memory=)");
    for (u32 i = 0; i < ARRAY_SIZE(trade); i++) {
        if (pfn == trade[i].there || pfn == trade[i].here) {
            pfn ^= trade[i].there ^ trade[i].here;
            break;
        }
    }
    return p2m[pfn + used < nr_pages ? pfn + used : pfn + used - nr_pages];
}

static u32 pfn_of(u32 va) { return (va - k.v_start) >> 12; }

/* Gives the frame m, one of ours, the new number pfn. */
static void trade_places(u32 i, u32 m, u32 pfn)
{
    u32 at = 0;

    while (at < used && p2m[at] != m)
        at++;
    if (at == used)
        return;
    trade[i].there = nr_pages - used + at;
    trade[i].here = pfn;
}

static int put(void *ctx, u64 va, const void *src, u64 len)
{
    const char *from = src;

    (void)ctx;
    while (len) {
        u32 at = (u32)va & 0xfff, n = (u32)min(len, (u64)(4096 - at)), pfn = pfn_of((u32)va);

        if (pfn >= nr_pages - used)
            fail("the domain has too little memory for this kernel (memory=)");
        if (from)
            memcpy(map_mfn(new_mfn(pfn)) + at, from, n);
        else
            memset(map_mfn(new_mfn(pfn)) + at, 0, n);
        va += n;
        len -= n;
        from = from ? from + n : NULL;
    }
    return 0;
}

static void renumber_m2p(void)
{
    static struct mmu_update batch[64];

    for (u32 pfn = 0; pfn < nr_pages;) {
        u32 n = 0;

        for (; n < ARRAY_SIZE(batch) && pfn < nr_pages; n++, pfn++)
            batch[n] = (struct mmu_update){ (u64)new_mfn(pfn) << 12 | MMU_MACHPHYS_UPDATE, pfn };
        if (hypercall(__HYPERVISOR_mmu_update, (u32)batch, n, 0, DOMID_SELF))
            fail("the machine-to-physical table cannot be changed");
    }
}

/* --- The kernel file --- */

/* Where the ELF ends: the last byte that a header of it speaks of. */
static u32 elf_end(const u8 *file, u32 size)
{
    struct elf e;
    struct elf_segment seg;
    struct elf_section sec;
    u64 end;

    if (elf_open(&e, file, size, NULL))
        return size;
    end = max(e.phoff + (u64)e.phentsize * e.phnum, e.shoff + (u64)e.shentsize * e.shnum);
    for (unsigned i = 0; i < e.phnum; i++)
        if (!elf_segment(&e, i, &seg, NULL))
            end = max(end, seg.offset + seg.filesz);
    for (unsigned i = 0; i < e.shnum; i++)
        if (elf_section_type(&e, i) != SHT_NOBITS && !elf_section(&e, i, &sec, NULL))
            end = max(end, sec.offset + sec.size);
    return (u32)min(end, (u64)size);
}

static void find_kernel(void)
{
    static struct image_error err;
    const u8 *file = (const u8 *)old->mod_start;
    u32 size = old->mod_len, end;

    if (!size)
        fail("no kernel: give the real kernel as ramdisk= in the domain's configuration");
    if (size > 1 && file[0] == 0x1f && file[1] == 0x8b)
        fail("the kernel is gzipped, and xl of Xen 4.20 and later leaves that to us: gunzip it for ramdisk=");
    if (image_parse(file, size, &k.img, &err))
        fail(err.text);
    if (k.img.format != PT32)
        fail("the kernel is none without PAE; give it as kernel= without this loader");
    end = elf_end(file, size);
    k.initrd = file + end;
    k.initrd_size = size - end;
    /* xl rounds up the size of what it unpacks: nothing but zeroes is no ramdisk. */
    for (end = k.initrd_size; end && !k.initrd[end - 1];)
        end--;
    if (!end)
        k.initrd_size = 0;
}

/* --- Layout: as a builder's --- */

static u32 tables_for(u32 start, u32 end) { return 1 + ((end - 1) / MIB4 - start / MIB4 + 1); }

static void lay_out(void)
{
    u32 va = ((u32)k.img.virt_kend + 4095) & ~4095u;

    k.v_start = (u32)k.img.virt_base;
    k.v_initrd = va;
    va += (k.initrd_size + 4095) & ~4095u;
    k.v_p2m = va;
    va += (nr_pages * 4 + 4095) & ~4095u;
    k.v_info = va;
    k.v_pt = va + 3 * 4096;
    for (k.nr_pt = 2;; k.nr_pt++) {
        k.v_stack = k.v_pt + k.nr_pt * 4096;
        k.v_end = (k.v_stack + 4096 + (512 << 10) + MIB4 - 1) & ~(MIB4 - 1);
        if (tables_for(k.v_start, k.v_end) <= k.nr_pt)
            break;
    }
    k.nr_pt = tables_for(k.v_start, k.v_end);
    if (pfn_of(k.v_end) > nr_pages - used)
        fail("the domain has too little memory for this kernel (memory=)");
    trade_places(0, (u32)old->store_mfn, pfn_of(k.v_info) + 1);
    trade_places(1, (u32)old->console_mfn, pfn_of(k.v_info) + 2);
}

/* --- Contents --- */

static void write_p2m(void)
{
    for (u32 pfn = 0; pfn < nr_pages; pfn++) {
        u32 m = new_mfn(pfn);
        put(NULL, k.v_p2m + pfn * 4, &m, 4);
    }
}

static void write_tables(void)
{
    u32 first_pfn = pfn_of(k.v_pt), slot = k.v_start / MIB4, nr = 0;

    for (u32 base = slot * MIB4; base < k.v_end; base += MIB4, slot++) {
        u32 l1 = new_mfn(first_pfn + ++nr), *e;

        for (u32 i = 0; i < 1024; i++) {
            u32 va = base + i * 4096, pfn = pfn_of(va);
            bool table = pfn >= first_pfn && pfn < first_pfn + k.nr_pt;

            e = (u32 *)map_mfn(l1);
            e[i] = va < k.v_start || va >= k.v_end ? 0 : new_mfn(pfn) << 12 | (table ? PTE_READ : PTE_DATA);
        }
        e = (u32 *)map_mfn(new_mfn(first_pfn));
        e[slot] = l1 << 12 | PTE_TABLE;
    }
}

static void write_start_info(void)
{
    static struct start_info_l32 si;

    si = *old;
    memset(si.magic, 0, sizeof(si.magic));
    strlcpy(si.magic, "xen-3.0-x86_32", sizeof(si.magic));
    si.pt_base = k.v_pt;
    si.nr_pt_frames = k.nr_pt;
    si.mfn_list = k.v_p2m;
    si.mod_start = k.initrd_size ? k.v_initrd : 0;
    si.mod_len = k.initrd_size;
    put(NULL, k.v_info, &si, sizeof(si));
}

/* mov eax, number; int 0x82; ret. The iret call pushes eax first and does not come back. */
static void write_hypercall_page(void)
{
    static u8 page[PAGE_SIZE];

    memset(page, 0xcc, sizeof(page));
    for (u32 i = 0; i < 128; i++) {
        u8 *p = page + i * 32;

        if (i == __HYPERVISOR_iret)
            *p++ = 0x50;
        *p++ = 0xb8;
        memcpy(p, &i, 4);
        p[4] = 0xcd;
        p[5] = 0x82;
        p[6] = 0xc3;
    }
    put(NULL, k.img.hypercall_page, page, sizeof(page));
}

/* --- The end --- */

static void unpin_ours(void)
{
    struct mmuext_op_l32 op = { .cmd = MMUEXT_UNPIN_TABLE, .arg1 = p2m[((u32)old->pt_base - BASE) >> 12] };

    if (hypercall(__HYPERVISOR_mmuext_op, (u32)&op, 1, 0, DOMID_SELF))
        fail("its own page tables cannot be unpinned");
}

/* Events as in a new domain: a kernel may open its ears before it knows a port, and wait for all pending bits to go. */
static void forget_events(void)
{
    struct shared_info_l32 *shared = (void *)map_mfn((u32)(old->shared_info >> 12));

    memset(&shared->evtchn_pending, 0, sizeof(shared->evtchn_pending));
    memset(&shared->evtchn_mask, 0, sizeof(shared->evtchn_mask));
    for (u32 i = 0; i < XEN_LEGACY_MAX_VCPUS; i++) {
        shared->vcpu_info[i].evtchn_upcall_pending = 0;
        shared->vcpu_info[i].evtchn_upcall_mask = 1;
        shared->vcpu_info[i].evtchn_pending_sel = 0;
    }
}

static void go(void)
{
    struct pvisor_switch_format s = {
        .format = PVISOR_FORMAT_NONPAE, .root_mfn = new_mfn(pfn_of(k.v_pt)), .eip = (u32)k.img.virt_entry,
        .esp = k.v_stack + 4096, .esi = k.v_info,
    };
    long rc = hypercall(__HYPERVISOR_pvisor_op, PVISOROP_switch_format, (u32)&s, 0, 0);

    fail(rc == -ENOSYS ? "this hypervisor cannot run kernels without PAE"
                       : "the hypervisor refused the change to tables without PAE; its log (xl dmesg) says why");
}

void load(struct start_info_l32 *si, u32 stack_end);
void load(struct start_info_l32 *si, u32 stack_end)
{
    static char line[256];

    old = si;
    p2m = (const u32 *)(u32)si->mfn_list;
    nr_pages = (u32)si->nr_pages;
    used = ((stack_end + 4095) & ~4095u) - BASE;
    used >>= 12;
    find_kernel();
    lay_out();
    snprintf(line, sizeof(line), "pvisor loader: non-PAE kernel %s %s, entry %#x, ramdisk %u bytes\n",
             k.img.notes.guest_os, k.img.notes.guest_version, (u32)k.img.virt_entry, k.initrd_size);
    say_to_log(line);
    if (image_load(&k.img, put, NULL))
        fail("the kernel does not fit where it wants to be");
    put(NULL, k.v_initrd, k.initrd, k.initrd_size);
    if (k.img.has_hypercall_page)
        write_hypercall_page();
    write_p2m();
    write_start_info();
    write_tables();
    renumber_m2p();
    unpin_ours();
    forget_events();
    go();
}
