/*
 * What libxl keeps of a domain's settings, in a file of its own: by this xl saves, migrates and describes the domain, and gives it devices
 * or takes them away. A field that is left out has the tools' default.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "template.h"

#include "../save-helper/talk.h"

#define DIRECTORY "/var/lib/xen"

static void settings_path(char *path, size_t size, const struct job *j)
{
    snprintf(path, size, DIRECTORY "/userdata-d.%u.%s.libxl-json", j->domid, j->uuid_text);
}

static void print_vcpus(FILE *f, const struct template *t)
{
    const char *separator = "";

    fprintf(f, "\"max_vcpus\": %u, \"avail_vcpus\": [", t->head.nr_vcpus);
    for (uint32_t id = 0; id < t->head.nr_vcpus; id++)
        if (t->saved->vcpu[id].context.size) {
            fprintf(f, "%s%u", separator, id);
            separator = ", ";
        }
    fputs("], ", f);
}

static void print_devices(FILE *f, const struct job *j)
{
    if (j->nr_disks)
        fputs(", \"disks\": [", f);
    for (unsigned i = 0; i < j->nr_disks; i++)
        fprintf(f, "%s{\"pdev_path\": \"%s\", \"vdev\": \"%s\", \"backend\": \"phy\", \"format\": \"raw\", \"readwrite\": %u}",
                i ? ", " : "", j->disks[i].path, j->disks[i].vdev, j->disks[i].is_writable);
    fputs(j->nr_disks ? "]" : "", f);
    if (j->nr_cards)
        fputs(", \"nics\": [", f);
    for (unsigned i = 0; i < j->nr_cards; i++)
        fprintf(f, "%s{\"devid\": %u, \"mac\": \"%s\", \"bridge\": \"%s\", \"script\": \"%s\", \"nictype\": \"vif\"}", i ? ", " : "", i,
                j->cards[i].mac, j->cards[i].bridge, VIF_SCRIPT);
    fputs(j->nr_cards ? "]" : "", f);
}

void settings_write(const struct job *j, const struct template *t)
{
    char path[128];
    FILE *f;
    bool is_written;

    settings_path(path, sizeof(path), j);
    f = fopen(path, "we");
    if (!f)
        fail(errno, "%s", path);
    fprintf(f, "{\"c_info\": {\"type\": \"pv\", \"name\": \"%s\", \"uuid\": \"%s\"}, \"b_info\": {", j->name, j->uuid_text);
    print_vcpus(f, t);
    fprintf(f, "\"max_memkb\": %llu, \"target_memkb\": %llu, \"type.pv\": {}}", (unsigned long long)t->head.max_kib,
            (unsigned long long)t->head.target_kib);
    print_devices(f, j);
    fputs("}\n", f);
    is_written = !ferror(f);
    if (fclose(f) || !is_written)
        fail(errno, "%s", path);
}

void settings_forget(const struct job *j)
{
    char path[128];

    settings_path(path, sizeof(path), j);
    unlink(path);
}
