/* Preloaded into User Mode Linux on processors whose register set is larger than it knows (AMX).
 *
 * Linux 6.1 keeps 2,696 bytes of a guest thread's extended registers. The host's kernel lets it read that much of a
 * larger set, and refuses with EFAULT to write that much back, from which the guest's first process dies. So the rest,
 * which no guest program uses, is read and put behind it. See ptrace(2), PTRACE_SETREGSET.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

long ptrace(enum __ptrace_request request, ...)
{
    /* Static, because this runs on a stack of the guest's kernel, which is small; that has one processor, and does not
     * change threads in here. */
    static char registers[65536];
    static long (*next)(enum __ptrace_request, pid_t, void *, void *);
    va_list arguments;

    va_start(arguments, request);
    pid_t pid = va_arg(arguments, pid_t);
    void *address = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);
    if (next == NULL)
        next = (long (*)(enum __ptrace_request, pid_t, void *, void *))dlsym(RTLD_NEXT, "ptrace");
    if (request == PTRACE_SETREGSET && address == (void *)NT_X86_XSTATE) {
        struct iovec *known = data, all = {registers, sizeof registers};
        if (next(PTRACE_GETREGSET, pid, address, &all) == -1)
            return -1;
        if (known->iov_len < all.iov_len) {
            memcpy(registers, known->iov_base, known->iov_len);
            return next(request, pid, address, &all);
        }
    }
    return next(request, pid, address, data);
}
