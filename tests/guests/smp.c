/*
 * Several vCPUs at once, on fewer CPUs than vCPUs: each test has all of them do the same work in one address space, and
 * then looks whether the outcome is exact. Most of what is tried races on purpose; the hypervisor may refuse either side,
 * but counts, contents and the rules that hold at any moment must come out right.
 */
#include "clock.h"
#include "events.h"
#include "hypercall.h"
#include "mm.h"
#include "string.h"
#include "test.h"
#include "user.h"

#define VCPUS 4
#define PATIENCE (100000 * MS)  /* two CPUs of a busy host that wait for each other are slow */

/* ---- All vCPUs at one job ---- */

static void (*volatile job)(unsigned vcpu);
static volatile u32 job_number, jobs_done;
static volatile u32 started;
/* The first thing that was wrong on each vCPU: CHECK() is vCPU 0's alone. */
static const char *volatile complaint[VCPUS];
static volatile u64 complaint_value[VCPUS];

#define EXPECT(cond) EXPECT_VALUE(cond, 0)
#define EXPECT_VALUE(cond, value) ({                \
    bool good_ = (cond);                            \
    if (!good_ && !complaint[this_vcpu()]) {        \
        complaint_value[this_vcpu()] = (u64)(value); \
        complaint[this_vcpu()] = #cond;             \
    }                                               \
    good_;                                          \
})

static u32 count_up(volatile u32 *n) { return __atomic_add_fetch(n, 1, __ATOMIC_SEQ_CST); }
static void yield(void) { sched_op(SCHEDOP_yield, NULL); }

