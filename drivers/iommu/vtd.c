/* Intel's units (Virtualization Technology for Directed I/O, architecture specification 4.1; section numbers are its). */
#include <asm/mm.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/lib.h>
#include <pvisor/pci.h>
#include <pvisor/printk.h>
#include "driver.h"

/* Registers (11.4). */
enum { CAP = 0x08, ECAP = 0x10, GCMD = 0x18, GSTS = 0x1c, RTADDR = 0x20, FSTS = 0x34, FECTL = 0x38, PMEN = 0x64, IQT = 0x88, IQA = 0x90,
       IRTA = 0xb8 };
#define GCMD_TE (1u << 31)
#define GCMD_SRTP (1u << 30)
#define GCMD_WBF (1u << 27)
#define GCMD_QIE (1u << 26)
#define GCMD_IRE (1u << 25)
#define GCMD_SIRTP (1u << 24)
#define GCMD_CFI (1u << 23)             /* interrupts that name a CPU come through, too */
#define GSTS_LASTING 0x96ffffffu        /* what a command must repeat of the status; the rest acts once */
#define FECTL_MASKED (1u << 31)
#define FSTS_OVERFLOW 1u
#define FSTS_PENDING 2u
#define FSTS_QUEUE_ERRORS 0x70u
#define PMEN_ON (1u << 31)
#define PMEN_STATUS 1u

#define CAP_DOMAINS(c) (1u << (4 + 2 * ((c) & 7)))
#define CAP_WRITE_BUFFERS(c) ((c) >> 4 & 1)
#define CAP_PROTECTED(c) ((c) >> 5 & 3)
#define CAP_CACHING_MODE(c) ((c) >> 7 & 1)
#define CAP_LEVELS(c) ((c) >> 8 & 31)                   /* bit 1: 3 levels, bit 2: 4 */
#define CAP_RECORDS_AT(c) (((c) >> 24 & 0x3ff) * 16)
#define CAP_LARGE(c) ((c) >> 34 & 3)
#define CAP_RECORDS(c) (((c) >> 40 & 0xff) + 1)
#define ECAP_COHERENT(e) ((e) & 1)
#define ECAP_QUEUE(e) ((e) >> 1 & 1)
#define ECAP_REMAPS(e) ((e) >> 3 & 1)
#define ECAP_X2APIC(e) ((e) >> 4 & 1)
#define IRTA_X2APIC (1UL << 11)
#define ECAP_PASS(e) ((e) >> 6 & 1)
#define ECAP_SNOOPS(e) ((e) >> 7 & 1)

/* Commands (6.5.2). */
#define COMMAND_CONTEXTS_ALL 0x11UL
#define COMMAND_IOTLB_ALL 0x12UL
#define COMMAND_IOTLB_DOMAIN 0x22UL
#define COMMAND_INTERRUPTS_ALL 0x04UL
#define COMMAND_INTERRUPT(n) (0x14UL | (u64)(n) << 32)
#define COMMAND_WAIT 0x25UL
#define DRAIN 0xc0UL                                    /* reads and writes on their way are over, too */

/* Context entries (9.3): two words, the second has the width and the domain. */
#define ENTRY_PRESENT 1UL
#define ENTRY_SILENT 2UL
#define ENTRY_PASS (2UL << 2)

#define FIRST_OF_INTERRUPTS 0x20
#define RECORD_FAULT (1u << 31)
#define REGISTERS_MAX 0x8000u

/* --- What a unit is --- */

static u32 registers_size(const struct io_unit *u)
{
    return max(PAGE_SIZE, CAP_RECORDS_AT(u->capabilities) + 16 * CAP_RECORDS(u->capabilities));
}

