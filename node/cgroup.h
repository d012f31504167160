/*
 * Cgroup v2 paths: which one a process is in, as the kernel tells it (/proc/PID/cgroup, cgroups(7)).
 *
 * The path is what a caller is identified by, so nothing about it is guessed: what is not one
 * absolute path in plain form is refused. Sans-I/O but for cgroup_of_pidfd. Threading: any.
 */
#pragma once

#include "base/error.h"
#include "base/slice.h"

#include <sys/types.h>

constexpr size_t CGROUP_PATH_SIZE = 4096; /* with the NUL; the kernel's PATH_MAX */
/* /proc/PID/cgroup: a path for each of some 16 hierarchies. */
constexpr size_t CGROUP_FILE_MAX = 32 * CGROUP_PATH_SIZE;

/* INVALID unless `path` is absolute, below the root, without empty segments, "." and "..", "/" at its
 * end, control characters or the kernel's mark of a deleted cgroup, " (deleted)". */
[[nodiscard]] bool cgroup_path_check(const char *path, struct error *err);

/* Whether `path` is `root` or below it. Both have passed cgroup_path_check. */
bool cgroup_within(const char *path, const char *root);

/* The path in the one line "0::PATH", among which the hierarchies of v1 may stand. UNAVAILABLE if
 * there is none (no cgroup v2 on this host); INVALID for more than one, for a path that leaves our
 * cgroup namespace ("/.."), and as cgroup_path_check says. */
[[nodiscard]] bool cgroup_parse(struct slice file, char ret[static CGROUP_PATH_SIZE],
                                struct error *err);

/* The process of a pidfd, from /proc/self/fdinfo/FD ("Pid:"). NOT_FOUND: it is gone, or it is in a
 * pid namespace that we can't see into. */
[[nodiscard]] bool pidfd_parse(struct slice fdinfo, pid_t *ret, struct error *err);

/* The cgroup of the process that `pidfd` names, now. The pid is read from the pidfd, then the path by
 * the pid, then the pidfd says that the process is still there: so no other process can have had the
 * pid in between. UNAUTHENTICATED: it is gone. `ret_pid` (may be null) is for logs. */
[[nodiscard]] bool cgroup_of_pidfd(int pidfd, char ret[static CGROUP_PATH_SIZE], pid_t *ret_pid,
                                   struct error *err);
