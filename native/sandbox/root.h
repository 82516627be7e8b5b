#ifndef LAMPLIGHTER_ROOT_H
#define LAMPLIGHTER_ROOT_H

#include "sandbox.h"

/* Build the root on spec->staging, in the caller's (private) mount namespace. procfs: the host's /proc, open. */
int ll_root_build(const struct ll_nest_spec *spec, int procfs, struct ll_fault *fault);

/* Make `root` the root of this mount namespace and of every process in it, and let go of the old one. */
int ll_root_enter(const char *root, struct ll_fault *fault);

/* Write /proc/PID/uid_map and gid_map: `count` ids from `inside` on, backed by `outside` on; { uid, gid } each. */
int ll_write_id_maps(int procfs, int pid, const unsigned inside[2], const unsigned outside[2], unsigned count,
                     struct ll_fault *fault);

#endif
