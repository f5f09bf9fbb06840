#include "xenstore.h"
#include "clock.h"
#include "console.h"
#include "events.h"
#include "mm.h"
#include "string.h"
#include "traps.h"

#define RING 1024

/* Layout and numbers: public/io/xs_wire.h. */
struct store_page {
    char req[RING], rsp[RING];
    u32 req_cons, req_prod;
    u32 rsp_cons, rsp_prod;
};

struct message {
    u32 type, id, transaction, length;
};

enum { DIRECTORY = 1, READ = 2, WATCH = 4, WRITE = 11, REMOVE = 13, WATCH_EVENT = 15, ERROR = 16 };

static volatile struct store_page *page;
static char answer[4096 + 1];   /* ends with a NUL that is not part of it */
static u32 answer_length, last_id, fired;

void store_init(void)
{
    page = mfn_to_virt(start_info->store_mfn);
    if (!page)
        panic("the store's ring is not in our memory");
}

static void notify(void) { send_port(start_info->store_evtchn); }

static void put(const void *data, u32 n)
{
    for (const char *from = data; n; n--, from++) {
        while (page->req_prod - page->req_cons == RING) {
            u32 seen = upcall_count;

            notify();
            if (page->req_prod - page->req_cons == RING)
                wait_event(seen, FOREVER);
        }
        page->req[page->req_prod % RING] = *from;
        barrier();
        page->req_prod++;
    }
}

static void get(void *data, u32 n)
{
    for (char *to = data; n; n--, to++) {
        for (u32 seen = upcall_count; page->rsp_prod == page->rsp_cons; seen = upcall_count)
            if (page->rsp_prod == page->rsp_cons)
                wait_event(seen, FOREVER);
        *to = page->rsp[page->rsp_cons % RING];
        barrier();
        page->rsp_cons++;
    }
}

/* The next message; of a watch's event no more is kept than its token, which is the watch's number. */
static struct message receive(void)
{
    struct message m;

    get(&m, sizeof(m));
    if (m.length >= sizeof(answer))
        panic("the store sends %u bytes", m.length);
    get(answer, m.length);
    answer[m.length] = '\0';
    answer_length = m.length;
    notify();
    if (m.type == WATCH_EVENT)
        fired |= 1u << parse_number(answer + strlen(answer) + 1) % STORE_WATCHES;
    return m;
}

/* The message is the path with its NUL, and then more. */
static bool request(u32 type, const char *path, const void *more, u32 more_length)
{
    u32 path_length = (u32)strlen(path) + 1;
    struct message m = { type, ++last_id, 0, path_length + more_length };

    put(&m, sizeof(m));
    put(path, path_length);
    put(more, more_length);
    notify();
    do
        m = receive();
    while (m.type == WATCH_EVENT);
    if (m.id != last_id || (m.type != type && m.type != ERROR))
        panic("the store answers request %u of type %u with %u, %u", last_id, type, m.id, m.type);
    return m.type == type;
}

const char *store_error(void) { return answer; }
const char *store_read(const char *path) { return request(READ, path, NULL, 0) ? answer : NULL; }

u64 store_number(const char *path, u64 otherwise)
{
    const char *value = store_read(path);

    return value ? parse_number(value) : otherwise;
}

bool store_write(const char *path, const char *value) { return request(WRITE, path, value, (u32)strlen(value)); }
bool store_remove(const char *path) { return request(REMOVE, path, NULL, 0); }

const char *store_first(const char *path)
{
    return request(DIRECTORY, path, NULL, 0) && answer_length ? answer : NULL;
}

bool store_watch(const char *path, unsigned nr)
{
    char token[8];

    snprintf(token, sizeof(token), "%u", nr);
    return request(WATCH, path, token, (u32)strlen(token) + 1);
}

bool store_fired(unsigned nr)
{
    bool hit;

    while (page->rsp_prod != page->rsp_cons)
        receive();
    hit = fired >> nr & 1;
    fired &= ~(1u << nr);
    return hit;
}
