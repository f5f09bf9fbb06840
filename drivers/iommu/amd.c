/* AMD's units (AMD I/O Virtualization Technology specification 48882, revision 3.07; section numbers are its). */
#include <asm/atomic.h>
#include <asm/mm.h>
#include <public/errno.h>
#include <pvisor/lib.h>
#include <pvisor/pci.h>
#include <pvisor/printk.h>
#include "driver.h"

/* Registers (3.4). */
enum { DEVICE_TABLE = 0x00, COMMANDS = 0x08, EVENTS = 0x10, CONTROL = 0x18, FEATURES = 0x30, COMMAND_HEAD = 0x2000, COMMAND_TAIL = 0x2008,
       EVENT_HEAD = 0x2010, EVENT_TAIL = 0x2018, STATUS = 0x2020 };
#define REGISTERS 0x4000
#define RING_OF_256 (8UL << 56)
#define CONTROL_ON (1UL << 0)
#define CONTROL_EVENTS (1UL << 2)
#define CONTROL_COHERENT (1UL << 10)
#define CONTROL_COMMANDS (1UL << 12)
#define CONTROL_ALL_LOGS 0x0000b00cUL       /* events, their interrupt, commands, peripheral requests */
#define CONTROL_WIDE (1UL << 17)            /* entries of interrupts have 128 bits... */
#define CONTROL_X2APIC (1UL << 50)          /* ...and name CPUs by 32 */
#define CONTROL_GUESTS 0x3e000000UL         /* interrupts that go to guests, and their log */
#define FEATURE_X2APIC (1UL << 2)
#define FEATURE_WIDE (1UL << 7)
#define STATUS_OVERFLOW (1u << 0)
#define STATUS_EVENTS (1u << 3)
#define STATUS_COMMANDS (1u << 4)

/* Device table (2.2.2.1): four words each, one for each of 65,536 source ids. */
#define TABLE_ORDER 9
#define TABLE_PAGES 512u
#define ENTRY_VALID 3UL                     /* its bits, and those of translation */
#define ENTRY_LEVELS(n) ((u64)(n) << 9)
#define ENTRY_READ_WRITE (3UL << 61)
#define ENTRY_SILENT (1UL << 34)            /* of the second word */

/* Its third word: what becomes of interrupts. Without a table those that could go by one are aborted. */
#define INTERRUPTS_MAPPED 1UL
#define INTERRUPTS_SILENT (1UL << 5)
#define INTERRUPTS_ORDER(n) ((u64)(n) << 1)
#define INTERRUPTS_BY_TABLE (2UL << 60)
#define INTERRUPTS_PASS(flags) ((u64)(flags) << 56)
#define PASS_NMI 0x04u
#define PASS_LINT1 0x80u

/* Commands (2.4): the number is in bits 60 to 63. */
#define COMMAND(n) ((u64)(n) << 60)
enum { WAIT = 1, FLUSH_ENTRY = 2, FLUSH_PAGES = 3, FLUSH_INTERRUPTS = 5 };
#define ALL_PAGES 0x7ffffffffffff003UL      /* all of a domain, and what led there */

/* Events (2.5). */
#define EVENTS_MAX 256u
enum { EVENT_PAGE_FAULT = 2, EVENT_INVALID_REQUEST = 8 };
#define EVENT_WRITE (1UL << 53)
#define EVENT_PRESENT (1UL << 52)
#define EVENT_INTERRUPT (1UL << 51)
#define EVENT_TYPE(low) ((low) >> 57 & 7)
#define TYPE_NO_INTERRUPTS 5

static bool probe(struct io_unit *u, struct io_features *f)
{
    u64 wide = FEATURE_X2APIC | FEATURE_WIDE;

    if (io_read64(u, CONTROL) == ~0UL)
        return io_cannot(u, "does not answer");
    f->levels &= 1 << 3 | 1 << 4;
    f->domains = min(f->domains, 1u << 16);
    f->remaps_x2apic &= (io_read64(u, FEATURES) & wide) == wide;
    return true;
}

/* --- Commands --- */

static struct io_command wait_command(maddr_t answer, u32 value) { return (struct io_command){ COMMAND(WAIT) | answer.v | 1, value }; }

static struct io_command flush_domain(u16 domain) { return (struct io_command){ COMMAND(FLUSH_PAGES) | (u64)domain << 32, ALL_PAGES }; }

static struct io_command flush_entry(u16 id) { return (struct io_command){ COMMAND(FLUSH_ENTRY) | id, 0 }; }

static struct io_command flush_interrupts(u16 id) { return (struct io_command){ COMMAND(FLUSH_INTERRUPTS) | id, 0 }; }

/* --- Which tables a function has --- */

static void set_entry(u64 *entry, const struct io_target *to)
{
    write_once(entry[1], to->domain);
    write_once(entry[0], ENTRY_VALID | ENTRY_READ_WRITE | (to->tables ? virt_to_maddr(to->tables->root).v | ENTRY_LEVELS(to->levels) : 0));
}

