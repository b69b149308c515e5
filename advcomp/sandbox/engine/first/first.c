/* The first process of a container: unpacks the entry, starts the program, tells how it ended.

   It is what launcher.py is in a box of bubblewrap, where the host's Python can be shown; a
   container has an image of its own, which may hold no Python and no shell. So this is a static
   program without a C library, bound into every container read-only, started with all rights
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

typedef unsigned int u32;
typedef unsigned long u64;

enum { EINTR = 4, ECHILD = 10, ENOENT = 2, ENOEXEC = 8, EACCES = 13, ENOTDIR = 20, ELOOP = 40 };
enum { O_WRONLY = 1, O_CREAT = 0100, O_EXCL = 0200, O_CLOEXEC = 02000000, AT_FDCWD = -100 };
enum { SIGKILL = 9, SIGCHLD = 17, SIG_SETMASK = 2, POLLIN = 1 };
enum { PR_SET_DUMPABLE = 4, PR_SET_NO_NEW_PRIVS = 38, SECCOMP_SET_MODE_FILTER = 1 };

#if defined(__x86_64__)
enum {
  SYS_read = 0, SYS_write = 1, SYS_close = 3, SYS_rt_sigprocmask = 14, SYS_clone = 56,
  SYS_execve = 59, SYS_setsid = 112, SYS_getdents64 = 217, SYS_exit_group = 231, SYS_wait4 = 61, SYS_kill = 62, SYS_chdir = 80,
  SYS_umask = 95, SYS_statfs = 137, SYS_prctl = 157, SYS_openat = 257, SYS_mkdirat = 258,
  SYS_linkat = 265, SYS_symlinkat = 266, SYS_fchmodat = 268, SYS_ppoll = 271,
  SYS_signalfd4 = 289, SYS_dup3 = 292, SYS_seccomp = 317
};

static long call(long n, long a, long b, long c, long d, long e) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  __asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                   : "rcx", "r11", "memory");
  return result;
}

__asm__(".globl _start\n_start:\n  xor %ebp, %ebp\n  mov %rsp, %rdi\n  and $-16, %rsp\n  call run\n  hlt\n");

#elif defined(__aarch64__)
enum {
  SYS_dup3 = 24, SYS_mkdirat = 34, SYS_symlinkat = 36, SYS_linkat = 37, SYS_statfs = 43,
  SYS_chdir = 49, SYS_fchmodat = 53, SYS_openat = 56, SYS_close = 57, SYS_getdents64 = 61,
  SYS_read = 63, SYS_setsid = 157,
  SYS_write = 64, SYS_ppoll = 73, SYS_signalfd4 = 74, SYS_exit_group = 94, SYS_kill = 129,
  SYS_rt_sigprocmask = 135, SYS_umask = 166, SYS_prctl = 167, SYS_clone = 220,
  SYS_execve = 221, SYS_wait4 = 260, SYS_seccomp = 277
};

static long call(long n, long a, long b, long c, long d, long e) {
  register long x8 __asm__("x8") = n;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
  return x0;
}

__asm__(".globl _start\n_start:\n  mov x29, 0\n  mov x0, sp\n  b run\n");
#endif

#define CALL(n, ...) CALL_(n, __VA_ARGS__, 0, 0, 0, 0, 0)
#define CALL_(n, a, b, c, d, e, ...) \
  call(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e))

static char order[1 << 20], buffer[1 << 16];
static char *cursor = order;

static struct {
  char *mark, *cwd, **argv, **env, **scratch;
  u32 merged, most_threads, filter_bytes;
  void *filter;
} the;

static void leave(int code) { CALL(SYS_exit_group, code); }

static u64 length(const char *text) {
  u64 n = 0;
  while (text[n]) n++;
  return n;
}

static int begins(const char *text, const char *with) {
  while (*with && *text == *with) text++, with++;
  return !*with;
}

static void put(int fd, const char *data, u64 size) {
  while (size) {
    long written = CALL(SYS_write, fd, data, size);
    if (written == -EINTR) continue;
    if (written <= 0) return; /* the referee is gone: the end of standard input tells as well */
    data += written;
    size -= written;
  }
}

static char *append(char *at, const char *text) {
  while (*text) *at++ = *text++;
  return at;
}

static char *append_number(char *at, u32 number) {
  if (number >= 10) at = append_number(at, number / 10);
  *at++ = '0' + number % 10;
  return at;
}

/* One message, in one write: MARK, a word, numbers. */
static void tell(const char *word, u32 first, int second) {
  char *at = append(append(buffer, the.mark), word);
  *at++ = ' ';
  at = append_number(at, first);
  if (second >= 0) {
    *at++ = ' ';
    at = append_number(at, second);
  }
  *at++ = '\n';
  put(2, buffer, at - buffer);
}

/* Give up before the program has started, unless a call worked. */
static long must(long result, const char *what) {
  if (result >= 0) return result;
  char word[64];
  *append(append(word, "failed "), what) = 0;
  tell(word, -result, -1);
  leave(1);
  return 0;
}

