/* The hypercall page. Not with the kernels' files (common/image), whose code is gone once dom0 runs. */
#include <public/xen.h>
#include <pvisor/hypercall_page.h>
#include <pvisor/lib.h>

/* Numbers go in eax. 64-bit stubs keep what SYSCALL takes, rcx and r11; iret's keep rax, too, and do not come back. */
void fill_hypercall_page(bool narrow, void *page)
{
    static const u8 stub64[] = { 0x51, 0x41, 0x53, 0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3 };
    static const u8 iret64[] = { 0x51, 0x41, 0x53, 0x50, 0xb8, 0, 0, 0, 0, 0x0f, 0x05 };
    static const u8 stub32[] = { 0xb8, 0, 0, 0, 0, 0xcd, 0x82, 0xc3 };
    static const u8 iret32[] = { 0x50, 0xb8, 0, 0, 0, 0, 0xcd, 0x82 };

    memset(page, 0xcc, PAGE_SIZE);
    for (u32 i = 0; i < PAGE_SIZE / 32; i++) {
        u8 *p = (u8 *)page + i * 32;
        bool is_iret = i == __HYPERVISOR_iret;
        const u8 *code = narrow ? (is_iret ? iret32 : stub32) : (is_iret ? iret64 : stub64);
        size_t n = narrow ? (is_iret ? sizeof(iret32) : sizeof(stub32)) : (is_iret ? sizeof(iret64) : sizeof(stub64));

        memcpy(p, code, n);
        memcpy(p + (narrow ? (is_iret ? 2 : 1) : (is_iret ? 5 : 4)), &i, 4);
    }
}
