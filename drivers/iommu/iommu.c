/*
 * IOMMUs in use: the options, the units' rings, what devices reach, and what is said of requests that are refused.
 *
 * A space is a set of tables (asm/dma.h says what is in which); units know it by the number behind its own, since 0 means something to
 * some. Either all units translate or none does: with one that does not answer, or cannot do what is needed, the machine goes on as if it
 * had none.
 */
#include <asm/atomic.h>
#include <asm/e820.h>
#include <asm/mm.h>
#include <asm/smp.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <public/xen.h>
#include <pvisor/acpi.h>
#include <pvisor/cmdline.h>
#include <pvisor/frame.h>
#include <pvisor/irq.h>
#include <pvisor/lib.h>
#include <pvisor/pci.h>
#include <pvisor/printk.h>
#include <pvisor/time.h>
#include <pvisor/timer.h>
#include "driver.h"

#define POLL_PERIOD MILLISECS(100)
#define ANSWER_WITHIN SECONDS(1)
#define MAX_INTERRUPTS 0x8000u  /* as many as a message of VT-d's can name without the help of its data */

static struct io_unit units[IOMMU_MAX_UNITS];
static const struct io_driver *driver;      /* NULL: no IOMMU is used */
static struct io_features features;
static struct io_tables spaces[IOMMU_SPACES];       /* without root: there is none */
static u8 levels;                           /* of all of them */
static spinlock_t tables_lock = SPINLOCK_INIT(RANK_IOMMU);     /* the spaces, and which one a function is in */
static struct io_remapping remapping;
static bool remaps;                         /* interrupts go by tables */
bool iommu_on;

/* --- Options --- */

static struct options { bool on, asked, pass, strict, no_remap; } options = { .on = true };

static bool is_word(const char *word, size_t len, const char *is) { return strlen(is) == len && !strncmp(is, word, len); }

static bool is_any(const char *word, size_t len, const char *const *of, unsigned nr)
{
    while (nr)
        if (is_word(word, len, of[--nr]))
            return true;
    return false;
}

/* The words of Xen's that mean something here; each but the second kind's says that it is to be used. */
static int parse_word(void *to, const char *word, size_t len)
{
    static const char *const on[] = { "", "on", "yes", "true", "1", "enable", "force", "required", "verbose", "intremap", "qinval" };
    static const char *const off[] = { "off", "no", "false", "0", "disable" };
    struct options *o = to;

    if (is_any(word, len, off, ARRAY_SIZE(off))) {
        *o = (struct options){ 0 };
        return 0;
    }
    o->on = o->asked = true;
    if (is_word(word, len, "dom0-passthrough"))
        o->pass = true;
    else if (is_word(word, len, "dom0-strict"))
        o->strict = true;
    else if (is_word(word, len, "no-intremap"))
        o->no_remap = true;
    else if (!is_any(word, len, on, ARRAY_SIZE(on)))
        return -EINVAL;
    return 0;
}

static int parse_iommu(const char *value)
{
    struct options new = { 0 };
    int rc = cmdline_list(value, parse_word, &new);

    if (!rc)
        options = new;
    return rc;
}
CMDLINE_OPTION("iommu", parse_iommu);

/* --- Units --- */

static bool no_answer(const struct io_unit *u, const char *what)
{
    printk(LOG_ERR "IOMMU: the unit at %#lx does not answer: %s\n", u->info->registers.v, what);
    return false;
}

bool io_wait_register(struct io_unit *u, u32 reg, u32 mask, u32 want, const char *what)
{
    for (u64 until = now_ns() + ANSWER_WITHIN; (io_read32(u, reg) & mask) != want; cpu_relax())
        if (now_ns() > until)
            return no_answer(u, what);
    return true;
}

static void put_command(struct io_unit *u, struct io_command c)
{
    u->queue[u->tail] = c;
    if (!features.coherent)
        clflush_range(&u->queue[u->tail], sizeof(c));
    u->tail = (u->tail + 1) % IO_QUEUE_LENGTH;
}

static bool answered(const struct io_unit *u)
{
    for (u64 until = now_ns() + ANSWER_WITHIN; (u32)read_once(*u->answer) != u->waits; cpu_relax()) {
        if (now_ns() > until)
            return false;
        smp_call_poll();
    }
    return true;
}