/* Same on every vCPU in every run, different between vCPUs. */
static u32 next_random(u32 *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

static void other_main(void)
{
    u32 seen = read_once(job_number);   /* the last to start is not to run the job that started it */

    events_on();
    count_up(&started);
    for (;;) {
        while (read_once(job_number) == seen)
            yield();
        seen = job_number;
        job(this_vcpu());
        count_up(&jobs_done);
    }
}

/* Has all vCPUs, this one too, run work(); false if one does not come back. Complaints fail the test. */
static bool on_all(void (*work)(unsigned vcpu))
{
    u64 end;
    bool good = true;

    for (unsigned i = 0; i < VCPUS; i++)
        complaint[i] = NULL;
    jobs_done = 0;
    job = work;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    job_number++;
    work(0);
    for (end = system_time() + PATIENCE; read_once(jobs_done) < VCPUS - 1 && system_time() < end;)
        yield();
    if (!CHECK_EQ(jobs_done, VCPUS - 1))
        panic("a vCPU hangs");
    for (unsigned i = 0; i < VCPUS; i++)
        if (complaint[i]) {
            printf("vCPU %u: not so: %s (value %lx)\n", i, complaint[i], (word)complaint_value[i]);
            good = CHECK(!complaint[i]);
        }
    return good;
}

#define REQUIRE_VCPUS() do { if (started < VCPUS - 1) SKIP("fewer vCPUs"); } while (0)

/* ---- Frames that tests fight over ---- */

#define FRAMES 3
static void *frames[FRAMES];

static word reservation(void)
{
    domid_t self = DOMID_SELF;

    return (word)memory_op(XENMEM_current_reservation, &self);
}

/* Frames that nothing else maps: what the test left behind is all that counts. */
static void frames_take(void)
{
    for (unsigned i = 0; i < FRAMES; i++) {
        frames[i] = page_alloc();
        make_readonly(frames[i]);
    }
}

/*
 * A frame that is given back goes only when its last reference goes: one reference too many would keep it, one
 * too few would have freed it before.
 */
static void frame_exact(void *page)
{
    word mfn = virt_to_mfn(page), before = reservation();
    GUEST(xen_memory_reservation) r = { .extent_start = P(&mfn), .nr_extents = 1, .domid = DOMID_SELF };
    word pfn = virt_to_pfn(page);

    if (!CHECK_OK(pin(page, 1)) || !CHECK_OK(unpin(page)))  /* no writable reference is left */
        return;
    CHECK_OK(unmap_at(page));
    CHECK_EQ(memory_op(XENMEM_decrease_reservation, &r), 1);
    CHECK_EQ(reservation(), before - 1);
    mfn = pfn;
    CHECK_EQ(memory_op(XENMEM_populate_physmap, &r), 1);
    CHECK_EQ(reservation(), before);
    p2m[pfn] = mfn;
    make_writable(page);
    page_free(page);
}

static void frames_exact(void)
{
    for (unsigned i = 0; i < FRAMES; i++)
        frame_exact(frames[i]);
}

/* ---- Starting ---- */

static volatile u32 winners;

static vcpu_guest_context *wanted;

static void race_to_initialise(unsigned vcpu)
{
    (void)vcpu;
    if (vcpu_op(VCPUOP_initialise, VCPUS - 1, wanted) == 0)
        count_up(&winners);
}

TEST(start)
{
    u64 end = system_time() + PATIENCE;

    if (vcpu_op(VCPUOP_is_up, VCPUS - 1, NULL) < 0)
        SKIP("fewer vCPUs");
    for (unsigned i = 1; i < VCPUS - 1; i++)
        REQUIRE_OK(vcpu_start(i, other_main));
    while (read_once(started) < VCPUS - 2 && system_time() < end)
        yield();
    REQUIRE(CHECK_EQ(started, VCPUS - 2));
    /* Those that run all try to start the last one: it takes one context. */
    wanted = vcpu_context(VCPUS - 1, other_main);
    jobs_done = 1;
    job = race_to_initialise;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    job_number++;
    race_to_initialise(0);
    for (end = system_time() + PATIENCE; jobs_done < VCPUS - 1 && system_time() < end;)
        yield();
    CHECK_EQ(winners, 1);
    REQUIRE_OK(vcpu_op(VCPUOP_up, VCPUS - 1, NULL));
    for (end = system_time() + PATIENCE; read_once(started) < VCPUS - 1 && system_time() < end;)
        yield();
    CHECK_EQ(started, VCPUS - 1);
}

static volatile u32 here_seen;

static void report_here(unsigned vcpu)
{
    EXPECT(vcpu == this_vcpu());
    __atomic_fetch_or(&here_seen, 1u << vcpu, __ATOMIC_SEQ_CST);
}

TEST(each_runs_the_job)
{
    REQUIRE_VCPUS();
    here_seen = 0;
    on_all(report_here);
    CHECK_EQ(here_seen, (1u << VCPUS) - 1);
}

/* ---- One entry, many writers ---- */

static void fight_for_entry(unsigned vcpu)
{
    u32 seed = vcpu + 1;
    void *entry = pte_at(table_of(window(0), 1), pte_index(window(0), 1));

    for (unsigned i = 0; i < 400; i++) {
        word mfn = virt_to_mfn(frames[next_random(&seed) % FRAMES]);
        u64 value = next_random(&seed) % 4 == 0 ? 0 : pte_make(mfn, next_random(&seed) % 2 ? PTE_DATA : PTE_READ);
        unsigned flush = next_random(&seed) % 3 ? UVMF_NONE : UVMF_INVLPG | UVMF_ALL;

        if (next_random(&seed) % 2)
            EXPECT(update_va_mapping(window(0), value, flush) == 0);
        else
            EXPECT(pte_update(entry, value, MMU_NORMAL_PT_UPDATE) == 0);
    }
}

TEST(one_entry)
{
    REQUIRE_VCPUS();
    frames_take();
    on_all(fight_for_entry);
    CHECK_OK(unmap_at(window(0)));
    frames_exact();
}

/* Writes past the hypervisor, which emulates them: a locked addition is one step whoever else adds. */
static void add_to_entry(unsigned vcpu)
{
    word *entry = pte_at(table_of(window(1), 1), pte_index(window(1), 1));

    (void)vcpu;
    for (unsigned i = 0; i < 200; i++)
        __atomic_fetch_add(entry, 2, __ATOMIC_SEQ_CST);     /* not present: any value goes */
}

TEST(emulated_additions)
{
    REQUIRE_VCPUS();
    CHECK_OK(unmap_at(window(1)));
    on_all(add_to_entry);
    CHECK_EQ(entry_of(window(1), 1), VCPUS * 200 * 2);
    CHECK_OK(unmap_at(window(1)));
}

static void cmpxchg_entry(unsigned vcpu)
{
    pte_raw *entry = pte_at(table_of(window(1), 1), pte_index(window(1), 1)), old, new;

    for (unsigned i = 0; i < 150; i++)
        do {
            old = *(volatile pte_raw *)entry;
            new = old + 2;
#ifdef FORMAT_PT32P
        } while (__sync_val_compare_and_swap(entry, old, new) != old);
#else
        } while (!__atomic_compare_exchange_n(entry, &old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
#endif
    (void)vcpu;
}

TEST(emulated_exchanges)
{
    REQUIRE_VCPUS();
    CHECK_OK(unmap_at(window(1)));
    on_all(cmpxchg_entry);
    CHECK_EQ(entry_of(window(1), 1), VCPUS * 150 * 2);
    CHECK_OK(unmap_at(window(1)));
}

/* ---- Tables against writable mappings ---- */

/*
 * Each frame is pinned as a table by one vCPU, and mapped writable by all, who also write where they may. While the frame is
 * a table no entry maps it writable, and no write reaches it, whatever translations a CPU had from before.
 */
static volatile u32 pins_done, maps_done;

static void pin_and_look(unsigned nth)
{
    void *page = frames[nth];

    if (pin(page, 1))
        return;
    count_up(&pins_done);
    for (unsigned i = 0; i < VCPUS; i++) {
        u64 entry = entry_of(window(16 + i), 1);

        EXPECT_VALUE(!(entry & PTE_P && entry & PTE_RW && pte_mfn(entry) == virt_to_mfn(page)), entry);
    }
    for (unsigned i = 0; i < 50; i++)
        EXPECT_VALUE(*(volatile word *)page == 0, *(volatile word *)page);
    EXPECT(unpin(page) == 0);
}

static void write_through(void *va, word mfn)
{
    if (update_va_mapping(va, pte_make(mfn, PTE_DATA), UVMF_INVLPG | UVMF_LOCAL))
        return;
    count_up(&maps_done);
    for (unsigned i = 0; i < 10; i++) {
        *(volatile word *)va = 2;
        *(volatile word *)va = 0;
    }
    /* The entry goes, the translation may stay; what is written through it must not reach a table. */
    if (!EXPECT(update_va_mapping(va, 0, UVMF_NONE) == 0))
        return;
    for (unsigned i = 0; i < 10; i++)
        (void)FAULT_IN(*(volatile word *)va = 0);
}

static void pin_against_map(unsigned vcpu)
{
    u32 seed = vcpu + 77;

    for (unsigned i = 0; i < 120; i++) {
        if (vcpu < FRAMES && i % 2)
            pin_and_look(vcpu);
        else
            write_through(window(16 + vcpu), virt_to_mfn(frames[next_random(&seed) % FRAMES]));
    }
}

TEST(tables_are_never_writable)
{
    REQUIRE_VCPUS();
    pins_done = maps_done = 0;
    frames_take();
    on_all(pin_against_map);
    CHECK(pins_done > 0);
    CHECK(maps_done > 0);
    CHECK_OK(mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0));
    frames_exact();
}

/* ---- A whole table comes and goes in one slot ---- */

static void *shared_l1[2];

/* Links one of two tables into one slot, or unlinks it, against everyone else; promotion and demotion overlap. */
static void link_tables(unsigned vcpu)
{
    u32 seed = vcpu + 5;
    void *entry = pte_at(table_of(window(0), 2), pte_index(window(0), 2) + 1);

    for (unsigned i = 0; i < 60; i++) {
        void *l1 = shared_l1[next_random(&seed) % 2];
        u64 value = next_random(&seed) % 3 ? pte_make(virt_to_mfn(l1), format.level[2].table_flags) : 0;

        EXPECT(pte_update(entry, value, MMU_NORMAL_PT_UPDATE) == 0);
        if (next_random(&seed) % 4 == 0) {
            long rc = pin(l1, 1);

            if (rc == 0)
                unpin(l1);      /* fails if another vCPU took the pin off already */
        }
    }
}

TEST(linked_tables)
{
    void *entry = pte_at(table_of(window(0), 2), pte_index(window(0), 2) + 1);

    REQUIRE_VCPUS();
    frames_take();
    for (unsigned n = 0; n < 2; n++) {
        pte_raw *l1 = shared_l1[n] = page_alloc();

        for (unsigned i = 0; i < pte_count(1); i++)
            l1[i] = (pte_raw)pte_make(virt_to_mfn(frames[i % FRAMES]), i % 2 ? PTE_DATA : PTE_READ);
        make_readonly(l1);
    }
    on_all(link_tables);
    CHECK_OK(pte_set(entry, 0));
    for (unsigned n = 0; n < 2; n++)
        unpin(shared_l1[n]);
    CHECK_OK(mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0));
    frames_exact();
    for (unsigned n = 0; n < 2; n++)
        table_free(shared_l1[n]);
}

