/* Included before everything: all symbols are ours, so no access needs to go through a global offset table. */
#pragma GCC visibility push(hidden)