bool io_cannot(const struct io_unit *u, const char *why)
{
    printk(LOG_WARNING "IOMMU: the unit at %#lx %s\n", u->info->registers.v, why);
    return false;
}

bool io_submit(struct io_unit *u, const struct io_command *commands, unsigned n)
{
    u64 flags = spin_lock_irqsave(&u->lock);
    bool ok;

    ASSERT(n < IO_QUEUE_LENGTH - 1);
    for (unsigned i = 0; i < n; i++)
        put_command(u, commands[i]);
    put_command(u, driver->wait(virt_to_maddr(u->answer), ++u->waits));
    io_write64(u, driver->tail_register, u->tail * sizeof(*u->queue));
    ok = answered(u);
    spin_unlock_irqrestore(&u->lock, flags);
    return ok || no_answer(u, "its queue");
}

static bool in_ram(maddr_t start, u64 end)
{
    for (unsigned i = 0; i < host_e820_nr; i++) {
        const struct e820_entry *e = &host_e820[i];

        if (e->type == E820_RAM && start.v < e->start + e->size && e->start < end)
            return true;
    }
    return false;
}

static bool add_unit(struct io_unit *u, const struct iommu_unit *info)
{
    *u = (struct io_unit){ .info = info, .size = (u32)driver->registers, .lock = SPINLOCK_INIT(RANK_LEAF) };
    if (in_ram(info->registers, info->registers.v + driver->registers)) {
        printk(LOG_WARNING "IOMMU: the firmware says that a unit is at %#lx, where RAM is\n", info->registers.v);
        return false;
    }
    u->registers = ioremap(info->registers, driver->registers);
    u->queue = alloc_pages(IO_QUEUE_ORDER);
    u->answer = alloc_pages(0);
    u->faults = alloc_pages(IO_FAULTS_ORDER);
    return u->registers && u->queue && u->answer && u->faults && driver->probe(u, &features);
}

static bool add_units(void)
{
    for (u32 i = 0; i < iommu_info.nr_units; i++)
        if (!add_unit(&units[i], &iommu_info.units[i]))
            return false;
    return true;
}

/* The fewest levels that reach all RAM; 0: no number does. */
static u8 choose_levels(void)
{
    for (u8 n = 3; n <= 4; n++)
        if (features.levels & 1 << n && max_ram_mfn().v < 1UL << 9 * n)
            return n;
    printk(LOG_WARNING "IOMMU: its tables cannot reach all RAM\n");
    return 0;
}

/* Nothing is used, and dom0 is told nothing of it: the tables stay for its own drivers. */
static void give_up(void)
{
    for (u32 i = 0; i < iommu_info.nr_units; i++)
        if (units[i].running)
            driver->stop(&units[i]);
    if (remaps) {
        remaps = false;
        irq_remap_by(NULL);
    }
    printk(LOG_WARNING "IOMMU: it is not used: devices reach all memory\n");
    driver = NULL;
}

void iommu_init(void)
{
    static const struct io_driver *const drivers[] = { [IOMMU_VTD] = &vtd_driver, [IOMMU_AMD] = &amd_driver };

    if (iommu_info.maker == IOMMU_NONE) {
        if (options.asked)
            printk(LOG_WARNING "IOMMU: there is none\n");
        return;
    }
    if (!options.on) {
        printk(LOG_INFO "IOMMU: it is not used, by the command line: devices reach all memory\n");
        return;
    }
    driver = drivers[iommu_info.maker];
    features = (struct io_features){ .levels = 0xff, .largest = 3, .passes = 1, .coherent = true, .snoops = true, .remaps = true,
                                      .remaps_x2apic = true, .domains = IOMMU_SPACES + 1 };
    levels = add_units() ? choose_levels() : 0;
    if (!levels || iommu_space_make(SPACE_DOM0) || iommu_space_make(SPACE_NOBODY))
        give_up();
}

bool iommu_wanted(void) { return driver != NULL; }
bool iommu_strict(void) { return options.strict && !options.pass; }
bool iommu_remaps(void) { return remaps; }
unsigned iommu_nr_spaces(void) { return features.domains - 1; }

