#include "test.h"
#include "events.h"
#include "hypercall.h"
#include "log.h"
#include "mm.h"
#include "string.h"

extern const struct test *const tests_start[], *const tests_end[];

static const struct test *current;
static unsigned failures;
static const char *skipped;

static void open_failure(const char *file, int line, const char *what)
{
    if (failures++ == 0)
        printf("FAIL %s: %s:%d: %s", current->name, file, line, what);
    else
        printf("     also %s:%d: %s", file, line, what);
}

void test_failed(const char *file, int line, const char *what)
{
    open_failure(file, line, what);
    printf("\n");
}

void test_unequal(const char *file, int line, const char *what, u64 got, u64 expected)
{
    open_failure(file, line, what);
    printf(", got %llx (%lld), expected %llx (%lld)\n", (unsigned long long)got, (long long)got,
           (unsigned long long)expected, (long long)expected);
}

void test_wrong_fault(const char *file, int line, const char *what, int expected)
{
    open_failure(file, line, what);
    if (!last_fault.hit) {
        printf(", got no fault, expected vector %d\n", expected);
        return;
    }
    printf(", got vector %u error %lx cr2 %lx ip %lx, expected ", last_fault.vector, last_fault.error,
           last_fault.cr2, last_fault.regs.ip);
    printf(expected < 0 ? "no fault\n" : "vector %d\n", expected);
}

void test_skip(const char *why)
{
    skipped = why;
}

bool test_has_failed(void)
{
    return failures != 0;
}

const char *cmdline_value(const char *name)
{
    size_t n = strlen(name);

    for (const char *p = start_info->cmd_line; (p = strstr(p, name)); p++)
        if ((p == start_info->cmd_line || p[-1] == ' ') && p[n] == '=')
            return p + n + 1;
    return NULL;
}

bool cmdline_is(const char *name, const char *value)
{
    const char *p = cmdline_value(name);
    size_t n = strlen(value);

    return p && !strncmp(p, value, n) && (p[n] == '\0' || p[n] == ' ' || p[n] == ',');
}

static bool wanted(const char *name)
{
    const char *p = cmdline_value("test");
    size_t n = strlen(name);

    if (!p)
        return true;
    for (; *p && *p != ' '; p++) {
        if (!strncmp(p, name, n) && (p[n] == '\0' || p[n] == ' ' || p[n] == ','))
            return true;
        while (p[1] && *p != ',' && *p != ' ')
            p++;
        if (*p == ' ')
            return false;
    }
    return false;
}

u64 random_u64(void)
{
    static u64 state = 0x9e3779b97f4a7c15;

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* 1 passed, 0 failed, -1 skipped. A trap that the test does not expect fails it. */
static int run_one(const struct test *t)
{
    current = t;
    failures = 0;
    skipped = NULL;
    printf("run %s\n", t->name);
    (void)FAULT_IN(t->run());
    if (last_fault.hit && !skipped) {
        failures += failures == 0;
        printf("FAIL %s: unexpected vector %u error %lx cr2 %lx ip %lx\n", t->name, last_fault.vector,
               last_fault.error, last_fault.cr2, last_fault.regs.ip);
    }
    trap_hook = NULL;
    traps_init();
    if (skipped && !failures)
        printf("skip %s: %s\n", t->name, skipped);
    else if (!failures)
        printf("ok %s\n", t->name);
    return failures ? 0 : skipped ? -1 : 1;
}

static void run_all(void)
{
    unsigned passed = 0, failed = 0;

    for (const struct test *const *t = tests_start; t < tests_end; t++) {
        int result;

        if (!wanted((*t)->name))
            continue;
        result = run_one(*t);
        passed += result == 1;
        failed += result == 0;
    }
    look_at_invariant();
    printf("PVTEST %u passed, %u failed\n", passed, failed);
}

/*
 * mirrored=1: an entry that is not present and names memory has us mirrored for good (pv-l1tf=yes; arch/x86/pt/store.c), so that all that
 * follows is as before, or not: see tests/guests/run.
 */
static void be_mirrored(void)
{
    if (!cmdline_value("mirrored"))
        return;
    (void)update_va_mapping(window(0), pte_make(virt_to_mfn(start_info), PTE_READ & ~PTE_P), UVMF_NONE);
    (void)update_va_mapping(window(0), 0, UVMF_NONE);
}

void start_c(void *si, word entry_sp);
void start_c(void *si, word entry_sp)
{
    mm_init(si, entry_sp);
    events_init();
    console_init();
    traps_init();
    printf("PVTEST start %s, %lu pages, %s\n", FORMAT_NAME, (word)start_info->nr_pages,
           is_dom0() ? "dom0" : "domU");
    events_on();
    be_mirrored();
    run_all();
    shutdown(SHUTDOWN_poweroff);
}
