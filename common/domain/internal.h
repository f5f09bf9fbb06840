/* What the files of common/domain share. */
#ifndef DOMAIN_INTERNAL_H
#define DOMAIN_INTERNAL_H

#include <pvisor/domain.h>

/* lookup.c: the hash and the list. */
bool domain_publish(struct domain *d);       /* into both; false: the id is taken */
bool domain_unpublish(struct domain *d);     /* false: somebody holds a reference still */
bool domain_hide(struct domain *d);          /* from domain_get(); false: somebody holds a reference still */
void domain_show(struct domain *d);
u16 domain_free_id(void);                    /* DOMID_INVALID: all are in use */

/* pause.c */
void domain_add_vcpu(struct vcpu *v);

/* vcpu.c */
void vcpus_destroy(struct domain *d);

/* create.c: takes a domain without references apart; runs from a tasklet. */
void domain_destroy(void *d);

#endif