bool iommu_registers(unsigned n, maddr_t *first, u64 *bytes)
{
    if (!driver || n >= iommu_info.nr_units)
        return false;
    *first = units[n].info->registers;
    *bytes = units[n].size;
    return true;
}

/* --- What devices reach --- */

static u16 number_of(unsigned space) { return (u16)(space + 1); }

/* What changes all the time is made of single frames: so taking one away needs no memory, which there might be none of then. */
static u8 largest_leaf(unsigned space) { return space == SPACE_DOM0 && !iommu_strict() ? features.largest : 1; }

/*
 * A domU's device that reads past the CPUs' caches may find what was another's, where our zeroes have not arrived yet. dom0's drivers know
 * what they do.
 */
static const struct io_format *format_of(unsigned space)
{
    return space != SPACE_DOM0 && features.snoops && driver->snooping ? driver->snooping : driver->format;
}

int iommu_space_make(unsigned space)
{
    int rc;

    spin_lock(&tables_lock);
    rc = io_tables_init(&spaces[space], format_of(space), levels, largest_leaf(space), features.coherent);
    spin_unlock(&tables_lock);
    return rc;
}

void iommu_flush(u64 which)
{
    struct io_command c[IOMMU_SPACES];
    unsigned n = 0;

    for (unsigned space = 0; space < IOMMU_SPACES; space++)
        if (which >> space & 1)
            c[n++] = driver->flush_domain(number_of(space));
    for (u32 i = 0; i < iommu_info.nr_units; i++)
        if (units[i].running && !io_submit(&units[i], c, n))
            panic("an IOMMU keeps what devices may no longer reach");
}

/* The lock is held. */
static int set_and_flush(unsigned space, u64 *first, u64 end, bool may)
{
    struct io_tables *t = &spaces[space];
    int rc;

    if (!t->root)
        return 0;
    rc = io_set(t, first, end, may ? IO_READ | IO_WRITE : 0);
    if (!may || t->nr_cut || features.caches_absent)
        iommu_flush(1UL << space);
    io_free_cut(t);
    return rc;
}

int iommu_set(unsigned space, u64 first, u64 end, bool may)
{
    int rc;

    do {
        spin_lock(&tables_lock);
        rc = set_and_flush(space, &first, end, may);
        spin_unlock(&tables_lock);
    } while (rc == -EAGAIN);
    return rc;
}

/* The lock is held. */
static bool reaches(unsigned space, u64 frame) { return spaces[space].root && io_lookup(&spaces[space], frame); }

int iommu_follow(unsigned space, u64 frame, bool (*may)(unsigned space, u64 frame))
{
    int rc = 0;
    bool is;

    spin_lock(&tables_lock);
    is = may(space, frame);
    if (reaches(space, frame) != is)
        rc = set_and_flush(space, &frame, frame + 1, is);
    spin_unlock(&tables_lock);
    return rc;
}

bool iommu_forget(unsigned space, u64 frame)
{
    bool is;

    spin_lock(&tables_lock);
    is = reaches(space, frame);
    if (is && io_set(&spaces[space], &frame, frame + 1, 0))
        BUG();      /* tables of single frames take no memory for that */
    spin_unlock(&tables_lock);
    return is;
}

bool iommu_reaches(unsigned space, u64 frame)
{
    bool is;

    spin_lock(&tables_lock);
    is = reaches(space, frame);
    spin_unlock(&tables_lock);
    return is;
}

/* Some of its tables at a time. The number may be another's tomorrow, so the last flush is of all. */
bool iommu_space_end(unsigned space, u64 *first)
{
    struct io_tables *t = &spaces[space];
    bool done = true;

    spin_lock(&tables_lock);
    if (t->root) {
        done = !set_and_flush(space, first, 1UL << 9 * levels, false);
        if (done)
            io_tables_free(t);
    }
    spin_unlock(&tables_lock);
    return done;
}

/* --- Which space a function is in --- */

static struct io_target target_of(unsigned space)
{
    return (struct io_target){ space == SPACE_DOM0 && options.pass ? NULL : &spaces[space], levels, number_of(space) };
}

