//! Reading directories with getdents64(2) into a buffer that is used again for every directory.
//!
//! `readdir` allocates a stream and copies each entry; a pass over hundreds of thousands of files pays for both.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;

/// Size of the buffer: the C library uses the same for its streams.
const BUFFER: usize = 32 * 1024;

/// What `d_type` says an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A Unix socket.
    Socket,
    /// A FIFO or a device.
    Other,
    /// The file system does not say; ask with fstatat(2).
    Unknown,
}

impl FileType {
    /// The type in the format bits of `st_mode`.
    pub fn from_mode(mode: u32) -> Self {
        match mode & libc::S_IFMT {
            libc::S_IFREG => Self::File,
            libc::S_IFDIR => Self::Directory,
            libc::S_IFLNK => Self::Symlink,
            libc::S_IFSOCK => Self::Socket,
            _ => Self::Other,
        }
    }

    fn from_dirent(value: u8) -> Self {
        match value {
            libc::DT_REG => Self::File,
            libc::DT_DIR => Self::Directory,
            libc::DT_LNK => Self::Symlink,
            libc::DT_SOCK => Self::Socket,
            libc::DT_UNKNOWN => Self::Unknown,
            _ => Self::Other,
        }
    }
}

/// One entry of a directory, without `.` and `..`.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The name, any bytes but `/` and NUL.
    pub name: &'a CStr,
    /// What it is, as far as the file system says.
    pub kind: FileType,
    /// The inode number as the directory records it; on overlay and FUSE it may differ from `st_ino`.
    pub ino: u64,
}

/// The buffer entries are read into.
#[derive(Debug)]
pub struct Buffer(Box<[u8]>);

impl Default for Buffer {
    fn default() -> Self {
        Self(vec![0; BUFFER].into_boxed_slice())
    }
}

impl Buffer {
    /// Reads the directory from its current position to the end and gives every entry to `each`.
    ///
    /// # Errors
    /// What getdents64(2) returns; `EUCLEAN` where the kernel's answer cannot be a directory listing.
    pub fn read(&mut self, dir: BorrowedFd<'_>, mut each: impl FnMut(Entry<'_>)) -> Result<(), Errno> {
        loop {
            // SAFETY: the pointer and the length describe the buffer, which this function borrows exclusively, and the
            // kernel writes at most that many bytes; the descriptor is borrowed and therefore open.
            let read =
                unsafe { libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), self.0.as_mut_ptr(), self.0.len()) };
            let read = usize::try_from(read).map_err(|_| Errno::last())?;
            if read == 0 {
                return Ok(());
            }
            let mut rest = self.0.get(..read).ok_or(Errno::EUCLEAN)?;
            while !rest.is_empty() {
                let (entry, after) = parse(rest).ok_or(Errno::EUCLEAN)?;
                rest = after;
                if !matches!(entry.name.to_bytes(), b"." | b"..") {
                    each(entry);
                }
            }
        }
    }
}

/// Splits one `linux_dirent64` (`ino: u64, off: u64, reclen: u16, type: u8, name: NUL-terminated`) off the front.
fn parse(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let ino = u64::from_ne_bytes(bytes.get(..8)?.try_into().ok()?);
    let length = usize::from(u16::from_ne_bytes(bytes.get(16..18)?.try_into().ok()?));
    let record = bytes.get(..length)?;
    let kind = FileType::from_dirent(*record.get(18)?);
    let name = CStr::from_bytes_until_nul(record.get(19..)?).ok()?;
    Some((Entry { name, kind, ino }, &bytes[length..]))
}