/* Each vCPU changes between address spaces of its own, made and unmade each time, that share all tables below. */
static void *tops[VCPUS];

static void change_spaces(unsigned vcpu)
{
    void *top = tops[vcpu], *original = mfn_to_virt(current_base());

    for (unsigned i = 0; i < 25; i++) {
        if (!EXPECT(pin(top, top_level()) == 0) ||
            !EXPECT(mmuext(MMUEXT_NEW_BASEPTR, virt_to_mfn(top), 0) == 0))
            return;
        EXPECT(update_va_mapping(window(16 + vcpu), pte_make(virt_to_mfn(frames[i % FRAMES]), PTE_DATA),
                                 UVMF_INVLPG | UVMF_LOCAL) == 0);
        *(volatile word *)window(16 + vcpu) = i;
        EXPECT(update_va_mapping(window(16 + vcpu), 0, UVMF_INVLPG | UVMF_LOCAL) == 0);
        EXPECT(mmuext(MMUEXT_NEW_BASEPTR, virt_to_mfn(original), 0) == 0);
        EXPECT(unpin(top) == 0);
    }
}

TEST(address_spaces)
{
    REQUIRE_VCPUS();
    frames_take();
    for (unsigned i = 0; i < VCPUS; i++)
        tops[i] = copy_top();
    on_all(change_spaces);
    for (unsigned i = 0; i < VCPUS; i++)
        free_top(tops[i]);
    frames_exact();
}

/* ---- Flushes reach every vCPU ---- */

#define STEPS 150
static volatile u32 published;
static void *step_page[2];

static long flush_mapping(unsigned how, const volatile void *va, u64 pte, word *vcpus)
{
    void *entry = pte_at(table_of(va, 1), pte_index(va, 1));
    GUEST(mmuext_op) op = { .cmd = MMUEXT_TLB_FLUSH_MULTI, .arg2 = P(vcpus) };
    long rc;

    switch (how) {
    case 0: return update_va_mapping(va, pte, UVMF_INVLPG | UVMF_ALL);
    case 1: return update_va_mapping(va, pte, UVMF_TLB_FLUSH | UVMF_ALL);
    case 2: return update_va_mapping(va, pte, UVMF_INVLPG | P(vcpus));
    case 3: return update_va_mapping(va, pte, UVMF_TLB_FLUSH | P(vcpus));
    }
    rc = pte_update(entry, pte, MMU_NORMAL_PT_UPDATE);
    if (rc)
        return rc;
    switch (how) {
    case 4: return mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0);
    case 5: return mmuext(MMUEXT_INVLPG_ALL, P(va), 0);
    case 6: return mmuext_op(&op, 1, NULL, DOMID_SELF);
    }
    op.cmd = MMUEXT_INVLPG_MULTI;
    op.arg1 = P(va);
    return mmuext_op(&op, 1, NULL, DOMID_SELF);
}

/* vCPU 0 maps one page, then the other, each time with a higher number in it. Nobody sees an old number once it is told. */
static void watch_mapping(unsigned vcpu)
{
    volatile u32 *va = window(8);
    static word everyone __attribute__((aligned(64))) = (1 << VCPUS) - 1;

    if (vcpu) {
        while (read_once(published) < STEPS) {
            u32 told = __atomic_load_n(&published, __ATOMIC_SEQ_CST), seen = *va;

            if (!EXPECT_VALUE(seen >= told, (u64)told << 32 | seen))
                return;
        }
        return;
    }
    for (u32 n = 1; n <= STEPS; n++) {
        *(volatile u32 *)step_page[n % 2] = n;
        if (!EXPECT_VALUE(flush_mapping(n % 8, va, pte_make(virt_to_mfn(step_page[n % 2]), PTE_READ), &everyone) == 0, n))
            break;
        __atomic_store_n(&published, n, __ATOMIC_SEQ_CST);
    }
    __atomic_store_n(&published, STEPS, __ATOMIC_SEQ_CST);
}

TEST(flushes)
{
    REQUIRE_VCPUS();
    step_page[0] = page_alloc();
    step_page[1] = page_alloc();
    published = 0;
    REQUIRE_OK(map_at(window(8), virt_to_mfn(step_page[0]), PTE_READ));
    on_all(watch_mapping);
    CHECK_OK(unmap_at(window(8)));
    page_free(step_page[0]);
    page_free(step_page[1]);
}

/*
 * Whole trees, which hang in the top level, come and go while others look. An entry that was empty needs no flush: what the hypervisor
 * keeps of the top level (it may run vCPUs on copies of it) must not show.
 */
#define TOP_ROUNDS 100u
static volatile u32 *const far_away = (volatile u32 *)(word)0x080000000000ULL;     /* in 64 bits, an address below an unused top entry */
static u64 tree[2];
static volatile u32 answers;

static void change_top_entry(u32 n)
{
    void *entry = pte_at(table_of(far_away, format.levels), pte_index(far_away, format.levels));

    *(volatile u32 *)step_page[n % 2] = n;
    EXPECT(pte_set(entry, tree[n % 2]) == 0);
    if (n % 2 == 0)
        EXPECT(mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0) == 0);
    __atomic_store_n(&published, n, __ATOMIC_SEQ_CST);
    while (read_once(answers) < n * (VCPUS - 1))
        yield();
    if (n % 2)
        return;
    EXPECT(pte_set(entry, 0) == 0);
    EXPECT(mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0) == 0);
}