static struct io_unit *unit_of(u32 sbdf)
{
    const struct iommu_unit *info = iommu_on ? iommu_unit_of(sbdf) : NULL;

    return info ? &units[info - iommu_info.units] : NULL;
}

static bool has_region(u32 sbdf)
{
    u16 segment = (u16)(sbdf >> 16), id = (u16)sbdf;

    for (u32 i = 0; i < iommu_info.nr_regions; i++) {
        const struct iommu_region *r = &iommu_info.regions[i];

        if ((r->any_segment || r->segment == segment) && r->first <= id && id <= r->last)
            return true;
    }
    return false;
}

static bool in_scope(const struct iommu_scope *s, u32 sbdf)
{
    u16 id = (u16)sbdf;

    return iommu_info.units[s->unit].segment == (u16)(sbdf >> 16) && s->first <= id && id <= s->last;
}

/* What says that the function's requests carry another's id; NULL: they carry its own. */
static const struct iommu_scope *alias_of(u32 sbdf)
{
    for (u32 i = 0; i < iommu_info.nr_scopes; i++) {
        const struct iommu_scope *s = &iommu_info.scopes[i];

        if (s->kind == IOMMU_FUNCTIONS && s->has_alias && s->alias != (u16)sbdf && in_scope(s, sbdf))
            return s;
    }
    return NULL;
}

/* Is it a function whose id other requests carry, too: another function's, or an IO-APIC's interrupts? */
static bool is_shared(u32 sbdf)
{
    u16 id = (u16)sbdf;

    for (u32 i = 0; i < iommu_info.nr_scopes; i++) {
        const struct iommu_scope *s = &iommu_info.scopes[i];

        if (s->kind != IOMMU_FUNCTIONS && in_scope(s, sbdf))
            return true;
        if (s->has_alias && s->alias == id && iommu_info.units[s->unit].segment == (u16)(sbdf >> 16) && !(s->first == id && s->last == id))
            return true;
    }
    return false;
}

const char *iommu_why_not(u32 sbdf)
{
    const struct pci_dev *dev = pci_find(sbdf);

    if (!iommu_on)
        return "no IOMMU is used";
    if (!unit_of(sbdf))
        return "no IOMMU translates for it";
    if (has_region(sbdf))
        return "the firmware uses it, with memory of its own";
    if (alias_of(sbdf) || is_shared(sbdf) || !dev || dev->named_by_bridge)
        return "the IOMMU cannot tell it from others";
    return dev->has_phantoms ? "its requests can have numbers that are no function's (phantom functions)" : NULL;
}

int iommu_move(u32 sbdf, unsigned space)
{
    struct io_target to = target_of(space);
    struct io_unit *u = unit_of(sbdf);
    int rc;

    if (!u)
        return 0;
    spin_lock(&tables_lock);
    rc = driver->assign(u, (u16)sbdf, &to);
    u->faults[(u16)sbdf] = 0;
    spin_unlock(&tables_lock);
    if (rc == -EIO)
        panic("an IOMMU does not learn whose " PCI_FMT " is", PCI_ARGS(sbdf));
    return rc;
}

/* --- Interrupts --- */

static struct io_interrupts *tables;        /* of interrupts: one for all, or one of each source that has had an irq */

/* Where an irq's entry is, and whose messages may use it. */
static struct slot { struct io_interrupts *table; u16 index; struct irq_source from; } *slots;

static void *entry_of(const struct slot *s)
{
    return (u8 *)s->table->entries + ((size_t)s->index << driver->interrupt_bytes[remapping.x2apic]);
}

static void flush_interrupt(const struct slot *s)
{
    struct io_command c = driver->flush_interrupt(s->table, s->index);
    bool ok = true;

    if (!features.coherent)
        clflush_range(entry_of(s), 16);
    for (u32 i = 0; i < iommu_info.nr_units; i++)
        if (!s->table->unit || s->table->unit == &units[i])
            ok = io_submit(&units[i], &c, 1) && ok;
    (void)ok;       /* what does not answer has said so; an interrupt goes astray */
}

