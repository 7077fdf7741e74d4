//! Memory. Whatever a process maps stays inside the jail.

use super::super::Row;
use super::{ALLOW, ENOSYS, EPERM, row};

pub(super) const ROWS: &[Row] = &[
    row!(SYS_brk 12 214, ALLOW, "heap"),
    row!(SYS_mmap 9 222, ALLOW, "memory and files already open"),
    row!(SYS_munmap 11 215, ALLOW, "memory"),
    row!(SYS_mremap 25 216, ALLOW, "memory"),
    row!(SYS_mprotect 10 226, ALLOW, "compilers that run what they make: JVM, Node"),
    row!(SYS_madvise 28 233, ALLOW, "memory hints"),
    row!(SYS_mincore 27 232, ALLOW, "which pages are resident"),
    row!(SYS_msync 26 227, ALLOW, "writes mapped files back"),
    row!(SYS_mlock 149 228, ALLOW, "keys kept out of swap; RLIMIT_MEMLOCK bounds it"),
    row!(SYS_mlock2 325 284, ALLOW, "keys kept out of swap; RLIMIT_MEMLOCK bounds it"),
    row!(SYS_munlock 150 229, ALLOW, "as mlock"),
    row!(SYS_mlockall 151 230, ALLOW, "as mlock"),
    row!(SYS_munlockall 152 231, ALLOW, "as mlock"),
    row!(SYS_remap_file_pages 216 234, ALLOW, "obsolete mappings of old databases"),
    row!(SYS_mseal 462 462, ALLOW, "makes a mapping immutable (6.10)"),
    row!(SYS_pkey_alloc 330 289, ALLOW, "memory protection keys: V8"),
    row!(SYS_pkey_free 331 290, ALLOW, "memory protection keys: V8"),
    row!(SYS_pkey_mprotect 329 288, ALLOW, "memory protection keys: V8"),
    row!(new map_shadow_stack 453 453, ALLOW, "control-flow protection: glibc (6.6)"),
    row!(SYS_memfd_create 319 279, ALLOW, "anonymous files; a program run from one keeps the jail"),
    row!(SYS_memfd_secret 447 447, ENOSYS, "memory that whoever examines the jail cannot read; hardly any program uses it"),
    row!(SYS_userfaultfd 323 282, EPERM, "widens races in the kernel into exploits"),
    row!(SYS_get_mempolicy 239 236, ENOSYS, "answers as a kernel without NUMA; libnuma then leaves the others alone"),
    row!(SYS_set_mempolicy 238 237, ENOSYS, "as get_mempolicy"),
    row!(SYS_set_mempolicy_home_node 450 450, ENOSYS, "as get_mempolicy"),
    row!(SYS_mbind 237 235, ENOSYS, "as get_mempolicy"),
    row!(SYS_migrate_pages 256 238, ENOSYS, "as get_mempolicy"),
    row!(SYS_move_pages 279 239, ENOSYS, "as get_mempolicy; tells where pages of other processes lie"),
    row!(SYS_modify_ldt 154 -, ENOSYS, "16-bit segments for very old emulators; a source of kernel bugs"),
    row!(SYS_get_thread_area 211 -, ALLOW, "32-bit thread-local storage; needless, harmless"),
    row!(SYS_set_thread_area 205 -, ALLOW, "32-bit thread-local storage; needless, harmless"),
];
