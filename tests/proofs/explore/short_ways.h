/* In front of all that the explorer is made of: whether a short way is taken (pvisor/short_way.h) is asked when it could be. */
#define SHORT_WAYS explore_short_ways
extern int explore_short_ways;