static struct msi_message route(struct irq_route r)
{
    const struct slot *s = &slots[r.irq];

    if (!s->table)
        return msi_compose(r.apic_id, r.vector);
    driver->set_interrupt(entry_of(s), &r, &s->from, remapping.x2apic);
    flush_interrupt(s);
    return driver->message(s->index, r);
}

/* All makers' entries have the bit that lets interrupts through in their first four bytes. */
static void unroute(u32 irq)
{
    const struct slot *s = &slots[irq];

    if (!s->table)
        return;
    write_once(*(u32 *)entry_of(s), 0);
    flush_interrupt(s);
}

/* Empty; NULL without memory. */
static struct io_interrupts *make_table(struct io_unit *u, u16 source, u8 order)
{
    struct io_interrupts *t = xzalloc_bytes(sizeof(*t) + DIV_ROUND_UP(1u << order, 32) * sizeof(t->used[0]));
    unsigned bits = order + driver->interrupt_bytes[remapping.x2apic];

    if (!t)
        return NULL;
    t->entries = alloc_pages(bits > PAGE_SHIFT ? bits - PAGE_SHIFT : 0);
    if (!t->entries) {
        xfree(t);
        return NULL;
    }
    if (!features.coherent)
        clflush_range(t->entries, 1UL << bits);
    t->unit = u;
    t->source = source;
    t->order = order;
    t->next = tables;
    tables = t;
    return t;
}

/* The lock is held. The table of what carries this id; once made it stays, since a function that had an irq will have others. */
static struct io_interrupts *table_of_source(struct io_unit *u, u16 source)
{
    struct io_interrupts *t = tables;

    if (!driver->source_order)
        return t;
    while (t && (t->unit != u || t->source != source))
        t = t->next;
    if (t)
        return t;
    t = make_table(u, source, driver->source_order);
    if (t)
        (void)driver->attach(t);    /* a unit that does not answer has said so */
    return t;
}

/* The lock is held. */
static int take_entry(struct slot *s, struct io_interrupts *t)
{
    if (!t)
        return -ENOMEM;
    for (u32 i = 0; i < 1u << t->order; i++)
        if (!test_and_set_bit(i, t->used)) {
            s->index = (u16)i;
            s->table = t;
            return 0;
        }
    return -ENOSPC;
}

/* The firmware's word for what requests of a function carry; an old bus's bridge gives them its bus's first name. */
static u16 carried_by(struct irq_source from)
{
    const struct iommu_scope *s = alias_of(from.sbdf);

    return s ? s->alias : from.any_of_bus ? (u16)from.sbdf & 0xff00 : (u16)from.sbdf;
}

static int claim_behind(struct io_unit *u, u32 irq, struct irq_source from)
{
    struct slot *s = &slots[irq];
    int rc;

    spin_lock(&tables_lock);
    s->from = from;
    rc = take_entry(s, table_of_source(u, carried_by(from)));
    spin_unlock(&tables_lock);
    return rc;
}

/* What no unit is for sends as if there were none. */
static int claim(u32 irq, struct irq_source from)
{
    const struct iommu_unit *info = iommu_unit_of(from.sbdf);

    return info ? claim_behind(&units[info - iommu_info.units], irq, from) : 0;
}

static void release(u32 irq)
{
    struct slot *s = &slots[irq];

    if (!s->table)
        return;
    unroute(irq);
    spin_lock(&tables_lock);
    clear_bit(s->index, s->table->used);
    s->table = NULL;
    spin_unlock(&tables_lock);
}

static const struct iommu_scope *ioapic_scope(int id)
{
    for (u32 i = 0; i < iommu_info.nr_scopes; i++)
        if (iommu_info.scopes[i].kind == IOMMU_IOAPIC && iommu_info.scopes[i].id == id)
            return &iommu_info.scopes[i];
    return NULL;
}

/* Each line has an entry from now on; false: there is no memory, or there are too many. */
static bool claim_lines(void)
{
    for (u32 gsi = 0; gsi < nr_gsis; gsi++) {
        const struct iommu_scope *s = ioapic_scope(ioapic_id(gsi));
        struct irq_source from = { 0 };

        if (!s)
            continue;
        from.sbdf = PCI_SBDF(iommu_info.units[s->unit].segment, 0, 0) | s->first;
        if (claim_behind(&units[s->unit], gsi, from))
            return false;
    }
    return true;
}

