//! Requests to the kernel over netlink (netlink(7)): many messages in one packet, one answer for all of them.
//!
//! The kernel handles a packet inside sendto(2), so its answer is there when that returns.

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
/// `NLM_F_EXCL` and `NLM_F_CREATE`: make what does not exist yet.
pub const CREATE: u16 = 0x200 | 0x400;
const NLMSG_ERROR: u16 = 2;
const NLA_F_NESTED: u16 = 0x8000;
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Bytes read at once: refusals repeat the message they are about, and the longest has a few hundred.
const ANSWER: usize = 8192;

/// A packet of requests.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// What each message is about; its number is its place in here.
    names: Vec<&'static str>,
    /// Where the message begins whose success is reported.
    acknowledged: Option<(usize, u32)>,
}

/// A request that the kernel refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {errno}")]
pub struct Refused {
    /// What the request was about.
    pub what: &'static str,
    /// The kernel's error.
    pub errno: Errno,
}

impl Batch {
    /// Adds a message: its name for errors, its type, flags beside `NLM_F_REQUEST`, its family's header, attributes.
    pub fn add(
        &mut self,
        what: &'static str,
        kind: u16,
        flags: u16,
        header: &[u8],
        attributes: impl FnOnce(&mut Attributes<'_>),
    ) {
        let start = self.bytes.len();
        let number = self.names.len() as u32;
        self.names.push(what);
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&number.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(header);
        attributes(&mut Attributes(&mut self.bytes));
        let length = (self.bytes.len() - start) as u32;
        self.put(start, &length.to_ne_bytes());
        self.acknowledged = Some((start, number));
    }

    /// Adds a message whose success is not reported: the end of a transaction.
    pub fn add_silent(&mut self, what: &'static str, kind: u16, header: &[u8]) {
        let acknowledged = self.acknowledged;
        self.add(what, kind, 0, header, |_| {});
        self.acknowledged = acknowledged;
    }

    fn put(&mut self, at: usize, value: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    }

    /// Sends the packet on a fresh socket of this protocol, and reads whether all of it was done.
    ///
    /// Only the last message asks for an acknowledgement; refusals are reported for every message.
    pub fn send(mut self, protocol: SockProtocol) -> Result<(), Refused> {
        let failed = |what| move |errno| Refused { what, errno };
        let Some((start, last)) = self.acknowledged else { return Ok(()) };
        let flags = start + 6;
        if let Some(&[low, high]) = self.bytes.get(flags..flags + 2) {
            self.put(flags, &(u16::from_ne_bytes([low, high]) | NLM_F_ACK).to_ne_bytes());
        }
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
            .map_err(failed("netlink socket"))?;
        let kernel = NetlinkAddr::new(0, 0);
        sendto(socket.as_raw_fd(), &self.bytes, &kernel, MsgFlags::empty()).map_err(failed("netlink request"))?;
        let mut answer = [0; ANSWER];
        loop {
            // Nothing more to come and no acknowledgement: the kernel did not do it.
            let length =
                recv(socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT).map_err(failed("netlink answer"))?;
            for (number, errno) in results(answer.get(..length).unwrap_or_default()) {
                if errno != 0 {
                    let what = self.names.get(number as usize).copied().unwrap_or("netlink request");
                    return Err(Refused { what, errno: Errno::from_raw(errno.saturating_neg()) });
                }
                if number == last {
                    return Ok(());
                }
            }
        }
    }
}

/// The results in a packet: the message's number and the negative error, 0 for success.
fn results(mut packet: &[u8]) -> Vec<(u32, i32)> {
    let mut results = Vec::new();
    let word = |bytes: &[u8], at: usize| -> Option<[u8; 4]> { bytes.get(at..at + 4)?.try_into().ok() };
    while let Some(length) = word(packet, 0) {
        let length = u32::from_ne_bytes(length) as usize;
        let Some(message) = packet.get(..length).filter(|message| message.len() >= HEADER) else { break };
        let kind = message.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
        if let (Some(NLMSG_ERROR), Some(number), Some(errno)) = (kind, word(message, 8), word(message, HEADER)) {
            results.push((u32::from_ne_bytes(number), i32::from_ne_bytes(errno)));
        }
        packet = packet.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    results
}

/// The attributes of a message, or of an attribute that holds others.
#[derive(Debug)]
pub struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    /// Adds a value as it is.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.with(kind, |bytes| bytes.extend_from_slice(value))
    }

    /// Adds text with its terminating zero.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.with(kind, |bytes| {
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(0);
        })
    }

    /// Adds a number in the host's byte order, as routing attributes have it.
    pub fn native(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Adds a number in network byte order, as netfilter's attributes have it.
    pub fn network(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds an attribute that holds others.
    pub fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        self.with(kind | NLA_F_NESTED, |bytes| inner(&mut Attributes(bytes)))
    }

    fn with(&mut self, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        fill(self.0);
        // Attributes here are a few hundred bytes at most; the length counts the header and not the padding.
        let length = (self.0.len() - start) as u16;
        if let Some(place) = self.0.get_mut(start..start + 2) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
        let padded = self.0.len().next_multiple_of(4);
        self.0.resize(padded, 0);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_length_and_its_attributes_are_padded() {
        let mut batch = Batch::default();
        batch.add("one", 16, CREATE, &[7; 4], |attributes| {
            attributes.text(1, "ab").nest(2, |inner| {
                inner.network(3, 53);
            });
        });
        batch.add_silent("end", 17, &[]);
        let expected: &[&[u8]] = &[
            &40_u32.to_ne_bytes(),
            &16_u16.to_ne_bytes(),
            &(CREATE | NLM_F_REQUEST).to_ne_bytes(),
            &[0; 8],
            &[7; 4],
            &7_u16.to_ne_bytes(),
            &1_u16.to_ne_bytes(),
            b"ab\0\0",
            &12_u16.to_ne_bytes(),
            &(2 | NLA_F_NESTED).to_ne_bytes(),
            &8_u16.to_ne_bytes(),
            &3_u16.to_ne_bytes(),
            &[0, 0, 0, 53],
        ];
        assert_eq!(batch.bytes[..40], expected.concat());
        assert_eq!(batch.bytes.len(), 56);
        assert_eq!(batch.acknowledged, Some((0, 0)));
    }

    #[test]
    fn results_are_read_and_what_is_cut_is_left() {
        let error = |number: u32, errno: i32| {
            let parts: &[&[u8]] = &[
                &36_u32.to_ne_bytes(),
                &NLMSG_ERROR.to_ne_bytes(),
                &[0; 2],
                &number.to_ne_bytes(),
                &[0; 4],
                &errno.to_ne_bytes(),
                &[0; 16],
            ];
            parts.concat()
        };
        let packet = [error(3, -2), error(4, 0)].concat();
        assert_eq!(results(&packet), [(3, -2), (4, 0)]);
        for end in 0..packet.len() {
            assert!(results(&packet[..end]).len() <= 1);
        }
        assert_eq!(results(&[0; 64]), []);
    }
}
