#include "user.h"
#include "hypercall.h"
#include "mm.h"
#include "string.h"

word *user_data;
static u8 *code_page;
static pte_raw *user_top;

static void *add_page(unsigned number, u64 flags)
{
    void *page = page_alloc();

    if (map_at(user_page(number), virt_to_mfn(page), flags | PTE_US))
        panic("user page %u cannot be mapped", number);
    return page;
}

/* User mode of a 64-bit guest has a top level without the kernel; below slot 0 both share their tables. */
static void make_user_top(void)
{
    user_top = page_alloc();
    user_top[0] = (pte_raw)pte_get(mfn_to_virt(current_base()), 0);
    make_readonly(user_top);
}

/* Pinned anew, so that what the hypervisor puts into it is as now wanted. */
static void install_user_top(void)
{
    (void)mmuext(MMUEXT_NEW_USER_BASEPTR, 0, 0);
    (void)unpin(user_top);
    if (pin(user_top, top_level()) || mmuext(MMUEXT_NEW_USER_BASEPTR, virt_to_mfn(user_top), 0))
        panic("no user tables");
}

void user_install(void)
{
    user_init();
    if (user_top)
        install_user_top();
}

void user_init(void)
{
    if (code_page)
        return;
    code_page = add_page(USER_CODE, PTE_READ);
    add_page(USER_STACK, PTE_DATA);
    user_data = add_page(USER_DATA, PTE_DATA);
    if (top_level() == 4) {
        make_user_top();
        install_user_top();
    }
}

void user_load(const void *code, unsigned n)
{
    user_init();
    memcpy(code_page, code, n);
    code_page[n] = 0x0f; /* ud2 */
    code_page[n + 1] = 0x0b;
}

struct fault user_run_flags(const void *code, unsigned n, word flags)
{
    word sp = (word)user_page(USER_STACK) + 4096 - 64;

    user_load(code, n);
    return FAULT_IN(user_enter((word)user_page(USER_CODE), sp, flags | EFLAGS_IF, USER_CS, USER_SS));
}

struct fault user_run(const void *code, unsigned n)
{
    return user_run_flags(code, n, 0);
}
