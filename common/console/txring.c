/* The ring between the log and a serial line. Under the console's lock. */
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/txring.h>

/* The longest text that printk makes, with its prefix, and the word about lost lines. */
#define LINE_ROOM 1200u
#define LINE_END  2u       /* is always left, so that a line that is cut does end */

static u32 room(const struct txring *r)
{
    return TXRING_SIZE - txring_used(r);
}

static void put_raw(struct txring *r, char c)
{
    if (c == '\n')
        r->buf[r->in++ % TXRING_SIZE] = '\r';
    r->buf[r->in++ % TXRING_SIZE] = c;
}

static void tell_of_lost(struct txring *r)
{
    char text[96];

    snprintf(text, sizeof(text), "(XEN) *** %u lines are missing here: this line was too slow for them ***\n", r->lost);
    r->lost = 0;
    for (const char *p = text; *p; p++)
        put_raw(r, *p);
}

/* At the start of a line: whether it is taken. */
static bool takes_line(struct txring *r)
{
    if (room(r) < (r->lost ? TXRING_SIZE - TXRING_CROWDED : LINE_ROOM))
        return false;
    if (r->lost)
        tell_of_lost(r);
    return true;
}

/* A line that turns out longer than the room for it loses its end, and counts as lost. */
static void cut(struct txring *r)
{
    put_raw(r, '\n');
    r->dropping = true;
}

static void put(struct txring *r, char c)
{
    if (!r->mid_line)
        r->dropping = !takes_line(r);
    r->mid_line = c != '\n';
    if (r->dropping)
        r->lost += c == '\n';
    else if (c != '\n' && room(r) <= LINE_END)
        cut(r);
    else
        put_raw(r, c);
}

void txring_put(struct txring *r, const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        put(r, s[i]);
}

/* When all is out and the last that came was dropped, nothing else would say so: a part of a line counts, too. */
static void end_dropping(struct txring *r)
{
    if (r->dropping && r->mid_line) {
        r->lost++;
        r->mid_line = r->dropping = false;
    }
    if (r->lost)
        tell_of_lost(r);
}

bool txring_get(struct txring *r, char *c)
{
    if (r->in == r->out)
        end_dropping(r);
    if (r->in == r->out)
        return false;
    *c = r->buf[r->out++ % TXRING_SIZE];
    return true;
}
