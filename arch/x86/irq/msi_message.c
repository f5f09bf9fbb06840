/* The message of an MSI. Apart from the rest so that host tests can check it. */
#include "internal.h"

#define MSI_ADDRESS 0xfee00000UL

/* Physical destination, no redirection hint; fixed delivery, edge. */
struct msi_message msi_compose(u32 apic_id, u8 vector)
{
    return (struct msi_message){ .address = MSI_ADDRESS | (u64)(apic_id & 0xff) << 12, .data = vector };
}