/* NULL: interrupts can be remapped; else why not. */
static const char *why_not_remap(void)
{
    if (options.no_remap)
        return "by the command line";
    if (!features.remaps || !iommu_info.remaps_interrupts)
        return "it cannot do that here";
    if (lapic_is_x2apic() && !features.remaps_x2apic)
        return "it cannot do that in x2APIC mode";
    if (nr_irqs > MAX_INTERRUPTS)
        return "there are too many interrupts";
    if (driver->lines_need_eoi && !ioapics_take_eoi())
        return "an IO-APIC is too old to be told that an interrupt is over";
    for (unsigned i = 0; i < acpi_info.nr_ioapics; i++)
        if (!ioapic_scope(acpi_info.ioapic[i].id))
            return "the firmware does not say which unit an IO-APIC is behind";
    return acpi_info.nr_ioapics ? NULL : "the firmware names no IO-APIC";
}

/* Before the units are on, which are told then; false: there is no memory. */
static bool prepare_remapping(void)
{
    const char *why = why_not_remap();

    remapping = (struct io_remapping){ .x2apic = lapic_is_x2apic() };
    tables = NULL;
    slots = NULL;
    if (why) {
        printk(LOG_INFO "IOMMU: interrupts are not remapped: %s\n", why);
        return true;
    }
    slots = xzalloc_array(struct slot, nr_irqs);
    if (slots && !driver->source_order)
        remapping.common = make_table(NULL, 0, (u8)(ilog2(nr_irqs - 1) + 1));
    return slots && (remapping.common || driver->source_order);
}

static struct irq_remapper remapper = { .claim = claim, .release = release, .route = route, .unroute = unroute };

/*
 * After the units are on. What came since, before its source has learnt to send anew, is lost: no device works yet, and of ours there is
 * the console's line, which is looked at by a timer, too.
 */
static bool start_remapping(void)
{
    if (!slots)
        return true;
    if (!claim_lines())
        return false;
    remapper.lines_need_eoi = driver->lines_need_eoi;
    remaps = true;
    irq_remap_by(&remapper);
    return true;
}

/* --- On --- */

/* NULL: devices may have it. Where the firmware says that this is its own, one of its tables is wrong. */
static const char *why_no_region(const struct iommu_region *r, bool (*may_write)(u64 first, u64 last))
{
    if (in_ram(r->start, r->end.v))
        return "is RAM";
    return may_write(r->start.v >> PAGE_SHIFT, (r->end.v - 1) >> PAGE_SHIFT) ? NULL : "is what no domain may write";
}

static bool add_region(const struct iommu_region *r, bool (*may_write)(u64 first, u64 last))
{
    const char *why = why_no_region(r, may_write);

    if (!why)
        return !iommu_set(SPACE_DOM0, r->start.v >> PAGE_SHIFT, r->end.v >> PAGE_SHIFT, true);
    printk(LOG_WARNING "IOMMU: the region [%#lx, %#lx] that the firmware reserves %s: left out\n", r->start.v, r->end.v - 1, why);
    return true;
}

static bool start_units(bool (*may_write)(u64 first, u64 last))
{
    struct io_target all = target_of(SPACE_DOM0);

    if (!prepare_remapping())
        return false;
    for (u32 i = 0; i < iommu_info.nr_regions; i++)
        if (!add_region(&iommu_info.regions[i], may_write))
            return false;
    for (u32 i = 0; i < iommu_info.nr_units; i++) {
        units[i].running = true;
        if (!driver->start(&units[i], &all, slots ? &remapping : NULL))
            return false;
    }
    return start_remapping();
}

/* Many functions can do wrong at once, again and again, and each has its line here: so many at once, and then one for so many looks. */
#define LINES 40
#define LAST_LINES 4            /* of them for the last that is said of a function */
#define LOOKS_A_LINE 10
static unsigned lines_left = LINES, looks;

