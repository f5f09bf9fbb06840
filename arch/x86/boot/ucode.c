/* ucode=: microcode that the boot loader brought, loaded before anybody asks what the CPU can do. */
#include <asm/boot.h>
#include <asm/features.h>
#include <asm/mm.h>
#include <public/errno.h>
#include <pvisor/cmdline.h>
#include <pvisor/lib.h>
#include <pvisor/microcode.h>
#include <pvisor/printk.h>

/* index: of a module, from the last backwards if it is below 0. The first two are dom0's. */
struct ucode_wish { bool scan, by_index; s32 index; };
static struct ucode_wish wish;

static int parse_number(const char *word, s32 *to)
{
    bool minus = *word == '-';
    const char *end;
    u64 n = strtoull(word + minus, &end, 10), first = minus ? 1 : 2;

    if (*end || end == word + minus || n < first || n > MAX_BOOT_MODULES)
        return -EINVAL;
    *to = minus ? -(s32)n : (s32)n;
    return 0;
}

static int parse_word(void *to, const char *word, size_t len)
{
    struct ucode_wish *w = to;
    char text[16];
    bool nmi;

    if (len >= sizeof(text))
        return -EINVAL;
    strlcpy(text, word, len + 1);
    if (!strncmp(text, "scan", 4) && (!text[4] || text[4] == '='))
        return cmdline_bool(text[4] ? text + 5 : "", &w->scan);
    if (!strncmp(text, "nmi=", 4))          /* how CPUs are held still in Xen: here each loads in its turn */
        return cmdline_bool(text + 4, &nmi);
    w->by_index = true;
    return parse_number(text, &w->index);
}

static int parse_ucode(const char *value)
{
    struct ucode_wish new = wish;
    int rc = cmdline_list(value, parse_word, &new);

    if (!rc)
        wish = new;
    return rc;
}
CMDLINE_OPTION("ucode", parse_ucode);

static __init void load_from(const u8 *file, size_t size, const char *what)
{
    printk(LOG_INFO "Microcode: %zu bytes in %s\n", size, what);
    /* The CPU may have learnt what it could not do when it was looked at. */
    if (!ucode_load(file, size, false))
        cpu_detect();
}

static __init void scan(void)
{
    for (unsigned i = 0; i < boot_info.nr_modules; i++) {
        const struct boot_module *m = &boot_info.module[i];
        const u8 *file;
        size_t size;

        if (!ucode_in_cpio(maddr_to_virt(m->start), m->size, cpu_host.vendor == VENDOR_AMD, &file, &size))
            continue;
        load_from(file, size, "the ramdisk that is searched (ucode=scan)");
        return;
    }
    printk(LOG_WARNING "Microcode: no module begins with an archive that has any for this CPU's maker\n");
}

__init void ucode_boot(void)
{
    s32 n = wish.index < 0 ? (s32)boot_info.nr_modules + wish.index : wish.index;

    if (wish.by_index && (n < 2 || n >= (s32)boot_info.nr_modules))
        printk(LOG_WARNING "Microcode: ucode=%d is none of the %u modules, or is dom0's\n", wish.index, boot_info.nr_modules);
    else if (wish.by_index)
        load_from(maddr_to_virt(boot_info.module[n].start), boot_info.module[n].size, "a module of its own (ucode=)");
    else if (wish.scan)
        scan();
}
