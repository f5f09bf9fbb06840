/*
 * FIFO delivery (the design is public: "Event Channel FIFO-based ABI"). Each port has an event word in
 * pages that the guest gave; each vCPU has 16 queues, by priority, of ports that are linked through the
 * LINK fields of their words; its control block holds the queues' heads and a bitmap of the queues that
 * have something.
 *
 *      control block            event words
 *      ready  ..1.....          [P . L . |  9] --> [P . L . |  4] --> [P . L . |  0]
 *      head[p] = 7 -----------------port 7             port 9             port 4  <-- tail[p], ours alone
 *
 * The guest takes from the head: it clears LINKED and LINK, then looks at PENDING and MASKED. We add at the
 * tail: if the tail's word is still LINKED its LINK gets the new port, else the queue was empty and head
 * does. Links are only written here and never followed, so a guest that spoils its words loses its own
 * events and nothing else.
 *
 * A port is put on a queue by whoever sets its LINKED bit. That is done under the lock of the vCPU whose
 * queue it was on last (last_queue), because that queue's tail may still name the port and must forget it.
 */
#include "event.h"
#include <pvisor/frame.h>
#include <pvisor/printk.h>
#include <pvisor/steps.h>

#define PENDING (1u << EVTCHN_FIFO_PENDING)
#define LINKED  (1u << EVTCHN_FIFO_LINKED)
#define BUSY    (1u << EVTCHN_FIFO_BUSY)

#define FIFO_QUEUE(vcpu, priority) ((u16)((vcpu) * NR_QUEUES + (priority)))

/* NULL while the guest has given no page for the port. */
static event_word_t guest_shared *event_word(const struct domain *d, u32 port)
{
    const struct fifo_domain *fd = d->evtchn->fifo;

    if (port >= read_once(fd->nr_words))
        return NULL;
    return (event_word_t guest_shared *)fd->page[port / WORDS_PER_PAGE].p + port % WORDS_PER_PAGE;
}

/*
 * Stores port in the LINK field of the tail's word, if that is LINKED. The guest may change other bits at
 * any time; BUSY asks it to hold on. One that never does keeps us no longer than this loop, and loses the
 * event.
 */
static bool set_link(struct domain *d, event_word_t guest_shared *tail_word, u32 port)
{
    event_word_t w = read_shared_again(*tail_word);     /* where to begin; what is decided by it holds by compare-and-exchange */

    for (unsigned i = 0; i < 8; i++) {
        if (!(w & LINKED)) {
            if (i > 0)
                atomic_and(tail_word, ~BUSY);
            return false;
        }
        if (try_cmpxchg(tail_word, &w, (w & ~(BUSY | EVTCHN_FIFO_LINK_MASK)) | port))
            return true;
        if (i == 0)
            w = __atomic_or_fetch(tail_word, BUSY, __ATOMIC_SEQ_CST);
    }
    atomic_and(tail_word, ~BUSY);
    domain_log(d, "event word of a queue's tail changes too fast, port %u is lost", port);    /* whoever sends */
    return true;
}

/* True if the queue was empty. With f's lock held. */
static bool append(struct domain *d, struct fifo_vcpu *f, unsigned priority, u32 port)
{
    u32 tail = f->tail[priority];

    f->tail[priority] = port;
    if (tail && set_link(d, event_word(d, tail), port))
        return false;
    write_shared(f->cb->head[priority], port);
    return true;
}

/*
 * Locks the vCPU whose queue chn was on last. last_queue changes only under that lock; while it does, other
 * CPUs make progress, and a guest would have to arrange for that every time: NULL after a few.
 */
static struct fifo_vcpu *lock_last_queue(const struct domain *d, const struct evtchn *chn, u64 *flags)
{
    for (unsigned i = 0; i < 8; i++) {
        u16 last = read_once(chn->last_queue);
        struct fifo_vcpu *f = d->vcpu[last / NR_QUEUES]->fifo;

        *flags = spin_lock_irqsave(&f->lock);
        if (likely(last == read_once(chn->last_queue)))
            return f;
        spin_unlock_irqrestore(&f->lock, *flags);
    }
    return NULL;
}

static void link_event(struct vcpu *v, struct evtchn *chn, event_word_t guest_shared *word)
{
    struct domain *d = v->domain;
    u8 priority = read_once(chn->priority);
    struct fifo_vcpu *f, *to = v->fifo;
    u32 *old_tail;
    bool was_empty;
    u64 flags;

    if (unlikely(!to || !read_once(to->cb)))
        return;                 /* the guest may not unmask before it names a control block */
    f = lock_last_queue(d, chn, &flags);
    if (unlikely(!f))
        return;
    if (test_and_set_bit(EVTCHN_FIFO_LINKED, shared_raw(word))) {
        spin_unlock_irqrestore(&f->lock, flags);
        return;
    }
    old_tail = &f->tail[chn->last_queue % NR_QUEUES];
    if (*old_tail == chn->port)
        *old_tail = 0;
    write_once(chn->last_queue, FIFO_QUEUE(v->id, priority));
    if (unlikely(f != to)) {
        /* Meanwhile the port is LINKED and no queue's tail, so nobody else touches it. */
        spin_unlock_irqrestore(&f->lock, flags);
        flags = spin_lock_irqsave(&to->lock);
    }
    was_empty = append(d, to, priority, chn->port);
    spin_unlock_irqrestore(&to->lock, flags);
    if (was_empty && !test_and_set_bit(priority, shared_raw(&to->cb->ready)))
        vcpu_mark_events_pending(v);
}