/*
 * No function's interrupts come through before it has a table, and never what names a CPU. From where IO-APICs are the chipset sends NMIs,
 * too, if the firmware says so.
 */
static void close_interrupts(struct io_unit *u)
{
    for (u32 id = 0; id < 0x10000; id++)
        u->devices[4 * id + 2] = INTERRUPTS_MAPPED;
    for (u32 i = 0; i < iommu_info.nr_scopes; i++) {
        const struct iommu_scope *s = &iommu_info.scopes[i];

        if (s->kind == IOMMU_IOAPIC && &iommu_info.units[s->unit] == u->info)
            u->devices[4 * s->first + 2] |= INTERRUPTS_PASS(s->passes & (PASS_NMI | PASS_LINT1));
    }
}

static bool make_tables(struct io_unit *u, const struct io_target *all)
{
    u->devices = alloc_pages(TABLE_ORDER);
    u->log = u->devices ? alloc_pages(IO_QUEUE_ORDER) : NULL;
    if (!u->log)
        return io_cannot(u, "has no memory for its tables");
    for (u32 id = 0; id < 0x10000; id++)
        set_entry(&u->devices[4 * id], all);
    if (u->remaps)
        close_interrupts(u);
    return true;
}

static bool silence(struct io_unit *u, u16 id)
{
    struct io_command c = flush_entry(id);
    u64 *entry = &u->devices[4 * id];

    write_once(entry[1], entry[1] | ENTRY_SILENT);
    if (u->remaps)
        write_once(entry[2], entry[2] | INTERRUPTS_SILENT);
    return io_submit(u, &c, 1);
}

/*
 * An entry has two words for this, and between the two states it lets nothing through: no levels, no right to read or write. Its interrupts
 * stay as they are.
 */
static int assign(struct io_unit *u, u16 id, const struct io_target *to)
{
    u64 *entry = &u->devices[4 * id];
    struct io_command c[] = { flush_entry(id), flush_domain((u16)entry[1]) };

    write_once(entry[0], ENTRY_VALID);
    if (!io_submit(u, c, ARRAY_SIZE(c)))
        return -EIO;
    set_entry(entry, to);
    write_once(entry[2], entry[2] & ~INTERRUPTS_SILENT);
    return io_submit(u, c, 1) ? 0 : -EIO;
}

/* --- On and off --- */

static void set_control(struct io_unit *u, u64 clear, u64 set)
{
    io_write64(u, CONTROL, (io_read64(u, CONTROL) & ~clear) | set);
}

static bool quiet(struct io_unit *u)
{
    set_control(u, CONTROL_ON | CONTROL_ALL_LOGS, 0);
    return io_wait_register(u, STATUS, STATUS_COMMANDS | STATUS_EVENTS, 0, "the end of its rings");
}

static bool start_rings(struct io_unit *u)
{
    io_write64(u, COMMANDS, virt_to_maddr(u->queue).v | RING_OF_256);
    io_write64(u, COMMAND_HEAD, 0);
    io_write64(u, COMMAND_TAIL, 0);
    u->tail = 0;
    io_write64(u, EVENTS, virt_to_maddr(u->log).v | RING_OF_256);
    io_write64(u, EVENT_HEAD, 0);
    io_write64(u, EVENT_TAIL, 0);
    /* No ring runs in a unit that is off. */
    set_control(u, 0, CONTROL_ON | CONTROL_COHERENT | CONTROL_COMMANDS | CONTROL_EVENTS);
    return io_wait_register(u, STATUS, STATUS_COMMANDS | STATUS_EVENTS, STATUS_COMMANDS | STATUS_EVENTS, "its rings");
}

/* Whatever of the firmware's the unit remembers: its tables of functions' entries are as many as its bus has, and more. */
static bool forget(struct io_unit *u, const struct io_target *all)
{
    struct io_command c[128];

    for (u32 id = 0; id < 0x10000; id += ARRAY_SIZE(c)) {
        for (u32 i = 0; i < ARRAY_SIZE(c); i++)
            c[i] = flush_entry((u16)(id + i));
        if (!io_submit(u, c, ARRAY_SIZE(c)))
            return false;
    }
    c[0] = flush_domain(all->domain);
    return io_submit(u, c, 1);
}

static bool start(struct io_unit *u, const struct io_target *all, const struct io_remapping *r)
{
    u->remaps = r;
    if (!quiet(u) || !make_tables(u, all))
        return false;
    /* What entries look like does not change in a unit that is on. */
    set_control(u, CONTROL_WIDE | CONTROL_X2APIC | CONTROL_GUESTS, r && r->x2apic ? CONTROL_WIDE | CONTROL_X2APIC : 0);
    io_write64(u, DEVICE_TABLE, virt_to_maddr(u->devices).v | (TABLE_PAGES - 1));
    return start_rings(u) && forget(u, all);
}

static void stop(struct io_unit *u) { (void)quiet(u); }

