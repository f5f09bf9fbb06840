/*
 * cpu-times: print the time, and how much CPU time each domain has had until then: nanoseconds, then "number nanoseconds" for
 * each. All domains are asked at once. For tests, in dom0.
 */
#include <stdio.h>
#include <time.h>
#include <xenctrl.h>

#define MAX_DOMAINS 64
#define TRIES 200

static unsigned long long now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

/* Of many tries the one that took least: whatever delays a try, the time belongs to the answer. */
int main(void)
{
    static xc_domaininfo_t info[MAX_DOMAINS], best[MAX_DOMAINS];
    xc_interface *xch = xc_interface_open(NULL, NULL, 0);
    unsigned long long shortest = ~0ULL, at = 0;
    int nr = -1;

    for (int i = 0; xch && i < TRIES; i++) {
        unsigned long long before = now(), after;
        int n = xc_domain_getinfolist(xch, 0, MAX_DOMAINS, info);

        after = now();
        if (n < 0 || after - before >= shortest)
            continue;
        shortest = after - before;
        at = before + shortest / 2;
        nr = n;
        for (int j = 0; j < n; j++)
            best[j] = info[j];
    }
    if (nr < 0) {
        perror("cpu-times");
        return 1;
    }
    printf("%llu\n", at);
    for (int i = 0; i < nr; i++)
        printf("%u %llu\n", best[i].domain, (unsigned long long)best[i].cpu_time);
    return 0;
}
