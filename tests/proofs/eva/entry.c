/* pt/entry.c, whose get_node() asks for tables below: include/eva.h. */
#define get_table get_table_below
#include "arch/x86/pt/entry.c"
