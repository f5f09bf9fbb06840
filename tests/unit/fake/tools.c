#define _GNU_SOURCE
#include "tools.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

uint8_t (*memory)[PAGE];
bool owned[NR_FRAMES], pinned[NR_FRAMES];
uint32_t pinned_as[NR_FRAMES];
struct granted granted[8];
bool has_policy, has_context;
union any_context context;
const uint8_t *kept;
uint32_t readable[NR_FRAMES];
unsigned extents[10], largest = 9;
uint32_t next_frame;

void (*before_call)(unsigned nr);
unsigned nr_calls, failing_call, nr_reports, errors_said;
bool *log_is_on;
bool written[NR_FRAMES], written_silently[NR_FRAMES];

static int frames_fd = -1;
static uint32_t given_up[NR_FRAMES];
static unsigned nr_given_up;
static void (*to_put_right)(void);

/* What is mapped; the first without pages is free. */
static struct mapping {
    uint8_t *pages;
    unsigned nr;
    int prot;
    uint32_t frames[NR_FRAMES];
} mappings[64];

/* Frames are a file's, so that one can be mapped twice, as frames can; those with nothing in them take no memory. */
void make_memory(void)
{
    int fd = memfd_create("frames", 0);
    void *now;

    EXPECT(fd >= 0 && !ftruncate(fd, NR_FRAMES * PAGE));
    now = mmap(memory, NR_FRAMES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | (memory ? MAP_FIXED : 0), fd, 0);
    EXPECT(now != MAP_FAILED);
    memory = now;
    frames_fd = fd;
    if (!log_is_on)
        log_is_on = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    EXPECT((void *)log_is_on != MAP_FAILED);
}

/* A process's own, with what was in them before. */
static void part_memory(void)
{
    int before = frames_fd;

    make_memory();
    for (off_t at = 0, end; (at = lseek(before, at, SEEK_DATA)) >= 0; at = end) {
        end = lseek(before, at, SEEK_HOLE);
        EXPECT(pread(before, (uint8_t *)memory + at, (size_t)(end - at), at) == end - at);
    }
}

void forget_domain(void)
{
    make_memory();
    memset(owned, 0, sizeof(owned));
    memset(pinned, 0, sizeof(pinned));
    memset(&context, 0, sizeof(context));
    next_frame = nr_given_up = 0;
}

/* --- Runs --- */