void fifo_set_pending(struct vcpu *v, struct evtchn *chn)
{
    struct domain *d = v->domain;
    event_word_t guest_shared *word = event_word(d, chn->port);
    event_word_t w;

    if (unlikely(!word)) {
        (void)xchg(&chn->pending, true);
        /* fifo_expand_array() adds the word first and looks at the flag then. */
        word = event_word(d, chn->port);
        if (!word || !xchg(&chn->pending, false))
            return;
    }
    w = __atomic_fetch_or(word, PENDING, __ATOMIC_SEQ_CST);
    if (!(w & ((1u << EVTCHN_FIFO_MASKED) | LINKED)))
        link_event(v, chn, word);
    if (!(w & PENDING))
        evtchn_wake_pollers(d, chn->port);
}

static void clear_pending(struct domain *d, struct evtchn *chn)
{
    event_word_t guest_shared *word = event_word(d, chn->port);

    write_once(chn->pending, false);
    if (word)
        atomic_and(word, ~PENDING);
}

static void unmask(struct vcpu *v, struct evtchn *chn)
{
    event_word_t guest_shared *word = event_word(v->domain, chn->port);

    if (!word)
        return;
    clear_bit(EVTCHN_FIFO_MASKED, shared_raw(word));
    if (test_bit(EVTCHN_FIFO_PENDING, shared_raw(word)))
        fifo_set_pending(v, chn);
}

static bool word_bit(const struct domain *d, const struct evtchn *chn, unsigned bit, bool without_word)
{
    const event_word_t guest_shared *word = event_word(d, chn->port);

    return word ? test_bit(bit, shared_raw(word)) : without_word;
}

static bool is_pending(const struct domain *d, const struct evtchn *chn)
{
    return word_bit(d, chn, EVTCHN_FIFO_PENDING, read_once(chn->pending));
}

static bool is_masked(const struct domain *d, const struct evtchn *chn)
{
    return word_bit(d, chn, EVTCHN_FIFO_MASKED, true);
}

static bool is_linked(const struct domain *d, const struct evtchn *chn)
{
    return word_bit(d, chn, EVTCHN_FIFO_LINKED, false);
}

static u32 nr_ports(const struct domain *)
{
    return EVTCHN_FIFO_NR_CHANNELS;
}

const struct evtchn_format evtchn_fifo = {
    .name = "FIFO",
    .clear_pending = clear_pending,
    .unmask = unmask,
    .is_pending = is_pending,
    .is_masked = is_masked,
    .is_busy = is_linked,
    .nr_ports = nr_ports,
};

/* --- Setting up ------------------------------------------------------------------------------------ */

static int page_take(struct domain *d, u64 gfn, struct guest_page *page)
{
    page->mfn = mfn(gfn);
    if (!mfn_valid(page->mfn) || frame_get_writable(page->mfn, d) != 0)
        return refuse(-EINVAL, "frame %#lx is not a writable one of d%u", gfn, d->id);
    page->p = map_frame(page->mfn);
    return 0;
}

static void page_give_back(struct guest_page *page)
{
    if (!page->p)
        return;
    unmap_frame(page->p);
    frame_put_writable(page->mfn);
    page->p = NULL;
}

static int make_queues(struct domain *d)
{
    struct evtchn_domain *ed = d->evtchn;
    struct vcpu *v;

    if (!ed->fifo)
        ed->fifo = xzalloc(struct fifo_domain);
    if (!ed->fifo)
        return -ENOMEM;
    for_each_vcpu(d, v) {
        struct fifo_vcpu *f = v->fifo;

        if (f)
            continue;
        f = xzalloc(struct fifo_vcpu);
        if (!f)
            return -ENOMEM;
        spin_lock_init(&f->lock, RANK_FIFO);
        v->fifo = f;
    }
    return 0;
}

/*
 * Ports bound so far get default settings; what is pending stays so until the port has a word. They are among those that two levels have.
 * One beyond may have a queue from before a reset as its last: that vCPU is still there, and has no tail that names the port.
 */
static void switch_to_fifo(struct domain *d)
{
    struct evtchn_domain *ed = d->evtchn;
    u32 end = min(ed->nr_ports, evtchn_two_level.nr_ports(d));

    steps_add(end / 2);
    for (u32 port = 1; port < end; port++) {
        write_once(evtchn_at(d, port)->priority, EVTCHN_FIFO_PRIORITY_DEFAULT);
        write_once(evtchn_at(d, port)->last_queue, 0);
    }
    smp_wmb();
    write_once(ed->format, &evtchn_fifo);
    atomic_or(&d->event_watch, WATCH_FORMAT);       /* a full barrier: look_further() in two_level.c */
    for (u32 port = 1; port < end; port++) {
        struct evtchn *chn = evtchn_at(d, port);

        if (evtchn_is_open(chn) && two_level_take_pending(d, chn)) {
            evtchn_deliver(d, chn);
            evtchn_wake_pollers(d, port);       /* who looked for the bit when it had gone; there is no word yet whose change wakes it */
        }
    }
}

