//! The kernel's administration, with arguments that change nothing even where they are accepted.

use nix::errno::Errno;
use nix::libc;

use super::raw::{Line, Outcome, c, call, in_child};

/// Opens each path by its file handle, from the mount of `/`.
pub fn handles(paths: &[String]) {
    for path in paths {
        let mut handle = Handle { bytes: 128, kind: 0, data: [0; 128] };
        let mut mount = 0_i32;
        let path_c = c(path);
        let at =
            [libc::AT_FDCWD as usize, path_c.as_ptr() as usize, &raw mut handle as usize, &raw mut mount as usize, 0];
        let named = call(libc::SYS_name_to_handle_at, &at);
        Line::new("SC-009", format!("name_to_handle_at {path}")).outcome(named);
        let root = std::fs::File::open("/");
        let fd = root.as_ref().map_or(-1, std::os::fd::AsRawFd::as_raw_fd);
        let opened = call(libc::SYS_open_by_handle_at, &[fd as usize, &raw mut handle as usize, 0]);
        Line::new("SC-009", format!("open_by_handle_at {path}")).outcome(opened);
    }
    let pidfs_root = -10_003_i32 as usize; // FD_PIDFS_ROOT
    let mut handle = Handle { bytes: 8, kind: 0xF1, data: [0; 128] };
    let opened = call(libc::SYS_open_by_handle_at, &[pidfs_root, &raw mut handle as usize, 0]);
    Line::new("SC-009", "open_by_handle_at pidfs").outcome(opened);
}

/// `struct file_handle` with room for any file system's.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    data: [u8; 128],
}

/// Each call in a child of its own session, without its own terminal.
pub fn administration(_: &[String]) {
    let buffer = [0_u8; 256];
    let mut time = [0_u64; 32];
    let nowhere = c("/proc/jail-attack-no-such-file");
    let root = c("/");
    let tmpfs = c("tmpfs");
    let module = c("jail_attack_no_such_module");
    let hostname = nix::unistd::gethostname().unwrap_or_default();
    let attributes = perf_attributes();
    let (buffer, time) = (buffer.as_ptr() as usize, time.as_mut_ptr() as usize);
    let (nowhere, root, tmpfs) = (nowhere.as_ptr() as usize, root.as_ptr() as usize, tmpfs.as_ptr() as usize);
    let cwd = libc::AT_FDCWD as usize;
    let none = usize::MAX;
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))]
    let mut tries: Vec<(&str, i64, Vec<usize>)> = vec![
        ("bpf", libc::SYS_bpf, vec![0, buffer, 72]),
        ("perf_event_open", libc::SYS_perf_event_open, vec![attributes.as_ptr() as usize, 0, none, none, 0]),
        ("userfaultfd", libc::SYS_userfaultfd, vec![1]), // UFFD_USER_MODE_ONLY needs no privilege
        ("kexec_load", libc::SYS_kexec_load, vec![0, 0, 0, 0xFFFF]),
        ("kexec_file_load", libc::SYS_kexec_file_load, vec![none, none, 0, 0, 0xFFFF]),
        ("init_module", libc::SYS_init_module, vec![0, 0, buffer]),
        ("finit_module", libc::SYS_finit_module, vec![none, buffer, 0]),
        ("delete_module", libc::SYS_delete_module, vec![module.as_ptr() as usize, libc::O_NONBLOCK as usize]),
        ("swapon", libc::SYS_swapon, vec![nowhere, 0]),
        ("swapoff", libc::SYS_swapoff, vec![nowhere]),
        ("reboot", libc::SYS_reboot, vec![0, 0, 0, 0]),
        ("acct", libc::SYS_acct, vec![nowhere]),
        ("quotactl", libc::SYS_quotactl, vec![0x8000_0100, 0, 0, 0]),
        ("quotactl_fd", libc::SYS_quotactl_fd, vec![none, 0, 0, 0]),
        ("syslog", libc::SYS_syslog, vec![10, 0, 0]),
        ("lookup_dcookie", libc::SYS_lookup_dcookie, vec![0, buffer, 0]),
        ("vhangup", libc::SYS_vhangup, vec![]),
        ("nfsservctl", libc::SYS_nfsservctl, vec![]),
        ("get_mempolicy", libc::SYS_get_mempolicy, vec![0, 0, 0, 0, 0]),
        ("set_mempolicy", libc::SYS_set_mempolicy, vec![0, 0, 0]),
        ("mbind", libc::SYS_mbind, vec![0, 0, 0, 0, 0, 0]),
        ("move_pages", libc::SYS_move_pages, vec![0, 0, 0, 0, 0, 0]),
        ("migrate_pages", libc::SYS_migrate_pages, vec![0, 0, 0, 0]),
        ("settimeofday", libc::SYS_settimeofday, vec![0, 0]),
        ("clock_settime", libc::SYS_clock_settime, vec![0, 0]),
        ("adjtimex", libc::SYS_adjtimex, vec![time]),
        ("clock_adjtime", libc::SYS_clock_adjtime, vec![0, time]),
        ("sethostname", libc::SYS_sethostname, vec![hostname.as_encoded_bytes().as_ptr() as usize, hostname.len()]),
        ("fanotify_init", libc::SYS_fanotify_init, vec![0x200, 0]),
        ("mount", libc::SYS_mount, vec![tmpfs, nowhere, tmpfs, 0, 0]),
        ("umount2", libc::SYS_umount2, vec![nowhere, 0]),
        ("pivot_root", libc::SYS_pivot_root, vec![nowhere, nowhere]),
        ("chroot", libc::SYS_chroot, vec![root]),
        ("open_tree", libc::SYS_open_tree, vec![cwd, root, 1]),
        ("open_tree_attr", 467, vec![cwd, root, 0, 0, 0]),
        ("move_mount", libc::SYS_move_mount, vec![none, nowhere, none, nowhere, 0]),
        ("fsopen", libc::SYS_fsopen, vec![tmpfs, 0]),
        ("fsconfig", libc::SYS_fsconfig, vec![none, 0, 0, 0, 0]),
        ("fsmount", libc::SYS_fsmount, vec![none, 0, 0]),
        ("fspick", libc::SYS_fspick, vec![cwd, root, 0]),
        ("mount_setattr", libc::SYS_mount_setattr, vec![cwd, nowhere, 0, buffer, 32]),
        ("statmount", 457, vec![buffer, 0, 0, 0]),
        ("listmount", 458, vec![buffer, 0, 0, 0]),
        ("personality READ_IMPLIES_EXEC", libc::SYS_personality, vec![0x40_0000]),
        ("personality ADDR_NO_RANDOMIZE", libc::SYS_personality, vec![0x4_0000]),
        ("prctl SET_MM", libc::SYS_prctl, vec![35, 14, 0, 0, 0]),
        ("name_to_handle_at", libc::SYS_name_to_handle_at, vec![cwd, root, 0, 0, 0]),
    ];
    #[cfg(target_arch = "x86_64")]
    tries.extend([
        ("iopl", libc::SYS_iopl, vec![3]),
        ("ioperm", libc::SYS_ioperm, vec![0x80, 1, 1]),
        ("uselib", libc::SYS_uselib, vec![nowhere]),
        ("modify_ldt", libc::SYS_modify_ldt, vec![0, buffer, 16]),
        ("sysfs", libc::SYS_sysfs, vec![3, 0, 0]),
        ("ustat", libc::SYS_ustat, vec![0, buffer]),
    ]);
    for (name, number, args) in tries {
        in_child(Line::new("SC-010", name), || {
            nix::unistd::setsid()?;
            call(number, &args)
        });
    }
}