/* Round by round: a tree where there was none, then another in its place, then none. */
static void watch_top_entry(unsigned vcpu)
{
    for (u32 n = 1; n <= TOP_ROUNDS; n++) {
        if (!vcpu) {
            change_top_entry(n);
            continue;
        }
        while (__atomic_load_n(&published, __ATOMIC_SEQ_CST) < n)
            ;
        EXPECT_VALUE(*far_away == n, n);
        count_up(&answers);
    }
}

static void plant_tree(unsigned which)
{
    step_page[which] = page_alloc();
    build_tables(far_away);
    CHECK_OK(map_at(far_away, virt_to_mfn(step_page[which]), PTE_READ));
    tree[which] = entry_of(far_away, format.levels);
    CHECK_OK(pte_set(pte_at(table_of(far_away, format.levels), pte_index(far_away, format.levels)), 0));
}

TEST(top_level_entries)
{
    REQUIRE_VCPUS();
    if (format.levels < 4)
        SKIP("no unused top entry");
    published = answers = 0;
    plant_tree(0);
    plant_tree(1);
    on_all(watch_top_entry);
}

/* ---- Memory that comes and goes ---- */

static word spare_mfns[VCPUS][8];

static void give_and_take(unsigned vcpu)
{
    for (unsigned i = 0; i < 20; i++) {
        GUEST(xen_memory_reservation) r = { .extent_start = P(spare_mfns[vcpu]), .nr_extents = 8, .domid = DOMID_SELF };

        EXPECT(memory_op(XENMEM_decrease_reservation, &r) == 8);
        for (unsigned n = 0; n < 8; n++)
            spare_mfns[vcpu][n] = spare_pfn(vcpu * 8 + n);
        EXPECT(memory_op(XENMEM_populate_physmap, &r) == 8);
        for (unsigned n = 0; n < 8; n++)
            EXPECT(m2p_raw(spare_mfns[vcpu][n]) == spare_pfn(vcpu * 8 + n));
    }
}

TEST(reservation_is_exact)
{
    word before = reservation();

    REQUIRE_VCPUS();
    for (unsigned i = 0; i < VCPUS * 8; i++)
        spare_mfns[i / 8][i % 8] = p2m[spare_pfn(i)];
    on_all(give_and_take);
    for (unsigned i = 0; i < VCPUS * 8; i++)
        p2m[spare_pfn(i)] = spare_mfns[i / 8][i % 8];
    CHECK_EQ(reservation(), before);
    for (unsigned i = 0; i < VCPUS * 8; i++)
        for (unsigned j = 0; j < i; j++)
            CHECK(spare_mfns[i / 8][i % 8] != spare_mfns[j / 8][j % 8]);
}

/*
 * vCPU 0 exchanges frames while the others map one each. Who comes first has it; never is a frame exchanged and mapped all the same, or
 * we would own more than we were given. Whether the mappers came too early or too late decides how long they wait the next time.
 */
#define TRADE_ROUNDS 250u
#define TRADED 32u      /* a power of two: for one extent */
static volatile word traded[TRADED];
static volatile u32 trade_round, trade_answers, trade_delay, trades_done, trades_refused, done_in_a_row;
static word trade_before;

static bool exchange_traded(void)
{
    static word in[TRADED], out[1];
    GUEST(xen_memory_exchange) x = {
        .in = { .extent_start = P(in), .nr_extents = TRADED, .domid = DOMID_SELF },
        .out = { .extent_start = P(out), .nr_extents = 1, .extent_order = 5, .domid = DOMID_SELF },
    };

    for (unsigned i = 0; i < TRADED; i++)
        in[i] = traded[i];
    out[0] = spare_pfn(TRADED - 1);
    if (memory_op(XENMEM_exchange, &x))
        return false;
    for (unsigned i = 0; i < TRADED; i++)
        traded[TRADED - 1 - i] = out[0] + i;        /* spare_pfn() counts down */
    return true;
}

static void trade(void)
{
    if (exchange_traded()) {
        trades_done++;
        done_in_a_row++;
        trade_delay -= trade_delay / 8;
    } else {
        trades_refused++;
        done_in_a_row = 0;
        trade_delay += trade_delay / 8 + 8;
    }
}

/* A step of a round is over for a mapper when it has answered, and for vCPU 0 when all have. */
static void begin_trade_step(void)
{
    trade_answers = 0;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    count_up(&trade_round);
}

static void await_answers(u32 n)
{
    while (read_once(trade_answers) < n)
        yield();
}

static void await_trade_step(u32 step)
{
    while (read_once(trade_round) < step)
        ;
}

static void map_traded(unsigned vcpu, u32 *seed)
{
    for (u32 n = next_random(seed) % (2 * trade_delay + 1); n; n--)
        __builtin_ia32_pause();
    (void)map_at(window(16 + vcpu), traded[next_random(seed) % 4], PTE_READ);
    count_up(&trade_answers);
}

static void trade_against_mappers(unsigned vcpu)
{
    u32 seed = vcpu + 3;

    for (u32 step = 1; step < 2 * TRADE_ROUNDS; step += 2) {
        if (vcpu) {
            await_trade_step(step);
            map_traded(vcpu, &seed);
            await_trade_step(step + 1);
            EXPECT(unmap_at(window(16 + vcpu)) == 0);
            count_up(&trade_answers);
            continue;
        }
        begin_trade_step();
        if (done_in_a_row > 20)     /* a busy host runs no mapper before we wait: let one be the first */
            await_answers(1);
        trade();
        await_answers(VCPUS - 1);
        EXPECT_VALUE(reservation() <= trade_before, reservation() - trade_before);
        begin_trade_step();
        await_answers(VCPUS - 1);
    }
}

TEST(exchange_against_mapping)
{
    REQUIRE_VCPUS();
    for (unsigned i = 0; i < TRADED; i++)
        traded[i] = p2m[spare_pfn(i)];
    trade_before = reservation();
    trade_round = trades_done = trades_refused = done_in_a_row = 0;
    trade_delay = 100;
    on_all(trade_against_mappers);
    for (unsigned i = 0; i < TRADED; i++)
        p2m[spare_pfn(i)] = traded[i];
    CHECK_EQ(reservation(), trade_before);
    CHECK(trades_done);
    CHECK(trades_refused);
}

