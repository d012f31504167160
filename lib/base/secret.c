#include "base/secret.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(POSTERN_SANITIZED) && __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

/* The arena is handed out in units, first fit. One bit a unit says whether it is taken; bits and
 * struct secret live outside of the arena, so that overrunning a secret corrupts no bookkeeping. */
constexpr size_t SECRET_UNIT = 64;
constexpr size_t SECRET_UNITS = SECRET_ARENA_SIZE / SECRET_UNIT;
constexpr size_t SECRET_GUARD = 64 * 1024; /* bytes; a multiple of every page size */
constexpr unsigned SECRET_WORD = 64;       /* bits of a word of `taken` */

static_assert(SECRET_ARENA_SIZE % (SECRET_UNIT * SECRET_WORD) == 0);
static_assert(SECRET_ARENA_SIZE % SECRET_GUARD == 0);
static_assert(SECRET_MAX < SECRET_ARENA_SIZE);

struct secret {
    uint8_t *data;
    size_t len;
    size_t first; /* unit in the arena */
    size_t units;
    uint64_t fork; /* the arena it lies in: secret_arena_state.fork */
};

static struct {
    pthread_mutex_t lock;
    uint8_t *base; /* NULL before the first use */
    const char *kind;
    uint64_t fork; /* how many forks this process is away from the first */
    size_t hint;   /* no word before this one has a free unit */
    uint64_t taken[SECRET_UNITS / SECRET_WORD];
} secret_state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static pthread_once_t secret_once = PTHREAD_ONCE_INIT;

static void secret_lock(void)
{
    pthread_mutex_lock(&secret_state.lock);
}

static void secret_unlock(void)
{
    pthread_mutex_unlock(&secret_state.lock);
}

/* In a forked child. The arena was MADV_DONTFORK; its addresses become guard pages, so that nothing
 * else is ever mapped where a stale pointer leads. Async-signal-safe. */