/* Fill `data` from standard input; where that ends, so do we. */
static void take(void *data, u64 size) {
  while (size) {
    long got = CALL(SYS_read, 0, data, size);
    if (got == -EINTR) continue;
    if (got <= 0) leave(1);
    data = (char *)data + got;
    size -= got;
  }
}

static u32 take_number(void) {
  u32 number;
  take(&number, sizeof number);
  return number;
}

static void take_text(char *text, u32 room) {
  u32 size = take_number();
  if (size >= room) leave(1);
  take(text, size);
  text[size] = 0;
}

/* A text of the order, kept. */
static char *keep_text(void) {
  char *text = cursor;
  take_text(text, order + sizeof order - cursor);
  cursor += length(text) + 1;
  return text;
}

static char **keep_texts(void) {
  u32 count = take_number();
  cursor += -(u64)cursor & 7;
  char **texts = (char **)cursor;
  if (cursor + (count + 1ul) * sizeof *texts > order + sizeof order) leave(1);
  cursor = (char *)(texts + count + 1);
  for (u32 i = 0; i < count; i++) texts[i] = keep_text();
  texts[count] = 0;
  return texts;
}

/* Numbers are u32, texts a number of bytes and those bytes, lists a number and their items. */
static void read_order(void) {
  the.mark = keep_text();
  the.merged = take_number();
  the.most_threads = take_number(); /* 0: the kernel sees to it */
  the.cwd = keep_text();
  the.argv = keep_texts();
  the.env = keep_texts();
  the.scratch = keep_texts();
  the.filter_bytes = take_number();
  cursor += -(u64)cursor & 7;
  if (cursor + the.filter_bytes > order + sizeof order) leave(1);
  the.filter = cursor;
  take(cursor, the.filter_bytes);
}

static void unpack_file(const char *path, u32 mode) {
  u64 size;
  take(&size, sizeof size);
  long fd = CALL(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  must(fd, "to make a file of the entry");
  while (size) {
    u64 part = size < sizeof buffer ? size : sizeof buffer;
    take(buffer, part);
    for (u64 done = 0; done < part;)
      done += must(CALL(SYS_write, fd, buffer + done, part - done), "to write the entry");
    size -= part;
  }
  CALL(SYS_close, fd);
  must(CALL(SYS_fchmodat, AT_FDCWD, path, mode), "to give a mode");
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
      u32 mode = take_number();
      must(CALL(SYS_mkdirat, AT_FDCWD, path, 0700), "to make a folder of the entry");
      must(CALL(SYS_fchmodat, AT_FDCWD, path, mode), "to give a mode");
    } else if (kind == 'f') {
      u32 mode = take_number();
      unpack_file(path, mode);
    } else {
      take_text(target, sizeof target);
      if (kind == 'l')
        must(CALL(SYS_symlinkat, target, AT_FDCWD, path), "to make a link of the entry");
      else
        must(CALL(SYS_linkat, AT_FDCWD, target, AT_FDCWD, path), "to link a file of the entry");
    }
  }
}

static const char *reason(long error) {
  switch (error) {
    case ENOENT: return "No such file or directory";
    case EACCES: return "Permission denied";
    case ENOEXEC: return "Exec format error";
    case ENOTDIR: return "Not a directory";
    case ELOOP: return "Too many levels of symbolic links";
    default: return "it cannot be executed";
  }
}

/* execvpe: a name without a slash is looked for in the folders of PATH. */
static long execute(void) {
  char *name = the.argv[0], *path = 0;
  for (char *c = name; *c; c++)
    if (*c == '/') return CALL(SYS_execve, name, the.argv, the.env);
  for (char **variable = the.env; *variable; variable++)
    if (begins(*variable, "PATH=")) path = *variable + 5;
  long error = -ENOENT;
  while (path && *path) {
    char *at = buffer;
    while (*path && *path != ':') *at++ = *path++;
    if (*path) path++;
    *at++ = '/';
    *append(at, name) = 0;
    long result = CALL(SYS_execve, buffer, the.argv, the.env);
    if (result != -ENOENT && result != -ENOTDIR) error = result;
  }
  return error;
}

/* Become the kernel's victim of first choice; never is that the first process, or the host. */
static void volunteer(void) {
  CALL(SYS_prctl, PR_SET_DUMPABLE, 1);
  long fd = must(CALL(SYS_openat, AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY), "oom");
  must(CALL(SYS_write, fd, "1000", 4), "to come first where memory is short");
  CALL(SYS_close, fd);
}

/* In a child, so that an entry beyond the box's memory does not take this process with it. */
static void unpack_in_a_child(void) {
  u32 status;
  long child = must(CALL(SYS_clone, SIGCHLD, 0, 0, 0, 0), "to fork");
  if (!child) {
    volunteer();
    unpack();
    leave(0);
  }
  while (CALL(SYS_wait4, child, &status, 0, 0) == -EINTR) continue;
  if (status & 0x7f) tell("killed", status & 0x7f, -1);
  if (status) leave(1);
}