/*
 * vCPU 0 is given large pages, of which the others give up the last frame as soon as it is there. It may be another domain's from then on:
 * so nothing may be said of it in the machine-to-physical table that the large page would have had it be.
 */
#define LARGE_ROUNDS 100u
#define LARGE_ORDER 9u
#define LARGE (1u << LARGE_ORDER)
static word large_mfns[LARGE];
static volatile word last_of_large;
static volatile bool no_more_large;
static volatile u32 lasts_given_up;

static bool give_up(word mfn, u32 order)
{
    GUEST(xen_memory_reservation) r = { .extent_start = P(&mfn), .nr_extents = 1, .extent_order = order, .domid = DOMID_SELF };

    return memory_op(XENMEM_decrease_reservation, &r) == 1;
}

/* True if the last frame was given up by another. */
static bool take_large(void)
{
    word pfn = spare_pfn(LARGE - 1), mfn = pfn;
    GUEST(xen_memory_reservation) r = { .extent_start = P(&mfn), .nr_extents = 1, .extent_order = LARGE_ORDER, .domid = DOMID_SELF };
    u32 before = read_once(lasts_given_up);

    if (!EXPECT(memory_op(XENMEM_populate_physmap, &r) == 1))
        return false;
    last_of_large = mfn + LARGE - 1;
    if (give_up(mfn, LARGE_ORDER))
        return false;
    while (read_once(lasts_given_up) == before)
        yield();
    EXPECT_VALUE(m2p_raw(mfn + LARGE - 1) != pfn + LARGE - 1, mfn + LARGE - 1);
    return true;
}

static void large_pages_against_givers(unsigned vcpu)
{
    unsigned given = 0;

    if (vcpu) {
        while (!read_once(no_more_large))
            if (give_up(read_once(last_of_large), 0))
                count_up(&lasts_given_up);
        return;
    }
    for (unsigned i = 0; i < LARGE_ROUNDS; i++)
        given += take_large();
    no_more_large = true;
    EXPECT(given);
}

TEST(frames_are_nobodys_until_the_m2p_says_what_they_are)
{
    GUEST(xen_memory_reservation) r = { .extent_start = P(large_mfns), .nr_extents = LARGE, .domid = DOMID_SELF };
    word before = reservation();

    REQUIRE_VCPUS();
    for (unsigned i = 0; i < LARGE; i++)
        large_mfns[i] = p2m[spare_pfn(i)];
    REQUIRE(memory_op(XENMEM_decrease_reservation, &r) == LARGE);
    last_of_large = (word)-1;   /* none yet; a frame of the small ones could be in the middle of a large one later */
    on_all(large_pages_against_givers);
    for (unsigned i = 0; i < LARGE; i++)
        large_mfns[i] = spare_pfn(i);
    CHECK_EQ(memory_op(XENMEM_populate_physmap, &r), LARGE);
    for (unsigned i = 0; i < LARGE; i++)
        p2m[spare_pfn(i)] = large_mfns[i];
    CHECK_EQ(reservation(), before);
}

/* ---- Events ---- */

static volatile u32 port_owner[MAX_PORTS];

static void open_and_close(unsigned vcpu)
{
    for (unsigned i = 0; i < 80; i++) {
        long a = i % 2 ? alloc_unbound(DOMID_SELF, DOMID_SELF) : bind_ipi(vcpu), b;

        if (!EXPECT_VALUE(a > 0 && a < (long)MAX_PORTS, a))
            return;
        EXPECT_VALUE(__atomic_exchange_n(&port_owner[a], vcpu + 1, __ATOMIC_SEQ_CST) == 0, a);
        if (i % 2) {
            b = bind_interdomain(DOMID_SELF, (unsigned)a);
            EXPECT_VALUE(b > 0, b);
            EXPECT(send_port((unsigned)b) == 0);
            EXPECT(close_port((unsigned)b) == 0);
        }
        EXPECT_VALUE(__atomic_exchange_n(&port_owner[a], 0, __ATOMIC_SEQ_CST) == vcpu + 1, a);
        EXPECT(close_port((unsigned)a) == 0);
    }
}

TEST(ports_are_given_once)
{
    REQUIRE_VCPUS();
    memset((void *)port_owner, 0, sizeof(port_owner));
    on_all(open_and_close);
}

static long ipi_port[VCPUS][VCPUS];     /* [to][from] */

static bool ipis_bind(void)
{
    for (unsigned to = 0; to < VCPUS; to++)
        for (unsigned from = 0; from < VCPUS; from++)
            if ((ipi_port[to][from] = bind_ipi(to)) <= 0)
                return false;
    return true;
}

static void ipis_close(void)
{
    for (unsigned i = 0; i < VCPUS * VCPUS; i++)
        close_port((unsigned)ipi_port[i / VCPUS][i % VCPUS]);
}

static void wait_for_count(volatile u32 *counter, u32 old)
{
    u64 end = system_time() + PATIENCE;

    while (read_once(*counter) == old && system_time() < end)
        yield();
    EXPECT(read_once(*counter) != old);
}

static void interrupt_all(unsigned vcpu)
{
    for (unsigned i = 0; i < 40; i++)
        for (unsigned to = 0; to < VCPUS; to++) {
            long port = ipi_port[to][vcpu];
            u32 before = event_count[port];

            EXPECT(send_port((unsigned)port) == 0);
            wait_for_count(&event_count[port], before);
        }
}

TEST(interrupts_between_all)
{
    REQUIRE_VCPUS();
    REQUIRE(ipis_bind());
    on_all(interrupt_all);
    ipis_close();
}

/* A ball goes round; who has none sleeps. One wake-up that is lost stops it, and the timeout says so. */
#define LAPS 60
static volatile u32 ball;       /* counts throws; its owner is ball % VCPUS */

