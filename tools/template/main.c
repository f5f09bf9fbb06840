/* pvisor-template: a saved domain is made a template, from which domains are begun again and again. docs/migration.md */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "template.h"

#include "../save-helper/talk.h"

static const char usage[] =
    "usage: " NAME " make SAVED TEMPLATE\n"
    "       " NAME " keep TEMPLATE --name NAME\n"
    "       " NAME " start TEMPLATE --name NAME [OPTION...]\n"
    "\n"
    "make    makes a template of what xl save has written\n"
    "keep    has a domain keep the template in memory, which makes starts quicker, until xl destroy\n"
    "start   begins a domain that goes on where the saved one was\n"
    "\n"
    "  --name NAME                      of the new domain\n"
    "  --uuid UUID                      instead of one by chance\n"
    "  --disk phy:/dev/x,xvda[,w|,r]    a block device, under the name by which the saved domain had one; again for more\n"
    "  --bridge BRIDGE                  a network card at this bridge; again for more\n"
    "  --mac ADDRESS                    that card's address, instead of one by chance\n"
    "  --paused                         it does not run before xl unpause\n"
    "  --no-wait                        nobody waits for its end to clear up behind it\n";

static int make(int argc, char **argv)
{
    if (argc != 4) {
        fputs(usage, stderr);
        return EXIT_FAILURE;
    }
    template_make_file(argv[2], argv[3]);
    return EXIT_SUCCESS;
}

/* --- start and keep --- */

static void uuid_choose(uint8_t *u)
{
    if (getrandom(u, 16, 0) != 16)
        fail(errno, "no random numbers");
    u[6] = (uint8_t)(0x40 | (u[6] & 0x0f));
    u[8] = (uint8_t)(0x80 | (u[8] & 0x3f));
}

static void uuid_parse(uint8_t *u, const char *text)
{
    const char *p = text;

    for (unsigned i = 0; i < 16; i++, p += 2) {
        p += (i == 4 || i == 6 || i == 8 || i == 10) && *p == '-';
        if (strspn(p, "0123456789abcdefABCDEF") < 2 || sscanf(p, "%2hhx", &u[i]) != 1)
            fail(EINVAL, "%s is no UUID", text);
    }
    if (*p)
        fail(EINVAL, "%s is no UUID", text);
}

static void uuid_print(char *text, const uint8_t *u)
{
    for (unsigned i = 0; i < 16; i++)
        text += sprintf(text, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", u[i]);
}

static void add_disk(struct job *j, char *text)
{
    if (j->nr_disks == MAX_DEVICES)
        fail(E2BIG, "at most %u disks", MAX_DEVICES);
    disk_parse(&j->disks[j->nr_disks++], text);
}

static void add_card(struct job *j, const char *bridge)
{
    if (j->nr_cards == MAX_DEVICES)
        fail(E2BIG, "at most %u network cards", MAX_DEVICES);
    text_check(bridge, "a bridge");
    j->cards[j->nr_cards].bridge = bridge;
    mac_choose(&j->cards[j->nr_cards++]);
}

static void set_mac(struct job *j, const char *text)
{
    if (!j->nr_cards)
        fail(EINVAL, "--mac belongs to the --bridge before it");
    mac_parse(&j->cards[j->nr_cards - 1], text);
}

static const struct option options[] = {
    { "name", required_argument, NULL, 'n' }, { "uuid", required_argument, NULL, 'u' }, { "disk", required_argument, NULL, 'd' },
    { "bridge", required_argument, NULL, 'b' }, { "mac", required_argument, NULL, 'm' }, { "paused", no_argument, NULL, 'p' },
    { "no-wait", no_argument, NULL, 'w' }, { 0 },
};

static bool set_option(struct job *j, int option)
{
    switch (option) {
    case 'n':
        j->name = optarg;
        return true;
    case 'u':
        uuid_parse(j->uuid, optarg);
        return true;
    case 'd':
        add_disk(j, optarg);
        return true;
    case 'b':
        add_card(j, optarg);
        return true;
    case 'm':
        set_mac(j, optarg);
        return true;
    case 'p':
        return j->stays_paused = true;
    case 'w':
        return j->is_alone = true;
    default:
        return false;
    }
}

/* What xl would take for a domain's number is no name, and what a path has to separate its parts is in none. */
static void check_name(const char *name)
{
    if (!*name || strlen(name) > 63 || name[strspn(name, "0123456789")] == 0 || strchr(name, '/'))
        fail(EINVAL, "'%s' is no name for a domain: expected up to 63 characters, not digits alone, and no /", name);
    text_check(name, "a domain");
}

/* start and keep. */
static int begin(int argc, char **argv, void (*fn)(const struct template *t, struct job *j))
{
    static struct template t;
    struct job j = { 0 };
    int option;

    uuid_choose(j.uuid);
    while ((option = getopt_long(argc - 1, argv + 1, "", options, NULL)) != -1)
        if (!set_option(&j, option))
            return EXIT_FAILURE;
    if (argc - 1 - optind != 1 || !j.name) {
        fputs(usage, stderr);
        return EXIT_FAILURE;
    }
    check_name(j.name);
    uuid_print(j.uuid_text, j.uuid);
    template_open(&t, argv[1 + optind]);
    fn(&t, &j);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "make"))
        return make(argc, argv);
    if (argc > 1 && !strcmp(argv[1], "start"))
        return begin(argc, argv, template_start);
    if (argc > 1 && !strcmp(argv[1], "keep"))
        return begin(argc, argv, template_keep);
    fputs(usage, argc > 1 && !strcmp(argv[1], "--help") ? stdout : stderr);
    return argc > 1 && !strcmp(argv[1], "--help") ? EXIT_SUCCESS : EXIT_FAILURE;
}
