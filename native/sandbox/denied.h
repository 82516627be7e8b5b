/*
 * The system calls that code in a sandbox may not make, each with what it is told and why: a list for the preprocessor.
 *
 *     DENIED(name, who, errno, reason)
 *
 * Namespaces, capabilities and limits already stop most of what these calls could do. The list is for what they do not
 * stop, and for what no function needs: every call less is kernel code that cannot be attacked. `who` is ALL, or WORKER
 * for what the template itself takes to fork a worker. The errno is EPERM where a program should say that it may not,
 * and ENOSYS where programs try a call and do without it.
 */

/* Another process's memory, registers and descriptors: whoever is inside has no business with a debugger. */
DENIED(ptrace, ALL, EPERM, "reads and changes other processes")
DENIED(process_vm_readv, ALL, EPERM, "reads other processes' memory")
DENIED(process_vm_writev, ALL, EPERM, "writes other processes' memory")
DENIED(kcmp, ALL, EPERM, "tells where other processes keep things in the kernel")
DENIED(pidfd_getfd, ALL, EPERM, "takes other processes' descriptors")

/* What no namespace divides. */
DENIED(keyctl, ALL, EPERM, "keys are kept by user, not by sandbox")
DENIED(add_key, ALL, EPERM, "keys are kept by user, not by sandbox")
DENIED(request_key, ALL, EPERM, "keys are kept by user, not by sandbox; and may start a program of the host's")
DENIED(syslog, ALL, EPERM, "the kernel's log is the whole machine's")
DENIED(acct, ALL, EPERM, "accounts for the whole machine's processes")
DENIED(quotactl, ALL, EPERM, "disk quotas are the host's")
DENIED(quotactl_fd, ALL, EPERM, "disk quotas are the host's")
DENIED(fanotify_init, ALL, EPERM, "watches file systems that sandboxes share")
DENIED(open_by_handle_at, ALL, EPERM, "opens files past the directories that hide them")
DENIED(perf_event_open, ALL, EPERM, "counts what neighbours do; a large target")
DENIED(personality, ALL, EPERM, "turns address randomisation off, and old and little-tested behaviour on")

/* Machinery that loads programs into the kernel, or lets it be raced. */
DENIED(bpf, ALL, EPERM, "loads programs into the kernel")
DENIED(userfaultfd, ALL, EPERM, "stops the kernel in the middle of a copy: what makes races into exploits")
DENIED(io_uring_setup, ALL, ENOSYS, "makes calls that this filter does not see")
DENIED(io_uring_enter, ALL, ENOSYS, "makes calls that this filter does not see")
DENIED(io_uring_register, ALL, ENOSYS, "makes calls that this filter does not see")

/* The machine itself. */
DENIED(reboot, ALL, EPERM, "the machine is the host's")
DENIED(kexec_load, ALL, EPERM, "the machine is the host's")
DENIED(kexec_file_load, ALL, EPERM, "the machine is the host's")
DENIED(init_module, ALL, EPERM, "loads code into the kernel")
DENIED(finit_module, ALL, EPERM, "loads code into the kernel")
DENIED(delete_module, ALL, EPERM, "the kernel is the host's")
DENIED(swapon, ALL, EPERM, "memory is the host's")
DENIED(swapoff, ALL, EPERM, "memory is the host's")
DENIED(settimeofday, ALL, EPERM, "the clock is the whole machine's")
DENIED(clock_settime, ALL, EPERM, "the clock is the whole machine's")
DENIED(sethostname, ALL, EPERM, "the name is the whole machine's")
DENIED(setdomainname, ALL, EPERM, "the name is the whole machine's")
DENIED(vhangup, ALL, EPERM, "terminals are the host's")
DENIED(nfsservctl, ALL, ENOSYS, "long gone")
DENIED(lookup_dcookie, ALL, ENOSYS, "long gone")
#ifdef SYS_iopl
DENIED(iopl, ALL, EPERM, "hardware is the host's")
DENIED(ioperm, ALL, EPERM, "hardware is the host's")
DENIED(modify_ldt, ALL, EPERM, "16-bit segments: kernel code that nothing here needs")
DENIED(uselib, ALL, ENOSYS, "long gone")
DENIED(ustat, ALL, ENOSYS, "long gone")
DENIED(sysfs, ALL, ENOSYS, "long gone")
#endif

/* Mounts and namespaces are made by the host, and by the template for its workers. */
DENIED(umount2, ALL, EPERM, "mounts are the sandbox's walls")
DENIED(pivot_root, ALL, EPERM, "mounts are the sandbox's walls")
DENIED(chroot, ALL, EPERM, "mounts are the sandbox's walls")
DENIED(fsopen, ALL, EPERM, "mounts are the sandbox's walls")
DENIED(fsconfig, ALL, EPERM, "mounts are the sandbox's walls")
DENIED(fsmount, ALL, EPERM, "mounts are the sandbox's walls")
DENIED(fspick, ALL, EPERM, "mounts are the sandbox's walls")
DENIED(open_tree, ALL, EPERM, "mounts are the sandbox's walls")
DENIED(open_tree_attr, ALL, EPERM, "mounts are the sandbox's walls")
DENIED(mount_setattr, ALL, EPERM, "mounts are the sandbox's walls")
DENIED(mount, WORKER, EPERM, "mounts are the sandbox's walls")
DENIED(move_mount, WORKER, EPERM, "mounts are the sandbox's walls")
DENIED(unshare, ALL, EPERM, "namespaces are the sandbox's walls; a user namespace has every capability in it")
DENIED(setns, WORKER, EPERM, "namespaces are the sandbox's walls")
DENIED(clone3, WORKER, ENOSYS, "a filter cannot see its flags; C libraries then use clone, whose flags it can")
