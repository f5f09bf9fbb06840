/* The page-table formats of guests. */
#ifndef PVISOR_PT_FORMAT_ID_H
#define PVISOR_PT_FORMAT_ID_H

enum pt_format_id { PT64, PT32P, PT32 };
#define NR_PT_FORMATS 3

#endif
