/* The first process of a container: unpacks the entry, starts the program, tells how it ended.

   It is what launcher.py is in a box of bubblewrap, where the host's Python can be shown; a
   container has an image of its own, which may hold no Python and no shell. So this is a static
   program (with musl), bound into every container read-only, started with all rights
   dropped already: the engine has given it the box's uid, no capabilities and no_new_privs. It
   reads no variable and loads no library, so nothing in the image's environment reaches it; it
   clears that away, too.

   It talks to the referee (box/entry_stream.py) over the standard streams that the engine attaches:

       referee -> 0   the order (see `read_order`), then the entry (see `unpack`)
       2 -> referee   MARK "ready 0\n", or MARK "failed WHAT ERRNO\n", or MARK "killed 9\n" where
                      the entry is beyond the box's memory
       referee -> 0   one byte: start the program
       2 -> referee   MARK "exit CODE FULL\n" or MARK "signal NUMBER FULL\n" when every other process
                      is dead; FULL is 1 where a scratch folder has no room left
                      or MARK "excess THREADS FULL\n", where it killed all since they were too many
       referee -> 0   the end: exit

   MARK is drawn by the referee for every box. The program cannot know it: it was read from a pipe
   that the program does not get, and this process cannot be traced (it is undumpable). Nobody
   writes after the last message, since nobody else is alive.

   The end of standard input means at every moment that the referee is dead or wants the end: this
   process exits, and the kernel clears the container away.

   Why the program is a child: the kernel does not deliver fatal signals that process 1 sends to
   itself, and an engine reports exit code 137 and death by signal 9 alike. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SECCOMP_SET_MODE_FILTER = 1 }; /* of <linux/seccomp.h>, which musl does not bring */

static char order[1 << 20], buffer[1 << 16];
static char *cursor = order;

static struct {
  char *mark, *cwd, **argv, **env, **scratch;
  uint32_t merged, most_threads, filter_bytes;
  void *filter;
} the;

static void put(int fd, const char *data, size_t size) {
  while (size) {
    ssize_t written = write(fd, data, size);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return; /* the referee is gone: the end of standard input tells as well */
    data += written;
    size -= written;
  }
}

/* One message, in one write: MARK, a word, numbers. */
static void tell(const char *word, uint32_t first, int second) {
  int size = snprintf(buffer, sizeof buffer, "%s%s %u", the.mark, word, first);
  if (second >= 0) size += snprintf(buffer + size, sizeof buffer - size, " %d", second);
  buffer[size++] = '\n';
  put(2, buffer, size);
}

/* Give up before the program has started, unless a call worked. */
static long must(long result, const char *what) {
  if (result >= 0) return result;
  char word[64];
  int error = errno;
  snprintf(word, sizeof word, "failed %s", what);
  tell(word, error, -1);
  _exit(1);
}

/* Fill `data` from standard input; where that ends, so do we. */
static void take(void *data, uint64_t size) {
  while (size) {
    ssize_t got = read(0, data, size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) _exit(1);
    data = (char *)data + got;
    size -= got;
  }
}

static uint32_t take_number(void) {
  uint32_t number;
  take(&number, sizeof number);
  return number;
}

static void take_text(char *text, uint32_t room) {
  uint32_t size = take_number();
  if (size >= room) _exit(1);
  take(text, size);
  text[size] = 0;
}

/* A text of the order, kept. */
static char *keep_text(void) {
  char *text = cursor;
  take_text(text, order + sizeof order - cursor);
  cursor += strlen(text) + 1;
  return text;
}

static char **keep_texts(void) {
  uint32_t count = take_number();
  cursor += -(uintptr_t)cursor & 7;
  char **texts = (char **)cursor;
  if (cursor + (count + 1ul) * sizeof *texts > order + sizeof order) _exit(1);
  cursor = (char *)(texts + count + 1);
  for (uint32_t i = 0; i < count; i++) texts[i] = keep_text();
  texts[count] = 0;
  return texts;
}

/* Numbers are uint32_t, texts a number of bytes and those bytes, lists a number and their items. */
static void read_order(void) {
  the.mark = keep_text();
  the.merged = take_number();
  the.most_threads = take_number(); /* 0: the kernel sees to it */
  the.cwd = keep_text();
  the.argv = keep_texts();
  the.env = keep_texts();
  the.scratch = keep_texts();
  the.filter_bytes = take_number();
  cursor += -(uintptr_t)cursor & 7;
  if (cursor + the.filter_bytes > order + sizeof order) _exit(1);
  the.filter = cursor;
  take(cursor, the.filter_bytes);
}

static void unpack_file(const char *path, uint32_t mode) {
  uint64_t size;
  take(&size, sizeof size);
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  must(fd, "to make a file of the entry");
  while (size) {
    uint64_t part = size < sizeof buffer ? size : sizeof buffer;
    take(buffer, part);
    for (uint64_t done = 0; done < part;)
      done += must(write(fd, buffer + done, part - done), "to write the entry");
    size -= part;
  }
  close(fd);
  must(chmod(path, mode), "to give a mode");
}