static void poll(void *data)
{
    struct timer *t = data;

    if (++looks % LOOKS_A_LINE == 0 && lines_left < LINES)
        lines_left++;
    for (u32 i = 0; i < iommu_info.nr_units; i++)
        driver->poll(&units[i]);
    timer_set(t, now_ns() + POLL_PERIOD);
}

/* No driver of dom0's is to find what is ours: the table's name changes, and its sum stays. */
static void hide_table(void)
{
    u8 *table = (u8 *)acpi_find_table(iommu_info.maker == IOMMU_VTD ? "DMAR" : "IVRS", 0);

    table[9] = (u8)(table[9] + table[0] - 'X');
    table[0] = 'X';
}

void iommu_start(bool (*may_write)(u64 first, u64 last))
{
    static struct timer timer;

    if (!driver)
        return;
    if (options.pass && !features.passes) {
        printk(LOG_WARNING "IOMMU: it cannot pass on what it does not translate: dom0-passthrough has no effect\n");
        options.pass = false;
    }
    if (!start_units(may_write)) {
        give_up();
        return;
    }
    iommu_on = true;
    hide_table();
    timer_init(&timer, poll, &timer, 0);
    timer_set(&timer, now_ns() + POLL_PERIOD);
    printk(LOG_INFO "IOMMU: on; %s, %u levels, leaves of up to %u KiB, tables of %lu KiB%s%s\n", driver->format->name, levels,
           4u << 9 * (spaces[SPACE_DOM0].largest - 1), spaces[SPACE_DOM0].nr_tables << 2, remaps ? ", interrupts are remapped" : "",
           options.pass ? "; dom0's devices reach all memory" : iommu_strict() ? "; dom0's devices reach exactly dom0's frames" : "");
}

/* --- Faults --- */

#define STORM 20                /* faults of one function within... */
#define STORM_TIME SECONDS(10)
#define SILENCED 0xff           /* instead of their number, until the function moves */

/* Each id has a number of its own, so none makes room for another by doing wrong in turn with many. */
static void forget_faults(struct io_unit *u)
{
    for (u32 id = 0; id < 1u << 16; id++)
        if (u->faults[id] != SILENCED)
            u->faults[id] = 0;
    u->faults_since = now_ns();
}

/* How many faults of the function there were lately, with this one. */
static u8 count_fault(struct io_unit *u, u16 id)
{
    if (now_ns() - u->faults_since > STORM_TIME)
        forget_faults(u);
    return u->faults[id] == SILENCED ? SILENCED : ++u->faults[id];
}

static bool may_tell(unsigned reserve) { return lines_left > reserve && lines_left--; }
bool io_may_tell(void) { return may_tell(LAST_LINES); }

/* Whose the function is, for the log. */
static const char *owner_of(u32 sbdf, char *text, size_t size)
{
    const struct pci_dev *dev = pci_find(sbdf);

    snprintf(text, size, dev && dev->owner == DOMID_IO ? "nobody" : "domain %u", dev ? dev->owner : 0);
    return text;
}

static void silence(struct io_unit *u, u16 id, u32 sbdf)
{
    bool ok;

    spin_lock(&tables_lock);
    ok = driver->silence(u, id);
    u->faults[id] = SILENCED;
    spin_unlock(&tables_lock);
    if (may_tell(0))
        printk(LOG_WARNING "IOMMU: " PCI_FMT ": %s\n", PCI_ARGS(sbdf),
               ok ? "no more is said of what it does wrong" : "it cannot be silenced");
}

void io_fault(struct io_unit *u, u16 id, const char *what, u64 address, const char *why)
{
    u32 sbdf = PCI_SBDF(u->info->segment, 0, 0) | id;
    u8 faults = count_fault(u, id);
    char owner[16];

    /* What a unit tells although the function is silenced: interrupts that are refused are none of its entry's. */
    if (faults == SILENCED)
        return;
    if (io_may_tell())
        printk(LOG_WARNING "IOMMU: " PCI_FMT " of %s: %s of %#lx refused: %s\n", PCI_ARGS(sbdf), owner_of(sbdf, owner, sizeof(owner)), what,
               address, why);
    if (faults == STORM)
        silence(u, id, sbdf);
}
