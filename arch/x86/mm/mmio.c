/* Device memory that no guest may write, dom0 neither: hwdom.c says what, and pt/entry.c asks. */
#include <pvisor/hwdom.h>

struct rangeset *mmio_ro_ranges;