static void sleep_until(u64 deadline, unsigned vcpu)
{
    if (vcpu % 2) {
        u32 port = (u32)ipi_port[vcpu][0];
        GUEST(sched_poll) poll = { .ports = P(&port), .nr_ports = 1, .timeout = deadline };

        events_off();
        port_clear(port);
        if (read_once(ball) % VCPUS != vcpu)
            EXPECT(sched_op(SCHEDOP_poll, &poll) == 0);
        events_on();
        return;
    }
    /* Blocking opens events: one that came since the look at the ball ends it at once. */
    events_off();
    if (read_once(ball) % VCPUS != vcpu) {
        set_singleshot(deadline, 0);
        EXPECT(sched_op(SCHEDOP_block, NULL) == 0);
    }
    events_on();
}

static void play_ball(unsigned vcpu)
{
    for (u32 lap = 0; lap < LAPS; lap++) {
        u64 begun = system_time();

        while (read_once(ball) % VCPUS != vcpu && system_time() < begun + PATIENCE)
            sleep_until(begun + PATIENCE, vcpu);
        if (!EXPECT_VALUE(read_once(ball) == lap * VCPUS + vcpu, ball))
            return;
        count_up(&ball);
        if (lap * VCPUS + vcpu + 1 < LAPS * VCPUS)
            EXPECT(send_port((unsigned)ipi_port[(vcpu + 1) % VCPUS][0]) == 0);
    }
}

TEST(no_wake_up_is_lost)
{
    REQUIRE_VCPUS();
    REQUIRE(ipis_bind());
    ball = 0;
    on_all(play_ball);
    CHECK_EQ(ball, LAPS * VCPUS);
    ipis_close();
}

static long timer_port[VCPUS];

static void sleep_by_timer(unsigned vcpu)
{
    for (unsigned i = 0; i < 20; i++) {
        u64 until = system_time() + (i % 4 + 1) * MS / 2;

        EXPECT(set_singleshot(until, 0) == 0);
        for (events_off(); system_time() < until; events_off())
            sched_op(SCHEDOP_block, NULL);
        events_on();
    }
    EXPECT(event_count[timer_port[vcpu]] > 0);
}

TEST(timers_of_all)
{
    REQUIRE_VCPUS();
    for (unsigned i = 0; i < VCPUS; i++) {
        REQUIRE((timer_port[i] = bind_virq(VIRQ_TIMER, i)) > 0);
        event_count[timer_port[i]] = 0;
    }
    on_all(sleep_by_timer);
    for (unsigned i = 0; i < VCPUS; i++)
        close_port((unsigned)timer_port[i]);
}

/* ---- Time ---- */

static u64 latest;

static u64 latest_get(void) { return __sync_val_compare_and_swap(&latest, 0, 0); }

static void read_clock(unsigned vcpu)
{
    (void)vcpu;
    for (unsigned i = 0; i < 3000; i++) {
        u64 before = latest_get(), now = system_time(), seen = before;

        EXPECT_VALUE(now >= before, before - now);
        while (now > seen) {
            u64 old = __sync_val_compare_and_swap(&latest, seen, now);

            if (old == seen)
                break;
            seen = old;
        }
        if (i % 64 == 0)
            yield();
    }
}

TEST(time_never_goes_back)
{
    REQUIRE_VCPUS();
    latest = 0;
    on_all(read_clock);
}

static u64 runstate_sum(unsigned vcpu)
{
    GUEST(vcpu_runstate_info) r;

    if (!EXPECT(vcpu_op(VCPUOP_get_runstate_info, vcpu, &r) == 0))
        return 0;
    return r.time[0] + r.time[1] + r.time[2] + r.time[3];
}

/* All states together are the time since the vCPU was made, whatever it does and whoever asks. */
static void sum_runstates(unsigned vcpu)
{
    for (unsigned i = 0; i < 100; i++) {
        unsigned of = (vcpu + i) % VCPUS;
        u64 t0 = system_time(), first = runstate_sum(of), t1 = system_time(), t2, t3, second;

        yield();
        t2 = system_time();
        second = runstate_sum(of);
        t3 = system_time();
        EXPECT_VALUE(second - first + 10 >= t2 - t1, second - first);
        EXPECT_VALUE(second - first <= t3 - t0 + 10, second - first);
    }
}

TEST(runstates_add_up)
{
    REQUIRE_VCPUS();
    on_all(sum_runstates);
}

static GUEST(vcpu_runstate_info) area;
static volatile u32 area_over;

static void start_area(void)
{
    GUEST(vcpu_register_runstate_memory_area) op = { .addr = P(&area) };

    area_over = 0;
    CHECK_OK(vcpu_op(VCPUOP_register_runstate_memory_area, 0, &op));
}

static void end_area(void)
{
    GUEST(vcpu_register_runstate_memory_area) op = { .addr = 0 };

    CHECK_OK(vcpu_op(VCPUOP_register_runstate_memory_area, 0, &op));
}

/* Unless the vCPU was switched away in between, which the time of entry shows. */
static void compare_area(void)
{
    GUEST(vcpu_runstate_info) before, seen, after;

    EXPECT(vcpu_op(VCPUOP_get_runstate_info, 0, &before) == 0);
    memcpy(&seen, &area, sizeof(seen));
    EXPECT(vcpu_op(VCPUOP_get_runstate_info, 0, &after) == 0);
    if (before.state_entry_time != after.state_entry_time)
        return;
    EXPECT_VALUE(seen.state == RUNSTATE_running, seen.state);
    EXPECT_VALUE(seen.state_entry_time == before.state_entry_time, before.state_entry_time - seen.state_entry_time);
    EXPECT_VALUE(seen.time[RUNSTATE_runnable] == before.time[RUNSTATE_runnable], seen.time[RUNSTATE_runnable]);
    EXPECT_VALUE(seen.time[RUNSTATE_blocked] == before.time[RUNSTATE_blocked], seen.time[RUNSTATE_blocked]);
}

/* vCPU 0 works in user mode, and must be switched away there a few times; the others keep the CPUs busy. */
static void work_in_user_mode(unsigned vcpu)
{
    static const u8 count_down[] = { 0xb9, 0x40, 0x42, 0x0f, 0x00, 0x83, 0xe9, 0x01, 0x75, 0xfb }; /* mov ecx; sub ecx, 1; jnz */
    u64 end = system_time() + PATIENCE;

    if (vcpu) {
        while (!read_once(area_over))
            __builtin_ia32_pause();
        return;
    }
    for (unsigned switches = 0; switches < 10 && EXPECT(system_time() < end);) {
        u64 entered = area.state_entry_time;

        (void)user_run(count_down, sizeof(count_down));
        switches += area.state_entry_time != entered;
        compare_area();
    }
    area_over = 1;
}