/// `struct perf_event_attr` for a software clock of this process.
fn perf_attributes() -> [u64; 16] {
    let mut attributes = [0; 16];
    attributes[0] = 1 | 128 << 32; // PERF_TYPE_SOFTWARE, size
    attributes[5] = 0b110_0001; // disabled, exclude_kernel, exclude_hv
    attributes
}

const SESSION: usize = -3_i32 as usize;
const PROCESS: usize = -2_i32 as usize;

/// Key rings; reads the user key with the given name from the session's ring.
pub fn keys(names: &[String]) {
    let kind = c("user");
    let own = c("jail-attack");
    let add =
        || call(libc::SYS_add_key, &[kind.as_ptr() as usize, own.as_ptr() as usize, own.as_ptr() as usize, 4, PROCESS]);
    in_child(Line::new("PK-016", "add_key"), add);
    Line::new("PK-016", "request_key")
        .outcome(call(libc::SYS_request_key, &[kind.as_ptr() as usize, own.as_ptr() as usize, 0, 0]));
    Line::new("PK-016", "keyctl session ring").outcome(call(libc::SYS_keyctl, &[0, SESSION, 0]));
    for name in names {
        let line = Line::new("PK-016", format!("keyctl read {name}"));
        match key(name, kind.as_ptr() as usize) {
            Ok(bytes) => line.bytes(Ok(bytes)),
            Err(errno) => line.outcome(Err(errno)),
        }
    }
}

fn key(name: &str, kind: usize) -> Result<Vec<u8>, Errno> {
    const KEYCTL_SEARCH: usize = 10;
    const KEYCTL_READ: usize = 11;
    let name = c(name);
    let id = call(libc::SYS_keyctl, &[KEYCTL_SEARCH, SESSION, kind, name.as_ptr() as usize, 0])?;
    let mut buffer = vec![0_u8; 256];
    let length: Outcome =
        call(libc::SYS_keyctl, &[KEYCTL_READ, id as usize, buffer.as_mut_ptr() as usize, buffer.len()]);
    buffer.truncate(length? as usize);
    Ok(buffer)
}