static void secret_forked(void)
{
    if (secret_state.base &&
        mmap(secret_state.base, SECRET_ARENA_SIZE, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
        abort();
    secret_state.base = nullptr;
    secret_state.kind = nullptr;
    secret_state.hint = 0;
    secret_state.fork++;
    for (size_t i = 0; i < ARRAY_LEN(secret_state.taken); i++)
        secret_state.taken[i] = 0;
    secret_unlock();
}

/* Puts memfd_secret's memory at `at`. The mapping counts whole against RLIMIT_MEMLOCK, but a page is
 * made only when it is used. */
static bool secret_map_memfd(uint8_t *at)
{
    int fd = (int)syscall(SYS_memfd_secret, (unsigned long)O_CLOEXEC);
    void *mapped = MAP_FAILED;

    if (fd < 0)
        return false;
    if (ftruncate(fd, SECRET_ARENA_SIZE) == 0)
        mapped = mmap(at, SECRET_ARENA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    close(fd);
    return mapped != MAP_FAILED;
}

/* Maps guard, arena, guard, by the best means there is; NULL if there is none. */
static uint8_t *secret_map(const char **ret_kind)
{
    uint8_t *whole = mmap(nullptr, SECRET_ARENA_SIZE + 2 * SECRET_GUARD, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uint8_t *base = whole + SECRET_GUARD;
    const char *kind = "memfd_secret";
    struct rlimit limit;

    if (whole == MAP_FAILED)
        return nullptr;
    /* What the administrator allows, not what the shell happened to start with. */
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_MEMLOCK, &limit);
    }
    if (!secret_map_memfd(base)) {
        /* A refused MAP_FIXED may have unmapped what was there: map it anew. */
        if (mmap(base, SECRET_ARENA_SIZE, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
            goto fail;
        kind = mlock2(base, SECRET_ARENA_SIZE, MLOCK_ONFAULT) == 0 ? "mlock" : "unlocked";
    }
    /* Not optional: with them a fork or a core would copy keys. */
    if (madvise(base, SECRET_ARENA_SIZE, MADV_DONTDUMP) != 0 ||
        madvise(base, SECRET_ARENA_SIZE, MADV_DONTFORK) != 0)
        goto fail;
    ASAN_POISON_MEMORY_REGION(base, SECRET_ARENA_SIZE);
    *ret_kind = kind;
    return base;
fail:
    munmap(whole, SECRET_ARENA_SIZE + 2 * SECRET_GUARD);
    return nullptr;
}

static void secret_watch_forks(void)
{
    /* Fails only without memory at start; then a child's lock and bits are not reset, but the
     * parent's secrets are still not there: MADV_DONTFORK does not depend on it. */
    (void)pthread_atfork(secret_lock, secret_unlock, secret_forked);
}

/* With the lock held. */
static bool secret_ready(void)
{
    if (!secret_state.base)
        secret_state.base = secret_map(&secret_state.kind);
    return secret_state.base != nullptr;
}

static bool secret_taken(size_t unit)
{
    return secret_state.taken[unit / SECRET_WORD] >> (unit % SECRET_WORD) & 1;
}

/* With the lock held. */
static void secret_mark(size_t first, size_t units, bool taken)
{
    for (size_t unit = first; unit < first + units; unit++) {
        uint64_t bit = (uint64_t)1 << (unit % SECRET_WORD);

        if (taken)
            secret_state.taken[unit / SECRET_WORD] |= bit;
        else
            secret_state.taken[unit / SECRET_WORD] &= ~bit;
    }
    if (!taken && first / SECRET_WORD < secret_state.hint)
        secret_state.hint = first / SECRET_WORD;
}

/* With the lock held: the first run of free units; SECRET_UNITS if there is none. */
static size_t secret_find(size_t units)
{
    size_t run = 0;

    while (secret_state.hint < ARRAY_LEN(secret_state.taken) &&
           secret_state.taken[secret_state.hint] == UINT64_MAX)
        secret_state.hint++;
    for (size_t unit = secret_state.hint * SECRET_WORD; unit < SECRET_UNITS; unit++) {
        run = secret_taken(unit) ? 0 : run + 1;
        if (run == units)
            return unit + 1 - units;
    }
    return SECRET_UNITS;
}

static size_t secret_units(size_t len)
{
    return (len + SECRET_UNIT - 1) / SECRET_UNIT;
}

/* Finds secret->units units and marks them. */
static bool secret_place(struct secret *secret, struct error *err)
{
    bool ready, placed = false;

    pthread_once(&secret_once, secret_watch_forks);
    secret_lock();
    ready = secret_ready();
    if (ready) {
        secret->first = secret_find(secret->units);
        placed = secret->first < SECRET_UNITS;
    }
    if (placed) {
        secret_mark(secret->first, secret->units, true);
        secret->fork = secret_state.fork;
        secret->data = secret_state.base + secret->first * SECRET_UNIT;
        ASAN_UNPOISON_MEMORY_REGION(secret->data, secret->len);
    }
    secret_unlock();
    if (!ready)
        return error_set(err, ERROR_EXHAUSTED, "out of memory for secrets");
    if (!placed)
        return error_set(err, ERROR_EXHAUSTED, "more secrets than the arena's %zu bytes hold",
                         SECRET_ARENA_SIZE);
    return true;
}

bool secret_new(size_t len, struct secret **ret, struct error *err)
{
    struct secret *secret;

    if (len == 0)
        return error_set(err, ERROR_INVALID, "a secret can't be empty");
    if (len > SECRET_MAX)
        return error_set(err, ERROR_EXHAUSTED, "a secret of %zu bytes: at most %zu are possible",
                         len, SECRET_MAX);
    secret = mem_new(1, sizeof(*secret));
    if (!secret)
        return error_set_memory(err);
    secret->len = len;
    secret->units = secret_units(len);
    if (!secret_place(secret, err)) {
        mem_free(secret);
        return false;
    }
    *ret = secret;
    return true;
}

bool secret_from(struct slice bytes, struct secret **ret, struct error *err)
{
    struct secret *secret;

    if (!secret_new(bytes.len, &secret, err))
        return false;
    mem_copy(secret->data, bytes.data, bytes.len);
    *ret = secret;
    return true;
}

bool secret_random(size_t len, struct secret **ret, struct error *err)
{
    struct secret *secret;
    size_t done = 0;

    if (!secret_new(len, &secret, err))
        return false;
    while (done < len) {
        ssize_t n = getrandom(secret->data + done, len - done, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            error_set_errno(err, errno, "read the system's random generator");
            secret_free(secret);
            return false;
        }
        done += (size_t)n;
    }
    *ret = secret;
    return true;
}

/* False for a parent's secret in a forked child: its bytes and units are not there. */
static bool secret_present(const struct secret *secret)
{
    bool present;

    secret_lock();
    present = secret->fork == secret_state.fork;
    secret_unlock();
    return present;
}

struct secret *secret_free(struct secret *secret)
{
    if (!secret)
        return nullptr;
    secret_shorten(secret, 0);
    mem_free(secret);
    return nullptr;
}

uint8_t *secret_data(struct secret *secret)
{
    return secret ? secret->data : nullptr;
}

size_t secret_len(const struct secret *secret)
{
    return secret ? secret->len : 0;
}

struct slice secret_slice(const struct secret *secret)
{
    return secret ? slice(secret->data, secret->len) : slice(nullptr, 0);
}

void secret_shorten(struct secret *secret, size_t len)
{
    size_t keep = secret_units(len);
    size_t erased;

    if (!secret || len >= secret->len)
        return;
    erased = secret->len - len;
    secret->len = len;
    if (!secret_present(secret))
        return;
    /* Before the units are anybody else's. */
    mem_wipe(secret->data + len, erased);
    ASAN_POISON_MEMORY_REGION(secret->data + len, secret->units * SECRET_UNIT - len);
    secret_lock();
    secret_mark(secret->first + keep, secret->units - keep, false);
    secret_unlock();
    secret->units = keep;
}

bool secret_equal(const struct secret *a, const struct secret *b)
{
    return secret_len(a) == secret_len(b) &&
           mem_equal_secret(secret_slice(a).data, secret_slice(b).data, secret_len(a));
}

const char *secret_arena(void)
{
    const char *kind;

    pthread_once(&secret_once, secret_watch_forks);
    secret_lock();
    kind = secret_ready() ? secret_state.kind : "none";
    secret_unlock();
    return kind;
}

void secret_protect_process(void)
{
#ifndef POSTERN_SANITIZED
    const struct rlimit none = {0};

    (void)setrlimit(RLIMIT_CORE, &none);
    /* Neither can be refused; a kernel without them would still leave MADV_DONTDUMP. */
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
}
