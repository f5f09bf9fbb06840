/* The firmware's memory map (UEFI specification 2.10, 7.2), as far as it is not free memory now. */
#include <asm/e820.h>
#include <asm/mm.h>
#include <pvisor/efi.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

struct efi_region efi_regions[EFI_MAX_REGIONS];
unsigned efi_nr_regions;

struct descriptor {
    u32 type, pad;
    u64 start, virtual_start, pages, attributes;
};

/* The boot loader has left boot services, and is left itself. */
static __init bool is_free(const struct descriptor *d)
{
    return !(d->attributes & EFI_MEMORY_RUNTIME) &&
           ((d->type >= EFI_LOADER_CODE && d->type <= EFI_BOOT_SERVICES_DATA) || d->type == EFI_CONVENTIONAL_MEMORY);
}

static __init void take(const struct descriptor *d)
{
    u64 pages = min(d->pages, (~0UL - d->start) >> PAGE_SHIFT);

    if (is_free(d) || !pages || table_full("pieces of the UEFI memory map", efi_nr_regions, EFI_MAX_REGIONS))
        return;
    efi_regions[efi_nr_regions++] = (struct efi_region){ d->start, d->start + (pages << PAGE_SHIFT), d->attributes, d->type };
}

__init void efi_read_map(const void *map, u32 size, u32 stride)
{
    struct descriptor d;

    efi_nr_regions = 0;
    if (stride < sizeof(d))
        return;
    for (const char *p = map, *end = p + size; (size_t)(end - p) >= sizeof(d);) {
        memcpy(&d, p, sizeof(d));
        take(&d);
        if ((size_t)(end - p) < stride)
            break;
        p += stride;
    }
}

__init void efi_reserve_memory(void)
{
    for (unsigned i = 0; i < efi_nr_regions; i++)
        if (efi_is_runtime(&efi_regions[i]))
            e820_reserve(efi_regions[i].start, efi_regions[i].end);
}

const struct efi_region *efi_region_at(u64 address)
{
    for (unsigned i = 0; i < efi_nr_regions; i++)
        if (address >= efi_regions[i].start && address < efi_regions[i].end)
            return &efi_regions[i];
    return NULL;
}
