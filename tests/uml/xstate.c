/* Preloaded into User Mode Linux, for the extended registers of its guest's threads: ptrace(2), PTRACE_SETREGSET.
 *
 * Linux 6.1 keeps 2,696 bytes of them. From a processor that has more (AMX) the host's kernel lets it read that much,
 * and refuses with EFAULT to write that much back, from which the guest's first process dies. So the rest, which no
 * guest program uses, is put behind it.
 *
 * And it reads and writes them at each system call and, twice, at each page fault of the guest, though they seldom have
 * changed. What is known of them is not asked for, and what is there already is not written. They change while the
 * thread runs, and when it gets a signal.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

/* Static, because this runs on a stack of the guest's kernel, which is small; that has one processor, and does not
 * change threads in here. */
static struct known {
    pid_t pid;
    size_t length;
    char registers[4096];
} known[256];

static char all[65536];
static size_t all_length;

static long (*next)(enum __ptrace_request, pid_t, void *, void *);

static struct known *known_of(pid_t pid)
{
    return &known[(unsigned)pid % 256];
}

static void keep(pid_t pid, const struct iovec *registers)
{
    struct known *entry = known_of(pid);

    entry->pid = 0;
    if (registers->iov_len <= sizeof entry->registers) {
        memcpy(entry->registers, registers->iov_base, registers->iov_len);
        entry->length = registers->iov_len;
        entry->pid = pid;
    }
}

static void forget(pid_t pid)
{
    if (known_of(pid)->pid == pid)
        known_of(pid)->pid = 0;
}

static long get(pid_t pid, struct iovec *registers)
{
    struct known *entry = known_of(pid);

    if (entry->pid == pid && entry->length <= registers->iov_len) {
        memcpy(registers->iov_base, entry->registers, entry->length);
        registers->iov_len = entry->length;
        return 0;
    }
    long result = next(PTRACE_GETREGSET, pid, (void *)NT_X86_XSTATE, registers);
    if (result != -1)
        keep(pid, registers);
    return result;
}

static long set(pid_t pid, struct iovec *registers)
{
    struct known *entry = known_of(pid);
    struct iovec whole = {all, sizeof all};

    if (entry->pid == pid && entry->length <= registers->iov_len &&
        memcmp(entry->registers, registers->iov_base, entry->length) == 0)
        return 0;
    if (all_length == 0) {
        if (next(PTRACE_GETREGSET, pid, (void *)NT_X86_XSTATE, &whole) == -1)
            return -1;
        all_length = whole.iov_len;
    }
    if (registers->iov_len < all_length) {
        memcpy(all, registers->iov_base, registers->iov_len);
        whole.iov_len = all_length;
    } else {
        /* What is more than the processor has, the host's kernel leaves away. */
        registers->iov_len = all_length;
        whole = *registers;
    }
    keep(pid, registers);
    return next(PTRACE_SETREGSET, pid, (void *)NT_X86_XSTATE, &whole);
}

long ptrace(enum __ptrace_request request, ...)
{
    va_list arguments;

    va_start(arguments, request);
    pid_t pid = va_arg(arguments, pid_t);
    void *address = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);
    if (next == NULL)
        next = (long (*)(enum __ptrace_request, pid_t, void *, void *))dlsym(RTLD_NEXT, "ptrace");
    if (request == PTRACE_GETREGSET && address == (void *)NT_X86_XSTATE)
        return get(pid, data);
    if (request == PTRACE_SETREGSET && address == (void *)NT_X86_XSTATE)
        return set(pid, data);
    switch (request) {
    case PTRACE_GETREGS:
    case PTRACE_SETREGS:
    case PTRACE_PEEKUSER:
    case PTRACE_POKEUSER:
        break;
    case PTRACE_CONT:
        /* Without a signal it runs no more than what the guest's kernel has put there, which uses none. */
        if (data != NULL)
            forget(pid);
        break;
    default:
        forget(pid);
    }
    return next(request, pid, address, data);
}