/* The entry: records of a kind, a path relative to /code and what the kind needs; up to 'e'. */
static void unpack(void) {
  static char path[4096 + 1], target[4096 + 1];
  for (;;) {
    char kind;
    take(&kind, 1);
    if (kind == 'e') return;
    take_text(path, sizeof path);
    if (kind == 'd') {
      uint32_t mode = take_number();
      must(mkdir(path, 0700), "to make a folder of the entry");
      must(chmod(path, mode), "to give a mode");
    } else if (kind == 'f') {
      uint32_t mode = take_number();
      unpack_file(path, mode);
    } else {
      take_text(target, sizeof target);
      if (kind == 'l')
        must(symlink(target, path), "to make a link of the entry");
      else
        must(link(target, path), "to link a file of the entry");
    }
  }
}

/* Become the kernel's victim of first choice; never is that the first process, or the host. */
static void volunteer(void) {
  prctl(PR_SET_DUMPABLE, 1);
  int fd = must(open("/proc/self/oom_score_adj", O_WRONLY), "oom");
  must(write(fd, "1000", 4), "to come first where memory is short");
  close(fd);
}

/* In a child, so that an entry beyond the box's memory does not take this process with it. */
static void unpack_in_a_child(void) {
  int status;
  pid_t child = must(fork(), "to fork");
  if (!child) {
    volunteer();
    unpack();
    _exit(0);
  }
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  if (WIFSIGNALED(status)) tell("killed", WTERMSIG(status), -1);
  if (status) _exit(1);
}

static void become_the_program(void) {
  volunteer();
  setsid(); /* so that it has no process group with the first process in it */
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, 0);
  must(chdir(the.cwd), "to enter the folder");
  int fd = must(open("/dev/null", O_RDONLY), "to open /dev/null");
  dup2(fd, 0);
  if (fd) close(fd);
  struct { unsigned short count; void *operations; } filter = {the.filter_bytes / 8, the.filter};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter), "to filter system calls");
  if (the.merged) dup2(1, 2);
  environ = the.env; /* whose PATH is the one that counts */
  execvpe(the.argv[0], the.argv, the.env);
  int error = errno;
  int size = snprintf(buffer, sizeof buffer, "cannot start %s: %s\n", the.argv[0], strerror(error));
  put(2, buffer, size);
  _exit(error == ENOENT ? 127 : 126);
}

/* How many entries with a number for a name a folder of /proc has; `each` is called with them. */
static uint32_t numbered(const char *folder, uint32_t (*each)(const char *)) {
  uint32_t count = 0;
  DIR *entries = opendir(folder);
  if (!entries) return 0;
  for (struct dirent *entry; (entry = readdir(entries));)
    if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9') count += each ? each(entry->d_name) : 1;
  closedir(entries);
  return count;
}

static uint32_t threads_of(const char *process) {
  char folder[300];
  snprintf(folder, sizeof folder, "/proc/%s/task", process);
  return numbered(folder, 0);
}

/* Wait for `child`, clearing away all others that die before it; its status, or else `excess`. */
static int see_to_the_end(pid_t child, uint32_t *excess) {
  sigset_t deaths;
  sigemptyset(&deaths);
  sigaddset(&deaths, SIGCHLD);
  int fd = must(signalfd(-1, &deaths, SFD_CLOEXEC), "to await the end");
  for (;;) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
      if (pid == child) return status;
    struct pollfd watched[] = {{0, POLLIN, 0}, {fd, POLLIN, 0}};
    poll(watched, 2, the.most_threads ? 50 : -1);
    if (watched[0].revents) _exit(1);
    if (watched[1].revents && read(fd, buffer, sizeof buffer) < 0) continue;
    if (the.most_threads) *excess = numbered("/proc", threads_of);
    if (*excess > the.most_threads + 1) return 0;
    *excess = 0;
  }
}

static void kill_all_others(void) {
  do kill(-1, SIGKILL);
  while (wait(0) >= 0 || errno != ECHILD);
}

static int any_is_full(char **folders) {
  for (; *folders; folders++) {
    struct statvfs usage;
    if (statvfs(*folders, &usage) < 0) continue;
    if (!usage.f_bavail || (usage.f_files && !usage.f_ffree)) return 1;
  }
  return 0;
}

static void clear(char **texts) {
  for (; *texts; texts++) memset(*texts, 0, strlen(*texts));
}

int main(int count, char **arguments, char **environment) {
  (void)count, (void)arguments;
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, 0);
  umask(022);
  clear(environment);
  read_order();
  must(chdir(the.cwd), "to enter the folder");
  unpack_in_a_child();
  tell("ready", 0, -1);
  char go;
  take(&go, 1);
  /* Not before: until now the referee, where it is of the same user, looks in through /proc. */
  prctl(PR_SET_DUMPABLE, 0);
  pid_t child = must(fork(), "to fork");
  if (!child) become_the_program();
  uint32_t excess = 0;
  int status = see_to_the_end(child, &excess);
  kill_all_others();
  int full = any_is_full(the.scratch);
  if (excess)
    tell("excess", excess, full);
  else if (WIFSIGNALED(status))
    tell("signal", WTERMSIG(status), full);
  else
    tell("exit", WEXITSTATUS(status), full);
  while (read(0, buffer, sizeof buffer) > 0) continue;
  return 0;
}
