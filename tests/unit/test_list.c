/* The circular list: order, removal, removal while walking. */
// SOURCES:
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pvisor/list.h>

struct item { int value; struct list link; };

static int digits(struct list *head)
{
    struct item *i;
    int n = 0;

    list_for_each(i, head, link)
        n = n * 10 + i->value;
    return n;
}

static void keeps_order(void **state)
{
    struct list head = LIST_INIT(head);
    struct item a = { .value = 1 }, b = { .value = 2 }, c = { .value = 3 };

    (void)state;
    assert_true(list_empty(&head));
    list_add_tail(&b.link, &head);
    list_add_tail(&c.link, &head);
    list_add(&a.link, &head);
    assert_int_equal(digits(&head), 123);
    assert_ptr_equal(list_first(&head, struct item, link), &a);
}

static void removes_from_the_middle(void **state)
{
    struct list head = LIST_INIT(head);
    struct item items[5];

    (void)state;
    for (int n = 0; n < 5; n++) {
        items[n].value = n + 1;
        list_add_tail(&items[n].link, &head);
    }
    list_del(&items[1].link);
    list_del(&items[3].link);
    assert_int_equal(digits(&head), 135);
    list_del(&items[1].link);
    assert_int_equal(digits(&head), 135);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_order),
        cmocka_unit_test(removes_from_the_middle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
