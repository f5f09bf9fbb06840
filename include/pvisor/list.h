/* A circular doubly linked list; a node is its own empty list after list_init(). */
#ifndef PVISOR_LIST_H
#define PVISOR_LIST_H

#include <pvisor/types.h>

struct list { struct list *next, *prev; };

#define LIST_INIT(name) { &(name), &(name) }

static inline void list_init(struct list *l) { l->next = l->prev = l; }
static inline bool list_empty(const struct list *l) { return l->next == l; }

static inline void list_insert_(struct list *n, struct list *prev, struct list *next)
{
    n->prev = prev;
    n->next = next;
    prev->next = n;
    next->prev = n;
}

static inline void list_add(struct list *n, struct list *head) { list_insert_(n, head, head->next); }
static inline void list_add_tail(struct list *n, struct list *head) { list_insert_(n, head->prev, head); }

/* Leaves n an empty list, so removing twice does no harm. */
static inline void list_del(struct list *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    list_init(n);
}

#define list_entry(p, type, member) container_of(p, type, member)
#define list_first(head, type, member) list_entry((head)->next, type, member)
#define list_for_each(pos, head, member)                                                   \
    for (pos = list_entry((head)->next, __typeof__(*pos), member); &pos->member != (head); \
         pos = list_entry(pos->member.next, __typeof__(*pos), member))

#endif
