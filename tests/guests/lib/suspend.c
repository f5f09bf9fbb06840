#include "suspend.h"
#include "clock.h"
#include "events.h"
#include "hypercall.h"
#include "mm.h"
#include "traps.h"

#define PER_PAGE (4096 / sizeof(word))

static word *lists;         /* one page that names the pages below, and then these, each of which names pages of the p2m */

static word pages_of(word words) { return (words + PER_PAGE - 1) / PER_PAGE; }

/* The lists are frames' numbers, so they change with these. */
static void publish_p2m(void)
{
    word p2m_pages = pages_of(start_info->nr_pages);

    for (word i = 0; i < p2m_pages; i++)
        lists[PER_PAGE + i] = frame_at(p2m + i * PER_PAGE);
    for (word i = 0; i < pages_of(p2m_pages); i++)
        lists[i] = virt_to_mfn(lists + (i + 1) * PER_PAGE);
    write_once(shared_info->arch.max_pfn, start_info->nr_pages);
    write_once(shared_info->arch.pfn_to_mfn_frame_list_list, virt_to_mfn(lists));
}

void suspend_init(void)
{
    word nr = 1 + pages_of(pages_of(start_info->nr_pages));

    if (nr > PER_PAGE)
        panic("%lu pages of memory are too many for one list of lists", (word)start_info->nr_pages);
    lists = page_alloc();
    for (word i = 1; i < nr; i++)
        if (page_alloc() != (u8 *)lists + i * 4096)
            panic("no %lu pages in a row for the lists of the p2m", nr);
    publish_p2m();
}

static long stop(bool old_call)
{
    struct sched_shutdown arg = { .reason = SHUTDOWN_suspend };
    word mfn = virt_to_mfn(start_info);

    return old_call ? HYPERCALL(__HYPERVISOR_sched_op_compat, SCHEDOP_shutdown, SHUTDOWN_suspend, mfn)
                    : HYPERCALL(__HYPERVISOR_sched_op, SCHEDOP_shutdown, P(&arg), mfn);
}

bool suspend(bool old_call)
{
    bool is_new;

    events_off();
    start_info->store_mfn = mfn_to_pfn(start_info->store_mfn);
    start_info->console_mfn = mfn_to_pfn(start_info->console_mfn);
    mm_before_suspend();
    events_unmap();
    is_new = stop(old_call) == 0;
    mm_after_suspend();
    if (!is_new) {
        /* The tools write them for a new domain. */
        start_info->store_mfn = p2m[start_info->store_mfn];
        start_info->console_mfn = p2m[start_info->console_mfn];
    }
    events_map();
    events_off();
    if (is_new) {
        events_open_all();
        clock_after_suspend();
    }
    publish_p2m();
    events_on();
    return is_new;
}
