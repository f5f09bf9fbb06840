/* Domains that everybody knows by name. */
#include <pvisor/domain.h>

struct domain *dom0;
struct domain *idle_domain;