/* --- Interrupts --- */

/* Messages of a function whose number says how they are delivered, beyond fixed and arbitrated, go by no table: so there are 512. */
#define SOURCE_ORDER 9
#define MESSAGE 0xfee00000UL

static bool attach(const struct io_interrupts *t)
{
    u64 *entry = &t->unit->devices[4 * t->source], passes = entry[2] & INTERRUPTS_PASS(PASS_NMI | PASS_LINT1);
    struct io_command c[] = { flush_entry(t->source), flush_interrupts(t->source) };

    write_once(entry[2], INTERRUPTS_MAPPED | INTERRUPTS_ORDER(t->order) | virt_to_maddr(t->entries).v | INTERRUPTS_BY_TABLE | passes);
    return io_submit(t->unit, c, ARRAY_SIZE(c));
}

/* Entries (2.2.5): fixed delivery to one CPU. The wide ones have the vector, and the upper byte of the CPU's name, in the second word. */
static void set_interrupt(void *entry, const struct irq_route *r, const struct irq_source *from, bool x2apic)
{
    (void)from;
    if (x2apic)
        write_once_16(entry, (u64)(r->apic_id & 0xffffff) << 8 | 1, (u64)(r->apic_id >> 24) << 56 | r->vector);
    else
        write_once(*(u32 *)entry, (u32)r->vector << 16 | (r->apic_id & 0xff) << 8 | 1);
}

/* The number is where the vector would be, and how it is delivered. */
static struct msi_message message(u16 index, struct irq_route r)
{
    (void)r;
    return (struct msi_message){ .address = MESSAGE, .data = index };
}

static struct io_command flush_interrupt(const struct io_interrupts *t, u16 index)
{
    (void)index;
    return flush_interrupts(t->source);
}

/* --- Events --- */

static void take_fault(struct io_unit *u, u64 low, u64 address)
{
    bool present = low & EVENT_PRESENT;

    if (low & EVENT_INTERRUPT)
        io_fault(u, (u16)low, "interrupt", address, present ? "it may not be sent like this" : "there is no such interrupt");
    else
        io_fault(u, (u16)low, low & EVENT_WRITE ? "write" : "read", address,
                 present ? "it may not be accessed like this" : "it may not be accessed");
}

static void take_event(struct io_unit *u, u64 low, u64 address)
{
    static const char *const kinds[] = {
        [1] = "its entry makes no sense", [3] = "its entry cannot be read", [4] = "a table cannot be read",
        [8] = "there are no such requests" };
    u8 code = (u8)(low >> 60);

    if (code == EVENT_PAGE_FAULT)
        take_fault(u, low, address);
    else if (code == EVENT_INVALID_REQUEST && EVENT_TYPE(low) == TYPE_NO_INTERRUPTS)
        io_fault(u, (u16)low, "interrupt", address, "it has none");
    else if (code < ARRAY_SIZE(kinds) && kinds[code])
        io_fault(u, (u16)low, code != EVENT_INVALID_REQUEST && low & EVENT_INTERRUPT ? "interrupt" : "request", address, kinds[code]);
    else if (io_may_tell())
        printk(LOG_WARNING "IOMMU: the unit at %#lx reports event %u: %#lx %#lx\n", u->info->registers.v, code, low, address);
}

/* The log is full: what came since is lost, and it must be begun anew. */
static void restart_log(struct io_unit *u)
{
    set_control(u, CONTROL_EVENTS, 0);
    if (!io_wait_register(u, STATUS, STATUS_EVENTS, 0, "the end of its log"))
        return;
    io_write64(u, STATUS, STATUS_OVERFLOW);
    io_write64(u, EVENT_HEAD, 0);
    io_write64(u, EVENT_TAIL, 0);
    set_control(u, 0, CONTROL_EVENTS);
}

static void poll(struct io_unit *u)
{
    u32 head = (u32)io_read64(u, EVENT_HEAD) / 16 % EVENTS_MAX, tail = (u32)io_read64(u, EVENT_TAIL) / 16 % EVENTS_MAX;

    for (; head != tail; head = (head + 1) % EVENTS_MAX)
        take_event(u, read_once(u->log[2 * head]), read_once(u->log[2 * head + 1]));
    io_write64(u, EVENT_HEAD, head * 16);
    if (io_read64(u, STATUS) & STATUS_OVERFLOW)
        restart_log(u);
}

const struct io_driver amd_driver = {
    .name = "AMD-Vi", .format = &amd_format, .registers = REGISTERS, .tail_register = COMMAND_TAIL, .source_order = SOURCE_ORDER,
    .interrupt_bytes = { 2, 4 }, .lines_need_eoi = true, .probe = probe, .start = start, .stop = stop, .assign = assign,
    .wait = wait_command, .flush_domain = flush_domain, .attach = attach, .set_interrupt = set_interrupt, .message = message,
    .flush_interrupt = flush_interrupt, .poll = poll, .silence = silence,
};
