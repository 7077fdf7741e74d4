//! Which program inside makes a connection, as far as it is found out: for the record and for people. The program
//! chooses its name itself, so nothing is decided by it.
//!
//! The kernel says which socket it is, at once; who holds that socket is looked for meanwhile, by whoever takes the
//! [`Question`]s. Neither holds a connection up.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::sys::sockdiag::{self, Protocol};

/// What is recorded and told waits so long for the name of the program.
const PATIENCE: Duration = Duration::from_millis(100);

/// Questions that wait to be asked. Who opens connections faster stays unknown.
const QUESTIONS: usize = 64;

/// A program inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The file name of its executable, as it stands there: any text.
    pub name: String,
    /// Its process's number inside.
    pub pid: i32,
}

impl fmt::Display for Program {
    /// The name in one word, so that it cannot be taken for more than a name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 32;
        let plain = |c: char| if c.is_alphanumeric() || "._+-@".contains(c) { c } else { '?' };
        f.write_str(&self.name.chars().take(MOST).map(plain).collect::<String>())
    }
}

/// Who makes a connection.
#[derive(Debug, Clone, Default)]
pub struct Caller(Option<Arc<Asked>>);

/// It makes no difference to what is wanted.
impl PartialEq for Caller {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Caller {}

#[derive(Debug, Default)]
struct Asked {
    found: OnceLock<Option<Program>>,
    answered: Notify,
}

impl Caller {
    /// The program, if it is known by now.
    pub fn program(&self) -> Option<&Program> {
        self.0.as_ref()?.found.get()?.as_ref()
    }

    /// Whether it may become known yet.
    pub fn is_sought(&self) -> bool {
        self.0.as_ref().is_some_and(|asked| asked.found.get().is_none())
    }

    /// Waits until it is known, or will not be. Not for long.
    pub async fn settled(&self) {
        let Some(asked) = &self.0 else { return };
        let answered = async {
            let mut answered = std::pin::pin!(asked.answered.notified());
            answered.as_mut().enable();
            if asked.found.get().is_none() {
                answered.await;
            }
        };
        // It stays unknown then.
        let _ = timeout(PATIENCE, answered).await;
    }
}

/// Who holds the socket with this inode? Dropped, it was not found.
#[derive(Debug)]
pub struct Question {
    /// The inode.
    pub inode: u32,
    asked: Arc<Asked>,
}

impl Question {
    /// Answers it.
    pub fn answer(&self, program: Option<Program>) {
        // The first answer counts.
        let _ = self.asked.found.set(program);
        self.asked.answered.notify_waiters();
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.answer(None);
    }
}

/// Finds out who makes a connection.
#[derive(Debug, Default)]
pub struct Callers {
    questions: Option<mpsc::Sender<Question>>,
    kernel: OnceLock<Kernel>,
}

#[derive(Debug)]
struct Kernel {
    asked: OwnedFd,
    tcp: bool,
    udp: bool,
}

impl Callers {
    /// And the end where the questions come out.
    pub fn new() -> (Self, mpsc::Receiver<Question>) {
        let (questions, asked) = mpsc::channel(QUESTIONS);
        (Self { questions: Some(questions), kernel: OnceLock::new() }, asked)
    }

    /// Starts to ask on a socket of the jail's network namespace. There a TCP and a UDP socket have these addresses: where
    /// the kernel does not know them it is not asked again, because each question could make it look for a module.
    pub fn start(&self, asked: OwnedFd, tcp: SocketAddr, udp: SocketAddr) {
        let knows = |protocol, local: SocketAddr| {
            let unspecified = if local.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
            sockdiag::find(&asked, protocol, local, SocketAddr::new(unspecified, 1)).is_ok()
        };
        let (tcp, udp) = (knows(Protocol::Tcp, tcp), knows(Protocol::Udp, udp));
        // There is one jail.
        let _ = self.kernel.set(Kernel { asked, tcp, udp });
    }

    /// Who is at the other end of a connection that was accepted: it comes from `local` and was going to `remote`.
    pub fn of_connection(&self, local: SocketAddr, remote: SocketAddr) -> Caller {
        self.of(Protocol::Tcp, local, remote)
    }

    /// Who sent a datagram from `local` to `remote`.
    pub fn of_datagram(&self, local: SocketAddr, remote: SocketAddr) -> Caller {
        self.of(Protocol::Udp, local, remote)
    }

    fn of(&self, protocol: Protocol, local: SocketAddr, remote: SocketAddr) -> Caller {
        let able = |kernel: &&Kernel| if protocol == Protocol::Tcp { kernel.tcp } else { kernel.udp };
        let (Some(kernel), Some(questions)) = (self.kernel.get().filter(able), &self.questions) else {
            return Caller::default();
        };
        let Ok(place) = questions.try_reserve() else { return Caller::default() };
        match sockdiag::find(&kernel.asked, protocol, local, remote) {
            Ok(found) if found.inode != 0 && !found.listens => {
                let asked = Arc::<Asked>::default();
                place.send(Question { inode: found.inode, asked: Arc::clone(&asked) });
                Caller(Some(asked))
            }
            _ => Caller::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_as_one_word() {
        let shown = |name: &str| Program { name: name.to_owned(), pid: 2 }.to_string();
        assert_eq!(shown("python3.12"), "python3.12");
        assert_eq!(shown("x: allowed\n\u{202e}"), "x??allowed??");
        assert_eq!(shown(&"a".repeat(100)).len(), 32);
    }

    #[tokio::test]
    async fn who_is_not_found_stays_unknown_and_holds_nobody_up() {
        let asked = Arc::<Asked>::default();
        let caller = Caller(Some(Arc::clone(&asked)));
        let question = Question { inode: 1, asked };
        caller.settled().await;
        assert_eq!(caller.program(), None);
        drop(question);
        caller.settled().await;
        assert_eq!(caller.program(), None);
        let asked = Arc::<Asked>::default();
        let (caller, question) = (Caller(Some(Arc::clone(&asked))), Question { inode: 1, asked });
        let curl = Program { name: "curl".to_owned(), pid: 3 };
        tokio::join!(caller.settled(), async { question.answer(Some(curl.clone())) });
        assert_eq!(caller.program(), Some(&curl));
    }
}