int fifo_init_control(struct domain *d, const struct evtchn_init_control *c)
{
    struct vcpu *v = domain_vcpu(d, c->vcpu);
    struct guest_page page;
    struct fifo_vcpu *f;
    int rc;

    if (!v)
        return refuse(-ENOENT, "no vCPU %u", c->vcpu);
    if (c->offset > PAGE_SIZE - sizeof(struct evtchn_fifo_control_block) || c->offset % 8)
        return refuse(-EINVAL, "control block at offset %u, expected in one page, aligned to 8", c->offset);
    rc = page_take(d, c->control_gfn, &page);
    if (rc)
        return rc;

    spin_lock(&d->evtchn->lock);
    rc = make_queues(d);
    f = v->fifo;
    if (rc == 0 && f->cb)
        rc = refuse(-EINVAL, "vCPU %u has a control block", c->vcpu);
    if (rc == 0) {
        f->page = page;
        write_once(f->cb, (struct evtchn_fifo_control_block guest_shared *)((u8 guest_shared *)page.p + c->offset));
        if (d->evtchn->format != &evtchn_fifo)
            switch_to_fifo(d);
    }
    spin_unlock(&d->evtchn->lock);
    if (rc)
        page_give_back(&page);
    return rc;
}

static int add_words(struct domain *d, struct guest_page page)
{
    struct fifo_domain *fd = d->evtchn->fifo;
    u32 first = fd->nr_words;

    if (first >= EVTCHN_FIFO_NR_CHANNELS)
        return refuse(-ENOSPC, "the event array is complete");
    fd->page[first / WORDS_PER_PAGE] = page;
    smp_wmb();
    write_once(fd->nr_words, first + WORDS_PER_PAGE);
    smp_mb();
    for (u32 port = first; port < fd->nr_words && port < d->evtchn->nr_ports; port++) {
        struct evtchn *chn = evtchn_at(d, port);

        if (evtchn_is_open(chn) && xchg(&chn->pending, false))
            evtchn_deliver(d, chn);
    }
    return 0;
}

int fifo_expand_array(struct domain *d, u64 gfn)
{
    struct guest_page page;
    int rc = page_take(d, gfn, &page);

    if (rc)
        return rc;
    spin_lock(&d->evtchn->lock);
    if (d->evtchn->format == &evtchn_fifo)
        rc = add_words(d, page);
    else
        rc = refuse(-EOPNOTSUPP, "init_control comes first");
    spin_unlock(&d->evtchn->lock);
    if (rc)
        page_give_back(&page);
    return rc;
}

int fifo_set_priority(struct domain *d, u32 port, u32 priority)
{
    struct evtchn *chn = evtchn_at(d, port);
    bool open;

    if (!chn)
        return refuse(-EINVAL, "no port %u", port);
    if (evtchn_format(d) != &evtchn_fifo)
        return refuse(-ENOSYS, "two-level channels have no priorities");
    if (priority > EVTCHN_FIFO_PRIORITY_MIN)
        return refuse(-EINVAL, "priority %u, expected at most %u", priority, EVTCHN_FIFO_PRIORITY_MIN);
    spin_lock(&chn->lock);
    open = evtchn_is_open(chn);
    if (open)
        write_once(chn->priority, (u8)priority);
    spin_unlock(&chn->lock);
    return open ? 0 : refuse(-EINVAL, "port %u is not open", port);
}

void fifo_destroy(struct domain *d)
{
    struct evtchn_domain *ed = d->evtchn;
    struct vcpu *v;

    ASSERT(spin_is_held(&ed->lock) && !ed->nr_active);
    write_once(ed->format, &evtchn_two_level);
    atomic_and(&d->event_watch, (u8)~WATCH_FORMAT);
    if (!ed->fifo)
        return;
    for_each_vcpu(d, v) {
        struct fifo_vcpu *f = v->fifo;

        v->fifo = NULL;
        if (f)
            page_give_back(&f->page);
        xfree(f);
    }
    for (u32 i = 0; i < MAX_PAGES; i++)
        page_give_back(&ed->fifo->page[i]);
    xfree(ed->fifo);
    ed->fifo = NULL;
}

void evtchn_for_frames(struct domain *d, void (*fn)(struct domain *d, mfn_t m))
{
    struct evtchn_domain *ed = d->evtchn;
    struct vcpu *v;

    spin_lock(&ed->lock);
    for (u32 i = 0; ed->fifo && i < MAX_PAGES && ed->fifo->page[i].p; i++)
        fn(d, ed->fifo->page[i].mfn);
    for_each_vcpu(d, v)
        if (v->fifo && v->fifo->page.p)
            fn(d, v->fifo->page.mfn);
    spin_unlock(&ed->lock);
}
