/*
 * Small allocations: slab classes of 32 to 512 bytes, and of the sizes of which three and two fit into a frame; each slab is
 * a frame with its header at the start. Larger ones are whole frames.
 */
#include <asm/pt.h>
#include <pvisor/frame.h>
#include <pvisor/lib.h>
#include <pvisor/list.h>
#include <pvisor/printk.h>
#include <pvisor/spinlock.h>

#define SLAB_MAGIC  0x51ab51abu
#define MIN_SHIFT 5
#define NR_CLASSES ARRAY_SIZE(class_size)
#define SLAB_HEADER 64UL

static const u16 class_size[] = { 32, 64, 128, 256, 512, 1344, 1984 };

/* NR_CLASSES: too large for any. */
static unsigned class_of(size_t size)
{
    if (size > 512)
        return size <= 1344 ? 5 : size <= 1984 ? 6 : NR_CLASSES;
    return size <= 32 ? 0 : 64 - (unsigned)__builtin_clzl(size - 1) - MIN_SHIFT;
}

struct slab {
    u32 magic;
    u16 class, used;
    struct list node;      /* in its class's list while it has a free object */
    void *free;            /* chain through the objects */
};

static struct list partial[NR_CLASSES];
static spinlock_t lock = SPINLOCK_INIT(RANK_XMALLOC);
static bool ready;

/* Objects of a power of two are aligned to it. */
#define SLAB_FIRST(size) ((size) > SLAB_HEADER && (size) <= 512 ? (size) : SLAB_HEADER)

static struct slab *slab_new(unsigned class)
{
    size_t size = class_size[class];
    struct slab *s = alloc_pages(0);

    if (!s)
        return NULL;
    *s = (struct slab){ .magic = SLAB_MAGIC, .class = (u16)class };
    for (size_t off = SLAB_FIRST(size); off + size <= PAGE_SIZE; off += size) {
        *(void **)((char *)s + off) = s->free;
        s->free = (char *)s + off;
    }
    list_add(&s->node, &partial[class]);
    return s;
}

static void *small_alloc(unsigned class)
{
    struct slab *s;
    void *p;

    if (!ready) {
        for (unsigned i = 0; i < NR_CLASSES; i++)
            list_init(&partial[i]);
        ready = true;
    }
    s = list_empty(&partial[class]) ? slab_new(class) : list_first(&partial[class], struct slab, node);
    if (!s)
        return NULL;
    p = s->free;
    s->free = *(void **)p;
    s->used++;
    if (!s->free)
        list_del(&s->node);
    return p;
}

static void small_free(struct slab *s, void *p)
{
    ASSERT(s->used);
    if (!s->free)
        list_add(&s->node, &partial[s->class]);
    *(void **)p = s->free;
    s->free = p;
    if (!--s->used) {
        list_del(&s->node);
        s->magic = 0;
        free_pages(s, 0);
    }
}

/* A large block starts on a page boundary; its order is noted beside its frame. */
static void *large_alloc(size_t size)
{
    unsigned order = size <= PAGE_SIZE ? 0 : 64 - (unsigned)__builtin_clzl((size - 1) >> PAGE_SHIFT);
    void *p = alloc_pages(order);

    if (p)
        frame_notes[virt_to_mfn(p).v] = order;
    return p;
}

void *xzalloc_bytes(size_t size)
{
    unsigned class = class_of(size);
    void *p;

    if (class >= NR_CLASSES)
        return large_alloc(size);
    spin_lock(&lock);
    p = small_alloc(class);
    spin_unlock(&lock);
    if (p)
        memset(p, 0, class_size[class]);
    return p;
}

void xfree(void *p)
{
    struct slab *s = (struct slab *)((u64)p & PAGE_MASK);

    if (!p)
        return;
    if ((void *)s == p) {
        free_pages(p, frame_notes[virt_to_mfn(p).v]);
        return;
    }
    BUG_ON(s->magic != SLAB_MAGIC);
    spin_lock(&lock);
    small_free(s, p);
    spin_unlock(&lock);
}
