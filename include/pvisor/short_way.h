/*
 * Short ways: what is done all the time, done apart from the long way, which does all of it. Both must agree; docs/short-ways.md has the
 * list. Each asks here, at its first test, whether it may be taken: never in a build without them (make BUILD=long), whose long ways do
 * all, so that the same tests see them both.
 */
#ifndef PVISOR_SHORT_WAY_H
#define PVISOR_SHORT_WAY_H

#ifndef SHORT_WAYS
#define SHORT_WAYS 1
#endif
#define short_way(cond) (SHORT_WAYS && (cond))

#endif