static bool probe(struct io_unit *u, struct io_features *f)
{
    u64 c = u->capabilities = io_read64(u, CAP), e = u->extended = io_read64(u, ECAP);

    u->size = registers_size(u);
    if (c == ~0UL || e == ~0UL || !CAP_LEVELS(c))
        return io_cannot(u, "does not answer, or translates nothing");
    if (!ECAP_QUEUE(e))
        return io_cannot(u, "has no queue of invalidations");
    if (u->size > PAGE_SIZE && u->size <= REGISTERS_MAX)
        u->registers = ioremap(u->info->registers, u->size);
    if (!u->registers || u->size > REGISTERS_MAX)
        return io_cannot(u, "has registers that cannot be mapped");
    f->levels &= CAP_LEVELS(c) << 2;
    f->largest = min(f->largest, (u8)(CAP_LARGE(c) == 3 ? 3 : CAP_LARGE(c) & 1 ? 2 : 1));
    f->coherent &= ECAP_COHERENT(e);
    f->passes &= ECAP_PASS(e);
    f->snoops &= ECAP_SNOOPS(e);
    f->remaps &= ECAP_REMAPS(e);
    f->remaps_x2apic &= ECAP_X2APIC(e);
    f->caches_absent |= CAP_CACHING_MODE(c);
    f->domains = min(f->domains, CAP_DOMAINS(c));
    return true;
}

/* --- Commands --- */

static bool command(struct io_unit *u, u32 bit, bool on, const char *what)
{
    u32 status = io_read32(u, GSTS) & GSTS_LASTING;

    io_write32(u, GCMD, on ? status | bit : status & ~bit);
    return io_wait_register(u, GSTS, bit, on ? bit : 0, what);
}

static struct io_command wait_command(maddr_t answer, u32 value)
{
    return (struct io_command){ COMMAND_WAIT | (u64)value << 32, answer.v };
}

static struct io_command flush_domain(u16 domain)
{
    return (struct io_command){ COMMAND_IOTLB_DOMAIN | DRAIN | (u64)domain << 16, 0 };
}

/* A few chips of old keep writes of ours in buffers until told. */
static bool reach_memory(struct io_unit *u)
{
    if (!CAP_WRITE_BUFFERS(u->capabilities))
        return true;
    io_write32(u, GCMD, (io_read32(u, GSTS) & GSTS_LASTING) | GCMD_WBF);
    return io_wait_register(u, GSTS, GCMD_WBF, 0, "its write buffers");
}

static void written(const struct io_unit *u, const void *p, size_t bytes)
{
    if (!ECAP_COHERENT(u->extended))
        clflush_range(p, bytes);
}

/* --- Which tables a function has --- */

static void set_context(u64 *entry, const struct io_target *to)
{
    write_once(entry[1], (u64)to->domain << 8 | (u64)(to->levels - 2));
    write_once(entry[0], ENTRY_PRESENT | (to->tables ? virt_to_maddr(to->tables->root).v : ENTRY_PASS));
}

static bool make_tables(struct io_unit *u, const struct io_target *all)
{
    u->common = alloc_pages(0);
    u->devices = u->common ? alloc_pages(0) : NULL;
    if (!u->devices)
        return io_cannot(u, "has no memory for its tables");
    for (unsigned i = 0; i < 256; i++) {
        set_context(&u->common[2 * i], all);
        u->devices[2 * i] = virt_to_maddr(u->common).v | ENTRY_PRESENT;
    }
    written(u, u->common, PAGE_SIZE);
    written(u, u->devices, PAGE_SIZE);
    return true;
}

/* The entry of one function, in a table that its bus shares with no other; NULL without memory. */
static u64 *own_context(struct io_unit *u, u16 id)
{
    u64 *root = &u->devices[2 * (id >> 8)], *table = maddr_to_virt(maddr(*root & PAGE_MASK));

    if (table == u->common) {
        table = alloc_pages(0);
        if (!table)
            return NULL;
        memcpy(table, u->common, PAGE_SIZE);
        written(u, table, PAGE_SIZE);
        write_once(*root, virt_to_maddr(table).v | ENTRY_PRESENT);
        written(u, root, 8);
    }
    return &table[2 * (id & 255)];
}