static void become_the_program(void) {
  volunteer();
  CALL(SYS_setsid, 0); /* so that it has no process group with the first process in it */
  u64 none = 0;
  CALL(SYS_rt_sigprocmask, SIG_SETMASK, &none, 0, sizeof none);
  must(CALL(SYS_chdir, the.cwd), "to enter the folder");
  long fd = must(CALL(SYS_openat, AT_FDCWD, "/dev/null", 0), "to open /dev/null");
  CALL(SYS_dup3, fd, 0, 0);
  CALL(SYS_close, fd);
  struct { unsigned short count; void *operations; } filter = {the.filter_bytes / 8, the.filter};
  CALL(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  must(CALL(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter), "to filter system calls");
  if (the.merged) CALL(SYS_dup3, 1, 2, 0);
  long error = -execute();
  char *at = append(append(buffer, "cannot start "), the.argv[0]);
  at = append(append(append(at, ": "), reason(error)), "\n");
  put(2, buffer, at - buffer);
  leave(error == ENOENT ? 127 : 126);
}

/* How many entries with a number for a name a folder of /proc has; `each` is called with them. */
static u32 numbered(const char *folder, char *entries, u32 room, u32 (*each)(const char *)) {
  u32 count = 0;
  long size, fd = CALL(SYS_openat, AT_FDCWD, folder, O_CLOEXEC);
  if (fd < 0) return 0;
  while ((size = CALL(SYS_getdents64, fd, entries, room)) > 0)
    for (char *entry = entries; entry < entries + size; entry += *(unsigned short *)(entry + 16)) {
      const char *name = entry + 19;
      if (*name >= '0' && *name <= '9') count += each ? each(name) : 1;
    }
  CALL(SYS_close, fd);
  return count;
}

static u32 threads_of(const char *process) {
  static char entries[4096];
  char folder[64];
  *append(append(append(folder, "/proc/"), process), "/task") = 0;
  return numbered(folder, entries, sizeof entries, 0);
}

/* Wait for `child`, clearing away all others that die before it; its status, or else `excess`. */
static u32 see_to_the_end(long child, u32 *excess) {
  struct { long seconds, nanoseconds; } look = {0, 50 * 1000 * 1000};
  u64 deaths = 1ul << (SIGCHLD - 1);
  long fd = must(CALL(SYS_signalfd4, -1, &deaths, sizeof deaths, O_CLOEXEC), "to await the end");
  for (;;) {
    u32 status;
    long pid;
    while ((pid = CALL(SYS_wait4, -1, &status, 1 /* WNOHANG */, 0)) > 0)
      if (pid == child) return status;
    struct { int fd; short events, found; } watched[] = {{0, POLLIN, 0}, {fd, POLLIN, 0}};
    CALL(SYS_ppoll, watched, 2, the.most_threads ? &look : 0, 0, 0);
    if (watched[0].found) leave(1);
    if (watched[1].found) CALL(SYS_read, fd, buffer, sizeof buffer);
    if (the.most_threads) *excess = numbered("/proc", buffer, sizeof buffer, threads_of);
    if (*excess > the.most_threads + 1) return 0;
    *excess = 0;
  }
}

static void kill_all_others(void) {
  for (;;) {
    CALL(SYS_kill, -1, SIGKILL);
    if (CALL(SYS_wait4, -1, 0, 0, 0) == -ECHILD) return;
  }
}

static int any_is_full(char **folders) {
  for (; *folders; folders++) {
    struct { u64 type, size, blocks, free, available, files, free_files, rest[16]; } usage;
    if (CALL(SYS_statfs, *folders, &usage) < 0) continue;
    if (!usage.available || (usage.files && !usage.free_files)) return 1;
  }
  return 0;
}

static void clear_environment(char **stack) {
  for (char **text = stack + *(long *)stack + 2; *text; text++)
    for (char *c = *text; *c; c++) *c = 0;
}

__attribute__((used, noreturn)) static void run(char **stack) {
  u64 all = -1ul;
  CALL(SYS_rt_sigprocmask, SIG_SETMASK, &all, 0, sizeof all);
  CALL(SYS_umask, 022);
  clear_environment(stack);
  read_order();
  must(CALL(SYS_chdir, the.cwd), "to enter the folder");
  unpack_in_a_child();
  tell("ready", 0, -1);
  char go;
  take(&go, 1);
  /* Not before: until now the referee, where it is of the same user, looks in through /proc. */
  CALL(SYS_prctl, PR_SET_DUMPABLE, 0);
  long child = must(CALL(SYS_clone, SIGCHLD, 0, 0, 0, 0), "to fork");
  if (!child) become_the_program();
  u32 excess = 0, status = see_to_the_end(child, &excess);
  kill_all_others();
  int full = any_is_full(the.scratch);
  if (excess)
    tell("excess", excess, full);
  else if (status & 0x7f)
    tell("signal", status & 0x7f, full);
  else
    tell("exit", status >> 8 & 0xff, full);
  while (CALL(SYS_read, 0, buffer, sizeof buffer) > 0) continue;
  leave(0);
  __builtin_unreachable();
}
