/*
 * In a container: gets at every process that appears there, in every way there is, until SIGTERM. Its arguments are
 * the device and inode of the host's interpreter, to which it tries to write in the end. Then it says, for each way,
 * how often it reached what is the host's.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t ended;
static unsigned long long device, inode;
static int seen, executable, written, refused, memory, environment, descriptors, taken, traced;
static int kept[8];

static void end(int number) { ended = number; }

static int is_interpreter(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && status.st_dev == device && status.st_ino == inode;
}

static int contains(const char *path, const char *text) {
    static char data[1 << 16];
    int file = open(path, O_RDONLY);
    if (file < 0)
        return 0;
    ssize_t size = read(file, data, sizeof data);
    close(file);
    return size > 0 && memmem(data, size, text, strlen(text)) != NULL;
}

static void open_executable(const char *directory) {
    char path[64];
    struct stat status;
    snprintf(path, sizeof path, "%s/exe", directory);
    int file = open(path, O_RDONLY);
    if (file < 0)
        return;
    /* Of what is open, because the process may have executed its program by now. */
    if (fstat(file, &status) == 0 && status.st_dev == device && status.st_ino == inode &&
        executable++ < (int)(sizeof kept / sizeof *kept))
        kept[executable - 1] = file;
    else
        close(file);
}

/* When nobody executes it any more, because until then it is busy. */
static void write_executables(void) {
    char path[64];
    for (int number = 0; number < executable && kept[number]; number++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", kept[number]);
        int writer = open(path, O_WRONLY);
        written += writer >= 0;
        refused += writer < 0 && errno == EROFS;
    }
}

static void list_descriptors(const char *directory) {
    char path[64], target[256];
    snprintf(path, sizeof path, "%s/fd", directory);
    DIR *list = opendir(path);
    if (!list)
        return;
    struct dirent *entry;
    while ((entry = readdir(list))) {
        ssize_t size = readlinkat(dirfd(list), entry->d_name, target, sizeof target - 1);
        descriptors += size > 6 && strncmp(target, "socket", 6) == 0;
    }
    closedir(list);
}

static void take_descriptors(int pid) {
    struct stat status;
    int process = syscall(SYS_pidfd_open, pid, 0);
    if (process < 0)
        return;
    for (int number = 0; number < 20; number++) {
        int descriptor = syscall(SYS_pidfd_getfd, process, number, 0);
        if (descriptor >= 0) {
            taken += fstat(descriptor, &status) == 0 && S_ISSOCK(status.st_mode);
            close(descriptor);
        }
    }
    close(process);
}

static void trace(int pid, const char *directory) {
    char path[64];
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) != 0)
        return;
    if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) == 0 && waitpid(pid, NULL, __WALL) == pid) {
        snprintf(path, sizeof path, "%s/exe", directory);
        traced += is_interpreter(path);
        ptrace(PTRACE_DETACH, pid, NULL, NULL);
    }
}

static void attack(int pid) {
    char directory[32], path[64];
    snprintf(directory, sizeof directory, "/proc/%d", pid);
    snprintf(path, sizeof path, "%s/cmdline", directory);
    seen += contains(path, "python");
    open_executable(directory);
    snprintf(path, sizeof path, "%s/maps", directory);
    memory += contains(path, "python");
    snprintf(path, sizeof path, "%s/environ", directory);
    environment += contains(path, "SECRET_OF_THE_HOST");
    list_descriptors(directory);
    take_descriptors(pid);
    trace(pid, directory);
}

int main(int count, char **arguments) {
    struct sigaction action = {.sa_handler = end};
    if (count != 3)
        return 2;
    device = strtoull(arguments[1], NULL, 10);
    inode = strtoull(arguments[2], NULL, 10);
    sigaction(SIGTERM, &action, NULL);
    printf("ready\n");
    fflush(stdout);
    while (!ended) {
        DIR *list = opendir("/proc");
        struct dirent *entry;
        while (list && (entry = readdir(list)))
            if (atoi(entry->d_name) > 1)
                attack(atoi(entry->d_name));
        closedir(list);
    }
    write_executables();
    printf("seen %d\nexecutable %d\nwritten %d\nrefused %d\nmemory %d\nenvironment %d\ndescriptors %d\n"
           "taken %d\ntraced %d\n",
           seen, executable, written, refused, memory, environment, descriptors, taken, traced);
    return 0;
}