/* The entry says something else now: the unit forgets what it knows, and what is under way is over. */
static bool entry_changed(struct io_unit *u, const u64 *entry)
{
    struct io_command c[] = { { COMMAND_CONTEXTS_ALL, 0 }, { COMMAND_IOTLB_ALL | DRAIN, 0 } };

    written(u, entry, 16);
    return reach_memory(u) && io_submit(u, c, ARRAY_SIZE(c));
}

static bool silence(struct io_unit *u, u16 id)
{
    u64 *entry = own_context(u, id);

    if (!entry)
        return false;
    write_once(entry[0], entry[0] | ENTRY_SILENT);
    return entry_changed(u, entry);
}

/* An entry has two words, and between the two states it has none. */
static int assign(struct io_unit *u, u16 id, const struct io_target *to)
{
    u64 *entry = own_context(u, id);

    if (!entry)
        return -ENOMEM;
    write_once(entry[0], 0);
    if (!entry_changed(u, entry))
        return -EIO;
    set_context(entry, to);
    return entry_changed(u, entry) ? 0 : -EIO;
}

/* --- On and off --- */

/* The firmware may have left it on: with its tables until now nobody's device has worked but the firmware's. */
static bool quiet(struct io_unit *u)
{
    io_write32(u, FECTL, FECTL_MASKED);
    return command(u, GCMD_TE, false, "the end of translation") && command(u, GCMD_IRE, false, "the end of interrupt remapping") &&
           command(u, GCMD_CFI, false, "the end of interrupts that name a CPU") && command(u, GCMD_QIE, false, "the end of its queue");
}

static bool start_queue(struct io_unit *u)
{
    io_write64(u, IQT, 0);
    io_write64(u, IQA, virt_to_maddr(u->queue).v);
    u->tail = 0;
    return command(u, GCMD_QIE, true, "its queue");
}

/* Ranges that the firmware kept from devices while it was in charge. */
static bool unprotect(struct io_unit *u)
{
    if (!CAP_PROTECTED(u->capabilities) || !(io_read32(u, PMEN) & PMEN_STATUS))
        return true;
    io_write32(u, PMEN, io_read32(u, PMEN) & ~PMEN_ON);
    return io_wait_register(u, PMEN, PMEN_STATUS, 0, "the end of protected ranges");
}

static bool remap(struct io_unit *u, const struct io_remapping *r)
{
    struct io_command forget = { COMMAND_INTERRUPTS_ALL, 0 };

    io_write64(u, IRTA, virt_to_maddr(r->common->entries).v | (r->x2apic ? IRTA_X2APIC : 0) | (r->common->order - 1u));
    return command(u, GCMD_SIRTP, true, "its table of interrupts") && io_submit(u, &forget, 1) &&
           command(u, GCMD_IRE, true, "interrupt remapping");
}

static bool start(struct io_unit *u, const struct io_target *all, const struct io_remapping *r)
{
    struct io_command forget[] = { { COMMAND_CONTEXTS_ALL, 0 }, { COMMAND_IOTLB_ALL | DRAIN, 0 } };

    if (!make_tables(u, all) || !quiet(u) || !reach_memory(u) || !start_queue(u))
        return false;
    io_write64(u, RTADDR, virt_to_maddr(u->devices).v);
    return command(u, GCMD_SRTP, true, "its root table") && io_submit(u, forget, ARRAY_SIZE(forget)) &&
           command(u, GCMD_TE, true, "translation") && unprotect(u) && (!r || remap(u, r));
}

static void stop(struct io_unit *u) { (void)quiet(u); }

/* --- Interrupts --- */

