/*
 * breakpoint ADDRESS FILE: reads the file with a breakpoint of the process's own on instructions at that address, as a debugger would set
 * it. The exit status is 0 if the file could be read.
 */
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST_OF_INSTRUCTIONS 1     /* DR7: DR0 is on, for this process */

static int read_when_told(const char *path)
{
    char buffer[4096];
    int file;

    if (ptrace(PTRACE_TRACEME, 0, 0, 0) || raise(SIGSTOP))
        return 2;
    file = open(path, O_RDONLY);
    return file < 0 || read(file, buffer, sizeof(buffer)) <= 0;
}

static int set(pid_t child, unsigned n, unsigned long value)
{
    return (int)ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg) + n * sizeof(long), value);
}

int main(int argc, char **argv)
{
    int status;
    pid_t child = argc == 3 ? fork() : -1;

    if (!child)
        _exit(read_when_told(argv[2]));
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
        return 2;
    if (set(child, 0, strtoul(argv[1], NULL, 0)) || set(child, 7, FIRST_OF_INSTRUCTIONS) || ptrace(PTRACE_CONT, child, 0, 0)) {
        perror("breakpoint");
        kill(child, SIGKILL);
        return 2;
    }
    while (waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
        printf("stopped by signal %d\n", WSTOPSIG(status));
        if (ptrace(PTRACE_CONT, child, 0, 0))
            return 2;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
}