/* The area is the kernel's, and user mode's tables do not map it. */
TEST(runstate_area_in_user_mode)
{
    REQUIRE_VCPUS();
    user_init();
    start_area();
    on_all(work_in_user_mode);
    end_area();
}

#ifdef FORMAT_PT64
/* vCPU 1 gives vCPU 0 an area and takes it back, all the time; the others keep the CPUs busy. */
static void lend_area(unsigned vcpu)
{
    GUEST(vcpu_register_runstate_memory_area) op = { .addr = P(&area) }, none = { .addr = 0 };

    while (!read_once(area_over))
        if (vcpu == 1) {
            EXPECT(vcpu_op(VCPUOP_register_runstate_memory_area, 0, &op) == 0);
            EXPECT(vcpu_op(VCPUOP_register_runstate_memory_area, 0, &none) == 0);
        } else {
            __builtin_ia32_pause();
        }
}

static u64 own_entry_time(void)
{
    GUEST(vcpu_runstate_info) r;

    EXPECT(vcpu_op(VCPUOP_get_runstate_info, this_vcpu(), &r) == 0);
    return r.state_entry_time;
}

/* User mode, when it has been switched away there perhaps, looks at what only the kernel's tables map. */
static void look_at_kernel(unsigned vcpu)
{
    u8 look[] = { 0xb9, 0x00, 0x12, 0x7a, 0x00, 0x83, 0xe9, 0x01, 0x75, 0xfb,   /* mov ecx; sub ecx, 1; jnz */
                  0x48, 0xa1, 0, 0, 0, 0, 0, 0, 0, 0 };                         /* mov rax, [address] */
    u64 address = (u64)&area, end = system_time() + PATIENCE;

    memcpy(look + 12, &address, sizeof(address));
    if (vcpu) {
        lend_area(vcpu);
        return;
    }
    for (unsigned switches = 0; switches < 100 && EXPECT(system_time() < end);) {
        u64 entered = own_entry_time();
        struct fault f = user_run(look, sizeof(look));

        switches += own_entry_time() != entered;
        if (!EXPECT_VALUE(f.vector == 14 && f.cr2 == address, f.vector))
            break;
    }
    area_over = 1;
}
#endif

/*
 * While areas are brought up to date kernel's tables are loaded; they go, whatever becomes of the areas. (Page-table isolation would set it
 * right on the way out: the test is for CPUs without, or xpti=no.)
 */
TEST(user_mode_never_has_the_kernels_tables)
{
#ifdef FORMAT_PT64
    REQUIRE_VCPUS();
    user_init();
    area_over = 0;
    on_all(look_at_kernel);
    end_area();
#else
    SKIP("a user's tables of its own");
#endif
}

static u64 registered_entry, area_offset;
static volatile u32 area_reads;

/*
 * All of what one update wrote: its times sum up to its time of entry, but for when the vCPU was made. What registering wrote
 * is not of that kind: it counts the time that runs.
 */
static void read_area(void)
{
    GUEST(vcpu_runstate_info) first, again;
    u64 offset;

    memcpy(&first, &area, sizeof(first));
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    memcpy(&again, &area, sizeof(again));
    if (first.state_entry_time & XEN_RUNSTATE_UPDATE || first.state_entry_time != again.state_entry_time ||
        first.state_entry_time == registered_entry)
        return;
    offset = first.time[0] + first.time[1] + first.time[2] + first.time[3] - first.state_entry_time;
    if (!area_reads++)
        area_offset = offset;
    EXPECT_VALUE(offset == area_offset, offset - area_offset);
}

static void watch_area(unsigned vcpu)
{
    u64 end = system_time() + 500 * MS;

    if (vcpu == 1) {
        while (system_time() < end)
            read_area();
        area_over = 1;
    }
    while (!read_once(area_over))
        if (vcpu)
            __builtin_ia32_pause();
        else
            yield();
}

TEST(runstate_area_is_of_one_piece)
{
    REQUIRE_VCPUS();
    REQUIRE_OK(vm_assist(VMASST_CMD_enable, VMASST_TYPE_runstate_update_flag));
    start_area();
    registered_entry = area.state_entry_time;
    area_reads = 0;
    on_all(watch_area);
    CHECK(area_reads);
    end_area();
    CHECK_OK(vm_assist(VMASST_CMD_disable, VMASST_TYPE_runstate_update_flag));
}

/* ---- vCPUs that go and come ---- */

static volatile u32 life_over;

static void down_and_up(unsigned vcpu)
{
    GUEST(vcpu_runstate_info) r;

    if (vcpu == VCPUS - 1) {
        while (!read_once(life_over))
            yield();
        return;
    }
    for (unsigned i = 0; i < 30; i++) {
        EXPECT(vcpu_op(VCPUOP_down, VCPUS - 1, NULL) == 0);
        EXPECT(vcpu_op(VCPUOP_get_runstate_info, VCPUS - 1, &r) == 0);
        EXPECT(vcpu_op(VCPUOP_is_up, VCPUS - 1, NULL) >= 0);
        EXPECT(vcpu_op(VCPUOP_up, VCPUS - 1, NULL) == 0);
    }
    if (vcpu)
        return;
    /* Others may be behind: the last word is ours. */
    for (unsigned i = 0; i < 200; i++)
        yield();
}

TEST(down_and_up_from_all)
{
    u64 end = system_time() + PATIENCE;

    REQUIRE_VCPUS();
    life_over = 0;
    jobs_done = 0;
    for (unsigned i = 0; i < VCPUS; i++)
        complaint[i] = NULL;
    job = down_and_up;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    job_number++;
    down_and_up(0);
    while (read_once(jobs_done) < VCPUS - 2 && system_time() < end)
        yield();
    CHECK_EQ(jobs_done, VCPUS - 2);
    CHECK_OK(vcpu_op(VCPUOP_up, VCPUS - 1, NULL));
    life_over = 1;
    while (read_once(jobs_done) < VCPUS - 1 && system_time() < end)
        yield();
    CHECK_EQ(jobs_done, VCPUS - 1);
    for (unsigned i = 0; i < VCPUS; i++)
        CHECK(!complaint[i]);
}

