//! Asks init which programs hold the sockets that connections come from. Many questions are asked at once, and looking
//! takes a tenth of the time at most, however many connections there are.

use std::os::fd::AsFd;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep};

use crate::launch::holders::{self, Holder};
use crate::launch::message::Channel;
use crate::proxy::caller::{Program, Question};
use crate::sys::readiness;

/// Pause after looking, as a multiple of how long it took.
const PAUSE: u32 = 9;
/// Init looks no longer than this; it may wait longer for a processor.
const LONGEST: Duration = Duration::from_millis(2);

/// Passes questions on to init until nobody asks any more, or init is gone. Needs a running tokio.
pub async fn serve(channel: Channel, mut questions: Receiver<Question>) {
    let Ok(ready) = channel.as_fd().try_clone_to_owned().and_then(readiness::readable) else { return };
    let mut asked: Vec<Question> = Vec::with_capacity(holders::MOST);
    while questions.recv_many(&mut asked, holders::MOST).await > 0 {
        let inodes: Vec<u32> = asked.iter().map(|question| question.inode).collect();
        let begun = Instant::now();
        if holders::ask(&channel, &inodes).is_err() {
            return;
        }
        let found = loop {
            let Ok(mut guard) = ready.readable().await else { return };
            match holders::answer(&channel) {
                Err(nix::errno::Errno::EAGAIN) => guard.clear_ready(),
                Err(_) => return,
                Ok(found) => break found,
            }
        };
        for (question, holder) in asked.drain(..).zip(found) {
            question.answer(holder.map(|Holder { pid, name }| Program { name, pid }));
        }
        sleep(begun.elapsed().min(LONGEST).saturating_mul(PAUSE)).await;
    }
}
