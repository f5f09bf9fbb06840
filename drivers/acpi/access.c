/* Reaching what ACPI tables point at: memory and registers. */
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/acpi.h>
#include <pvisor/frame.h>

void *acpi_map(maddr_t a, size_t len)
{
    mfn_t first = maddr_to_mfn(a), last = maddr_to_mfn(maddr(a.v + len - 1));

    if (!len || a.v + len < a.v)
        return NULL;
    if (mfn_valid(first) && mfn_valid(last))
        return (void *)(DIRECTMAP_START + a.v);
    return ioremap(a, len);
}

int acpi_write_reg(const struct acpi_gas *reg, u32 value)
{
    volatile u32 *p;

    if (reg->space == ACPI_SPACE_IO) {
        if (reg->bit_width > 16)
            outl(reg->address, value);
        else if (reg->bit_width > 8)
            outw(reg->address, value);
        else
            outb(reg->address, value);
        return 0;
    }
    if (reg->space != ACPI_SPACE_MEMORY || !(p = acpi_map(maddr(reg->address), 4)))
        return -EOPNOTSUPP;
    if (reg->bit_width > 8)
        *p = value;
    else
        *(volatile u8 *)p = value;
    return 0;
}
