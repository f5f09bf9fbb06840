/* free-pages: print how many 4 KiB pages the hypervisor has free; xl info tells only MiB. For tests, in dom0. */
#include <stdio.h>
#include <xenctrl.h>

int main(void)
{
    xc_interface *xch = xc_interface_open(NULL, NULL, 0);
    xc_physinfo_t info = { 0 };

    if (!xch || xc_physinfo(xch, &info)) {
        perror("free-pages");
        return 1;
    }
    printf("%llu\n", (unsigned long long)info.free_pages);
    return 0;
}
