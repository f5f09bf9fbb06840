#define _GNU_SOURCE
#include "stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "talk.h"

#define ALIGNMENT  8u
#define MAX_LENGTH (8u << 20)       /* of a record: MAX_BATCH pages are half of it */

static int stream_fd;
static volatile sig_atomic_t is_given_up;

/* --- Looking at the first bytes --- */

#define PAUSE_US 10000

static ssize_t look_into_pipe(int fd, void *buffer, size_t size)
{
    int twin[2];
    ssize_t n;

    if (pipe(twin))
        return -1;
    n = tee(fd, twin[1], size, 0);
    if (n > 0)
        n = read(twin[0], buffer, (size_t)n);
    close(twin[0]);
    close(twin[1]);
    return n;
}

/* What is there now. Of what is neither file nor socket nor pipe, nothing: it could not be read again. */
static ssize_t look(int fd, mode_t mode, void *buffer, size_t size)
{
    if (S_ISREG(mode))
        return pread(fd, buffer, size, lseek(fd, 0, SEEK_CUR));
    if (S_ISSOCK(mode))
        return recv(fd, buffer, size, MSG_PEEK);
    return S_ISFIFO(mode) ? look_into_pipe(fd, buffer, size) : 0;
}

/* As long as it takes: who sends may wait for a guest, or for a network. */
static bool peek(int fd, void *buffer, size_t size)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    struct stat s;

    if (fstat(fd, &s))
        return false;
    for (;; usleep(PAUSE_US)) {
        ssize_t n = poll(&p, 1, -1) < 0 ? -1 : look(fd, s.st_mode, buffer, size);

        if (n >= (ssize_t)size)
            return true;
        if (n < 0 ? errno != EINTR && errno != EAGAIN : !n || S_ISREG(s.st_mode) || p.revents & POLLHUP)
            return false;
    }
}

bool stream_is_non_pae(int fd)
{
    struct {
        struct stream_head head;
        struct record_head record;
        struct pv_info info;
    } first;

    return peek(fd, &first, sizeof(first)) && first.head.marker == ~0ULL && first.head.id == htonl(STREAM_ID) &&
           first.head.type == DOMAIN_PV && first.record.type == REC_PV_INFO && first.record.length == sizeof(first.info) &&
           first.info.width == NONPAE_WIDTH && first.info.levels == NONPAE_LEVELS;
}

/* --- Bytes --- */

static void wait_for(short events)
{
    struct pollfd p = { .fd = stream_fd, .events = events };

    (void)poll(&p, 1, -1);
}

static void put_bytes(const void *bytes, size_t size)
{
    const char *p = bytes;

    while (size) {
        ssize_t n = write(stream_fd, p, size);

        if (n < 0 && errno == EAGAIN)
            wait_for(POLLOUT);
        else if (n < 0 && errno != EINTR)
            fail(is_given_up ? 0 : errno, is_given_up ? "libxl wants no more of it" : "cannot write to the stream");
        if (n > 0) {
            p += n;
            size -= (size_t)n;
        }
    }
}

void stream_get_bytes(void *bytes, size_t size, const char *what)
{
    char *p = bytes;

    while (size) {
        ssize_t n = read(stream_fd, p, size);

        if (n < 0 && errno == EAGAIN)
            wait_for(POLLIN);
        else if (n < 0 && errno != EINTR)
            fail(errno, "cannot read %s from the stream", what);
        if (!n)
            fail(EPIPE, "the stream ends in the middle of %s: %zu bytes are missing", what, size);
        if (n > 0) {
            p += n;
            size -= (size_t)n;
        }
    }
}

void stream_begin(int fd) { stream_fd = fd; }

void stream_give_up(int fd)
{
    int error = errno;

    is_given_up = true;
    (void)dup2(fd, stream_fd);
    errno = error;
}

/* --- The headers --- */

void stream_put_head(uint32_t xen_version)
{
    struct stream_head h = {
        .marker = ~0ULL, .id = htonl(STREAM_ID), .version = htonl(STREAM_VERSION), .type = DOMAIN_PV, .page_shift = 12,
        .xen_major = xen_version >> 16, .xen_minor = xen_version & 0xffff,
    };

    put_bytes(&h, sizeof(h));
}

void stream_get_head(void)
{
    struct stream_head h;

    stream_get_bytes(&h, sizeof(h), "the headers");
    if (h.marker != ~0ULL || h.id != htonl(STREAM_ID))
        fail(EINVAL, "this is no saved domain: it begins with %#llx and %#x, expected all ones and %#x", (unsigned long long)h.marker,
             ntohl(h.id), STREAM_ID);
    if (ntohl(h.version) != STREAM_VERSION || ntohs(h.options) & STREAM_BIG_ENDIAN)
        fail(EINVAL, "a stream of version %u, options %#x: expected version %u, little endian", ntohl(h.version), ntohs(h.options),
             STREAM_VERSION);
    if (h.type != DOMAIN_PV || h.page_shift != 12)
        fail(EINVAL, "a domain of type %u with pages of 2^%u bytes: expected type %u, 2^12 bytes", h.type, h.page_shift, DOMAIN_PV);
    say(XTL_INFO, "a saved domain from Xen %u.%u", h.xen_major, h.xen_minor);
}

/* --- Records --- */

void stream_put(uint32_t type, const void *head, size_t head_size, const void *body, size_t body_size)
{
    static const char padding[ALIGNMENT];
    struct record_head h = { type, (uint32_t)(head_size + body_size) };

    put_bytes(&h, sizeof(h));
    put_bytes(head, head_size);
    put_bytes(body, body_size);
    put_bytes(padding, -(size_t)h.length % ALIGNMENT);
}

struct record stream_get(void)
{
    struct record_head h;
    struct record r;
    size_t padded;

    stream_get_bytes(&h, sizeof(h), "a record's head");
    if (h.length > MAX_LENGTH)
        fail(EINVAL, "a record of type %#x has %u bytes, expected at most %u", h.type, h.length, MAX_LENGTH);
    padded = (h.length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    r = (struct record){ h.type, h.length, malloc(padded + 1) };
    if (!r.data)
        fail(ENOMEM, "no memory for a record of %u bytes", h.length);
    stream_get_bytes(r.data, padded, "a record");
    return r;
}