/* ---- Ticks of a vCPU that is down ---- */

static long tick_port;

static void wait_for_ticks(u32 n)
{
    u32 old = event_count[tick_port];
    u64 end = system_time() + PATIENCE;

    while (read_once(event_count[tick_port]) - old < n && system_time() < end)
        yield();
    EXPECT(read_once(event_count[tick_port]) - old >= n);
}

static void tick_go_down_and_tick(void)
{
    struct vcpu_set_periodic_timer op = { .period_ns = MS };

    EXPECT(vcpu_op(VCPUOP_set_periodic_timer, VCPUS - 1, &op) == 0);
    wait_for_ticks(5);
    EXPECT(vcpu_op(VCPUOP_down, VCPUS - 1, NULL) == 0);
    wait_for_ticks(5);
    EXPECT(vcpu_op(VCPUOP_stop_periodic_timer, VCPUS - 1, NULL) == 0);
}

static bool is_offline(unsigned vcpu)
{
    GUEST(vcpu_runstate_info) r;

    return vcpu_op(VCPUOP_get_runstate_info, vcpu, &r) == 0 && r.state == RUNSTATE_offline;
}

/* How often the port becomes pending within some ticks' time. */
static u32 count_pending(void)
{
    u64 end = system_time() + 50 * MS;
    u32 n = 0;

    while (system_time() < end) {
        if (port_pending((unsigned)tick_port)) {
            port_clear((unsigned)tick_port);
            n++;
        }
        yield();
    }
    return n;
}

static void watch_ticks(unsigned vcpu)
{
    u64 end = system_time() + PATIENCE;
    u32 n;

    if (vcpu == VCPUS - 1)
        tick_go_down_and_tick();
    if (vcpu)
        return;
    while (!is_offline(VCPUS - 1) && system_time() < end)
        yield();
    n = count_pending();
    EXPECT_VALUE(n <= 2, n);    /* one was set before, one was on its way when the vCPU stopped */
    EXPECT(vcpu_op(VCPUOP_up, VCPUS - 1, NULL) == 0);
}

TEST(ticks_end_when_a_vcpu_is_down)
{
    REQUIRE_VCPUS();
    REQUIRE((tick_port = bind_virq(VIRQ_TIMER, VCPUS - 1)) > 0);
    on_all(watch_ticks);
    CHECK_OK(close_port((unsigned)tick_port));
}

/* ---- FIFO channels that go while others use them ---- */

#define RESETS 2000
static u8 *control_page;
static volatile u32 *event_words;
static volatile u32 resets_over;
static volatile u32 found_full;     /* how often vCPU 1 was told that the event array is complete */

/* Until others have filled the array. What vCPU 1 was told of the one before, it may count late, once. */
static void be_held_up(void)
{
    u32 before = read_once(found_full);

    while (read_once(found_full) < before + 2)
        yield();
}

static void to_fifo(bool held_up)
{
    struct evtchn_init_control control = { .control_gfn = virt_to_mfn(control_page) };
    struct evtchn_expand_array array = { .array_gfn = virt_to_mfn((const void *)event_words) };

    long rc;

    EXPECT(event_channel_op(EVTCHNOP_init_control, &control) == 0);
    if (held_up)
        be_held_up();
    rc = event_channel_op(EVTCHNOP_expand_array, &array);
    EXPECT_VALUE(rc == -ENOSPC || (rc == 0 && !held_up), rc);   /* a busy host may hold us up, too */
}

/* -EAGAIN: another vCPU opened a port meanwhile. */
static void reset_channels(void)
{
    struct evtchn_reset reset = { .dom = DOMID_SELF };
    long rc;

    while ((rc = event_channel_op(EVTCHNOP_reset, &reset)) == -EAGAIN)
        ;
    EXPECT_VALUE(rc == 0, rc);
}

/* What is pending makes unmasking link the port, in queues that may be gone. Port 0 is nobody's, and never closed. */
static void unmask_pending(u32 port)
{
    event_words[port] = 1U << EVTCHN_FIFO_PENDING | 1U << EVTCHN_FIFO_MASKED;
    (void)port_unmask(port);
}

static void use_ports(unsigned vcpu)
{
    u32 port = 0;
    GUEST(sched_poll) poll = { .ports = P(&port), .nr_ports = 1, .timeout = 1 };
    struct evtchn_expand_array array = { .array_gfn = virt_to_mfn(control_page) };

    /* A second page, if there are queues at the moment, and as many more as there is room for. */
    if (event_channel_op(EVTCHNOP_expand_array, &array) == -ENOSPC && vcpu == 1)
        found_full++;
    for (unsigned i = 0; i < 100; i++) {
        unmask_pending(0);
        unmask_pending(1 + i % VCPUS);
    }
    (void)sched_op(SCHEDOP_poll, &poll);
    (void)bind_ipi(vcpu);
    for (port = 1; port <= VCPUS; port++)
        (void)send_port(port);
}

static void use_against_reset(unsigned vcpu)
{
    while (vcpu && !read_once(resets_over))
        use_ports(vcpu);
    for (unsigned i = 0; !vcpu && i < RESETS; i++) {
        to_fifo(i == RESETS / 2);
        (void)bind_ipi(i % VCPUS);
        reset_channels();
    }
    if (!vcpu)
        resets_over = 1;
}

/* The last test, since it closes all ports. The frames are ours again afterwards, to the last reference. */
TEST(fifo_goes_among_its_users)
{
    REQUIRE_VCPUS();
    control_page = page_alloc();
    event_words = page_alloc();
    resets_over = 0;
    on_all(use_against_reset);
    reset_channels();
    frames[0] = control_page;
    frames[1] = (void *)(word)event_words;
    for (unsigned i = 0; i < 2; i++) {
        memset(frames[i], 0, 4096);
        make_readonly(frames[i]);
        frame_exact(frames[i]);
    }
}