int run_apart(void (*fn)(int argument), int argument)
{
    pid_t child = fork();
    int status;

    if (!child) {
        part_memory();
        fn(argument);
    }
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

int file_of(const uint8_t *bytes, size_t size)
{
    int fd = memfd_create("stream", 0);

    EXPECT(fd >= 0 && write(fd, bytes, size) == (ssize_t)size && !lseek(fd, 0, SEEK_SET));
    return fd;
}

static void spoil(uint8_t *bytes, size_t size, size_t (*where)(size_t size))
{
    for (unsigned n = 1 + (unsigned)rand() % 3; n--;)
        bytes[where(size)] = (uint8_t)(rand() % 3 ? rand() : rand() % 2 ? 0 : 0xff);
}

struct ends run_spoilt(int (*run)(const uint8_t *bytes, size_t size), const uint8_t *from, size_t size, size_t (*where)(size_t size),
                       unsigned times)
{
    uint8_t *bytes = malloc(size);
    struct ends ends = { 0 };

    srand(1);
    while (times--) {
        int result;

        memcpy(bytes, from, size);
        spoil(bytes, size, where);
        result = run(bytes, size);
        ends.done += result == DONE;
        ends.refused += result == REFUSED;
        ends.others += result != DONE && result != REFUSED;
    }
    free(bytes);
    return ends;
}

void say(xentoollog_level level, const char *format, ...)
{
    (void)format;
    errors_said += level == XTL_ERROR;
}

void at_end(void (*fn)(void)) { to_put_right = fn; }
void on_failure(void (*fn)(void)) { at_end(fn); }

void signals_hold(void) { }
void signals_look(void) { }
bool signals_await(int fd, int ms) { return fd >= 0 && ms; }

void put_right(void)
{
    void (*fn)(void) = to_put_right;

    to_put_right = NULL;
    failing_call = 0;
    before_call = NULL;
    if (fn)
        fn();
}

void talk_give_up(int fd) { (void)fd; }

void fail(int error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    if (getenv("VERBOSE")) {
        vfprintf(stderr, format, arguments);
        fprintf(stderr, " (%d)\n", error);
    }
    va_end(arguments);
    put_right();
    _exit(REFUSED);
}

/* --- The hypervisor --- */

void count_call(void)
{
    if (before_call)
        before_call(nr_calls + 1);
    if (++nr_calls == failing_call)
        fail(EIO, "call %u fails", nr_calls);
}

void *xen_buffer(size_t size) { return calloc(1, size); }

static struct mapping *mapping_of(const void *pages)
{
    for (unsigned i = 0; i < sizeof(mappings) / sizeof(mappings[0]); i++)
        if (mappings[i].pages == pages)
            return &mappings[i];
    EXPECT(!"a mapping");
    return NULL;
}

static bool is_there(uint32_t frame) { return frame < NR_FRAMES && (owned[frame] || frame == SHARED_INFO); }

/* there: NULL if none may be missing. */
static void *map(const uint32_t *frames, unsigned nr, int prot, bool *there, const char *what)
{
    struct mapping *m = mapping_of(NULL);

    count_call();
    EXPECT(nr && nr <= NR_FRAMES);
    m->pages = mmap(NULL, (size_t)nr * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    m->nr = nr;
    m->prot = prot;
    for (unsigned i = 0; i < nr; i++) {
        m->frames[i] = NO_FRAME;
        if (there)
            there[i] = is_there(frames[i]);
        if (there && !there[i])
            continue;
        if (!is_there(frames[i]))
            fail(EINVAL, "%s: frame %#x is not the domain's", what, frames[i]);
        EXPECT(!(prot & PROT_WRITE) || !pinned[frames[i]]);
        EXPECT(mmap(m->pages + (size_t)i * PAGE, PAGE, prot, MAP_SHARED | MAP_FIXED, frames_fd, (off_t)frames[i] * PAGE) != MAP_FAILED);
        m->frames[i] = frames[i];
    }
    return m->pages;
}

void *xen_map(const uint32_t *frames, unsigned nr, int prot, const char *what) { return map(frames, nr, prot, NULL, what); }

void *xen_map_there(const uint32_t *frames, unsigned nr, bool *there, const char *what) { return map(frames, nr, PROT_READ, there, what); }

void xen_unmap(void *pages, unsigned nr)
{
    struct mapping *m = mapping_of(pages);

    EXPECT(m->nr == nr && !munmap(pages, (size_t)nr * PAGE));
    m->pages = NULL;
}

void forget_mappings(void)
{
    for (unsigned i = 0; i < sizeof(mappings) / sizeof(mappings[0]); i++)
        if (mappings[i].pages)
            xen_unmap(mappings[i].pages, mappings[i].nr);
}

bool is_mapped_for_writing(uint32_t frame)
{
    for (unsigned i = 0; i < sizeof(mappings) / sizeof(mappings[0]); i++)
        for (unsigned n = 0; mappings[i].pages && mappings[i].prot & PROT_WRITE && n < mappings[i].nr; n++)
            if (mappings[i].frames[n] == frame)
                return true;
    return false;
}

unsigned xen_try_populate(uint64_t *frames, unsigned nr, unsigned order)
{
    count_call();
    EXPECT(next_frame && nr && nr <= MAX_BATCH && order < 10);
    for (unsigned i = 0; i < nr; i++) {
        if (!order && nr_given_up) {
            frames[i] = given_up[--nr_given_up];
            owned[frames[i]] = true;
            continue;
        }
        if (order > largest || next_frame <= 1u << order)
            return i;
        next_frame -= 1u << order;
        frames[i] = next_frame;
        memset(owned + next_frame, true, 1u << order);
        extents[order]++;
    }
    return nr;
}

void xen_populate(uint32_t *frames, unsigned nr)
{
    uint64_t list[MAX_BATCH];

    for (unsigned i = 0; i < nr; i++)
        list[i] = frames[i];
    if (xen_try_populate(list, nr, 0) != nr)
        fail(ENOMEM, "no frames");
    for (unsigned i = 0; i < nr; i++)
        frames[i] = (uint32_t)list[i];
}

void xen_give_up(const uint32_t *frames, unsigned nr)
{
    count_call();
    EXPECT(nr && nr <= MAX_BATCH);
    for (unsigned i = 0; i < nr; i++) {
        EXPECT(owned[frames[i]] && !pinned[frames[i]] && !is_mapped_for_writing(frames[i]));
        owned[frames[i]] = false;
        memset(memory[frames[i]], 0, PAGE);
        given_up[nr_given_up++] = frames[i];
    }
}

/* --- The log --- */

void xen_begin_log(void)
{
    count_call();
    EXPECT(!*log_is_on);
    *log_is_on = true;
    memset(written, 0, sizeof(written));
}

void xen_take_log(uint64_t *bits, uint32_t nr, bool is_last)
{
    count_call();
    EXPECT(*log_is_on);
    nr_reports++;
    memset(bits, 0, (nr + 7) / 8);
    for (uint32_t pfn = 0; pfn < nr; pfn++) {
        if (written[pfn] || (is_last && written_silently[pfn]))
            bits[pfn / 64] |= 1ULL << pfn % 64;
        written[pfn] = false;
    }
}

void xen_end_log(void)
{
    count_call();
    *log_is_on = false;
}

void xen_pin(const uint32_t *frames, const uint32_t *kinds, unsigned nr)
{
    count_call();
    for (unsigned i = 0; i < nr; i++) {
        EXPECT(owned[frames[i]] && !is_mapped_for_writing(frames[i]) && table_level(kinds[i]) >= 1 && table_level(kinds[i]) <= 4);
        pinned[frames[i]] = true;
        pinned_as[frames[i]] = kinds[i];
    }
}

void xen_grant(unsigned entry, uint16_t domid, uint32_t frame)
{
    EXPECT(entry < 8 && owned[frame]);
    granted[entry] = (struct granted){ domid, frame };
}

void xen_grant_to_read(unsigned entry, const uint32_t *frames, unsigned nr)
{
    EXPECT(entry >= FREE_GRANT && entry + nr <= NR_FRAMES);
    for (unsigned i = 0; i < nr; i++) {
        EXPECT(owned[frames[i]]);
        readable[entry + i] = frames[i];
    }
}

void xen_copy_granted(uint16_t from, unsigned entry, const uint32_t *frames, unsigned nr)
{
    EXPECT(from && kept);
    for (unsigned i = 0; i < nr; i++) {
        EXPECT(owned[frames[i]] && !is_mapped_for_writing(frames[i]));
        memcpy(memory[frames[i]], kept + (size_t)(entry + i - FREE_GRANT) * PAGE, PAGE);
    }
}

/* --- What it is told of a domain --- */

/* It reads what it is told to read: the sanitizer sees whether that is there. */
static void read_all(const void *from, size_t size) { free(memcpy(malloc(size + 1), from, size)); }

static void take(const struct xen_domctl *op, uint32_t cmd)
{
    if (cmd == XEN_DOMCTL_set_cpu_policy) {
        has_policy = op->u.cpu_policy.nr_leaves == 2 && op->u.cpu_policy.nr_msrs == 1;
        read_all(op->u.cpu_policy.leaves.p, op->u.cpu_policy.nr_leaves * sizeof(xen_cpuid_leaf_t));
    } else if (cmd == XEN_DOMCTL_setvcpucontext && !op->u.vcpucontext.vcpu) {
        memcpy(&context, op->u.vcpucontext.ctxt.p, sizeof(context));
        has_context = true;
    } else if (cmd == XEN_DOMCTL_setvcpuextstate) {
        read_all(op->u.vcpuextstate.buffer.p, op->u.vcpuextstate.size);
    } else if (cmd == XEN_DOMCTL_set_vcpu_msrs) {
        read_all(op->u.vcpu_msrs.msrs.p, op->u.vcpu_msrs.msr_count * sizeof(xen_domctl_vcpu_msr_t));
    }
}

void xen_control(struct xen_domctl *op, uint32_t cmd, const char *what)
{
    (void)what;
    count_call();
    describe(op, cmd);
    take(op, cmd);
}
