//! Requests that type into a terminal or take it over.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;

use super::raw::{Line, Outcome, call, in_child};

const TIOCSTI: usize = 0x5412;
const TIOCSCTTY: usize = 0x540E;
const TIOCGWINSZ: usize = 0x5413;
const TIOCSPTLCK: usize = 0x4004_5431;
const TIOCGPTPEER: usize = 0x5441;
const HIGH: usize = 0x1_0000_0000;

pub fn terminal(_: &[String]) {
    in_child(Line::new("FD-003", "TIOCSTI own terminal, byte read back"), || inject(TIOCSTI));
    in_child(Line::new("FD-003", "TIOCSTI own terminal high bits, byte read back"), || inject(TIOCSTI | HIGH));
    in_child(Line::new("FD-005", "TIOCSCTTY own terminal"), || own_terminal().map(|_| 0));
    in_child(Line::new("FD-005", "TIOCGWINSZ own terminal"), || {
        let (_master, terminal) = own_terminal()?;
        let mut size = [0_u16; 4];
        request(&terminal, TIOCGWINSZ, &raw mut size as usize)
    });
    let byte = b"x";
    let paste = [2_u8, 0];
    let discipline = 0_i32;
    let number = 0_i32;
    // What fails harmlessly on a terminal that is none of the machine's consoles.
    let requests: &[(&str, &str, usize, usize)] = &[
        ("FD-004", "TIOCLINUX", 0x541C, paste.as_ptr() as usize),
        ("FD-004", "TIOCLINUX high bits", 0x541C | HIGH, paste.as_ptr() as usize),
        ("FD-005", "TIOCSETD", 0x5423, &raw const discipline as usize),
        ("FD-005", "TIOCSETD high bits", 0x5423 | HIGH << 3, &raw const discipline as usize),
        ("FD-005", "TIOCCONS", 0x541D, 0),
        ("FD-005", "KDSKBMODE", 0x4B45, 1),
        ("FD-005", "KDSKBENT", 0x4B47, 0),
        ("FD-005", "VT_ACTIVATE", 0x5606, 1),
        ("FD-005", "TIOCPKT", 0x5420, &raw const number as usize),
    ];
    for (case, name, code, argument) in requests {
        in_child(Line::new(case, *name), || {
            let (_master, terminal) = own_terminal()?;
            request(&terminal, *code, *argument)
        });
    }
    // The terminal this program was started on, if any: nothing is typed unless TIOCSTI is allowed.
    Line::new("FD-003", "TIOCSTI descriptor 0").outcome(call(libc::SYS_ioctl, &[0, TIOCSTI, byte.as_ptr() as usize]));
    match OpenOptions::new().read(true).write(true).open("/dev/tty") {
        Ok(tty) => Line::new("FD-007", "TIOCSTI /dev/tty").outcome(request(&tty, TIOCSTI, byte.as_ptr() as usize)),
        Err(error) => Line::new("FD-007", "open /dev/tty").io::<()>(Err(error)),
    }
}

fn request(file: &File, code: usize, argument: usize) -> Outcome {
    call(libc::SYS_ioctl, &[file.as_raw_fd() as usize, code, argument])
}

/// A new pseudo terminal as the controlling terminal of a new session: master and terminal.
fn own_terminal() -> Result<(File, File), Errno> {
    use std::os::fd::FromRawFd;
    let io = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
    // The session's leader hangs up when the master closes at the end of the child.
    // SAFETY: ignoring a signal installs no handler.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    nix::unistd::setsid()?;
    let master = OpenOptions::new().read(true).write(true).open("/dev/ptmx").map_err(io)?;
    let unlock = 0_i32;
    request(&master, TIOCSPTLCK, &raw const unlock as usize)?;
    let fd = request(&master, TIOCGPTPEER, (libc::O_RDWR | libc::O_NOCTTY) as usize)?;
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let terminal = unsafe { File::from_raw_fd(fd as i32) };
    request(&terminal, TIOCSCTTY, 0)?;
    Ok((master, terminal))
}

/// Types a line into the own terminal and reads it back: the byte that came.
fn inject(code: usize) -> Outcome {
    let (_master, mut terminal) = own_terminal()?;
    for byte in b"x\n" {
        request(&terminal, code, std::ptr::from_ref(byte) as usize)?;
    }
    let mut line = [0; 2];
    terminal.read_exact(&mut line).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    Ok(i64::from(line[0]))
}