/* Entries (9.9): fixed delivery to one CPU, from one function or, by old bridges, one bus. */
#define INTERRUPT_PRESENT 1UL
#define INTERRUPT_LEVEL (1UL << 4)
#define REMAPPED_MESSAGE 0xfee00010UL
#define SOURCE_ONE(id) (1UL << 18 | (id))
#define SOURCE_BUS(bus) (2UL << 18 | (u64)(bus) << 8 | (bus))

/* The second word stays as it is while the entry is an irq's, so the change of the first is one of all. */
static void set_interrupt(void *at, const struct irq_route *r, const struct irq_source *from, bool x2apic)
{
    u64 *entry = at, id = (u16)from->sbdf;
    u64 low = INTERRUPT_PRESENT | (r->level ? INTERRUPT_LEVEL : 0) | (u64)r->vector << 16 | (u64)r->apic_id << (x2apic ? 32 : 40);

    write_once(entry[1], from->any_of_bus ? SOURCE_BUS(id >> 8) : SOURCE_ONE(id));
    write_once(entry[0], low);
}

/* The number is in the address. An IO-APIC's entry has the vector, too, by which it knows EOIs (5.1.5.1). */
static struct msi_message message(u16 index, struct irq_route r)
{
    return (struct msi_message){ .address = REMAPPED_MESSAGE | (u64)index << 5, .data = r.line ? r.vector : 0 };
}

static struct io_command flush_interrupt(const struct io_interrupts *t, u16 index)
{
    (void)t;
    return (struct io_command){ COMMAND_INTERRUPT(index), 0 };
}

/* --- Faults --- */

/* Table "fault conditions" (7.1.3). */
static const char *const reasons[] = {
    [1] = "the root table has no entry for its bus", [2] = "the function has no tables", [3] = "the function's entry makes no sense",
    [4] = "beyond the width of addresses", [5] = "it may not be written", [6] = "it may not be read",
    [7] = "a table cannot be read", [8] = "the root table cannot be read", [9] = "the context table cannot be read",
    [10] = "reserved bits in the root table", [11] = "reserved bits in the context table", [12] = "reserved bits in a table",
    [0x21] = "there is no such interrupt", [0x22] = "the interrupt is nobody's", [0x25] = "it names a CPU",
    [0x26] = "the interrupt is another's",
};

static void take_record(struct io_unit *u, u32 at)
{
    u64 address = io_read64(u, at) & PAGE_MASK, high = io_read64(u, at + 8);
    u8 reason = (u8)(high >> 32);

    io_write32(u, at + 12, RECORD_FAULT);
    io_fault(u, (u16)high, reason >= FIRST_OF_INTERRUPTS ? "interrupt" : high >> 62 & 1 ? "read" : "write", address,
             reason < ARRAY_SIZE(reasons) && reasons[reason] ? reasons[reason] : "for another reason");
}

static void poll(struct io_unit *u)
{
    u32 status = io_read32(u, FSTS), nr = CAP_RECORDS(u->capabilities), first = status >> 8 & 0xff;

    if (!(status & (FSTS_PENDING | FSTS_OVERFLOW)))
        return;
    for (u32 i = 0; i < nr; i++) {
        u32 at = CAP_RECORDS_AT(u->capabilities) + 16 * ((first + i) % nr);

        if (!(io_read32(u, at + 12) & RECORD_FAULT))
            break;
        take_record(u, at);
    }
    io_write32(u, FSTS, FSTS_OVERFLOW | (status & FSTS_QUEUE_ERRORS));
}

const struct io_driver vtd_driver = {
    .name = "VT-d", .format = &vtd_format, .snooping = &vtd_snooping_format, .registers = PAGE_SIZE, .tail_register = IQT, .probe = probe,
    .interrupt_bytes = { 4, 4 }, .start = start, .stop = stop, .assign = assign, .wait = wait_command, .flush_domain = flush_domain,
    .set_interrupt = set_interrupt, .message = message, .flush_interrupt = flush_interrupt, .poll = poll, .silence = silence,
};
