//! Queries and the answers to them (RFC 1035 section 4, RFC 6891, RFC 8914).
//!
//! Nothing of a query is ever passed on: an answer is made from the one question, or it is a refusal. Answers are short
//! enough for every transport, so nothing is ever cut off.

use std::net::IpAddr;

use domain::base::iana::{Class, ExtendedErrorCode, Opcode, OptRcode, Rcode, Rtype};
use domain::base::message_builder::{MessageBuilder, OptBuilder, PushError, StaticCompressor};
use domain::base::name::ParsedName;
use domain::base::opt::exterr::ExtendedError;
use domain::base::wire::ParseError;
use domain::base::{Message, Question};
use domain::rdata::{A, Aaaa};

use crate::policy::host::Host;

/// How long a client may keep an answer, in seconds. The pool keeps an address for its name much longer.
pub const TTL: u32 = 60;

/// The longest query that is looked at: a name, and options that pad it.
pub const MAX_QUERY: usize = 2048;

/// The longest answer: what RFC 1035 section 2.3.4 lets every transport carry.
pub const MAX_ANSWER: usize = 512;

/// The most bytes of a refusal's text: with the longest name and everything else the answer has [`MAX_ANSWER`] bytes.
const MAX_TEXT: usize = 200;

/// What is announced as the size of datagrams that are accepted (RFC 6891 section 6.2.3).
const UDP_SIZE: u16 = 1232;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A: an IPv4 address.
    V4,
    /// AAAA: an IPv6 address.
    V6,
    /// Another type of record. HTTPS and SVCB are among them: what they say would move a client to another name, port or
    /// protocol, or hide the name it asks a server for.
    Other,
    /// A transfer of a zone, any type at once, or what only DNS itself uses.
    Meta,
}

/// What bytes are.
#[derive(Debug)]
pub enum Parsed<'a> {
    /// A question.
    Query(Query<'a>),
    /// No question that is answered: this is sent.
    Reject(Vec<u8>),
    /// An answer, or less than a header: nothing is sent, or two servers could answer each other for ever.
    Ignore,
}

/// One question.
#[derive(Debug)]
pub struct Query<'a> {
    /// The name; `None` when it is an address, the root or otherwise no host name.
    pub host: Option<Host>,
    /// The type of record.
    pub kind: Kind,
    message: &'a Message<[u8]>,
    question: Question<ParsedName<&'a [u8]>>,
    edns: Option<Edns>,
}

/// What is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The address. One of the other family than was asked for is as [`Answer::NoData`].
    Address(IpAddr),
    /// The name exists, without a record of this type.
    NoData,
    /// The policy says no, and this says why (RFC 8914 section 4.16).
    Denied(&'a str),
    /// Such types are not served.
    NotImplemented,
    /// Something that is not the client's fault.
    Failed,
}

/// The extension record of a query.
#[derive(Debug, Clone, Copy)]
struct Edns {
    version: u8,
    dnssec_ok: bool,
}

/// Reads a query: a datagram, or what follows the length on a stream.
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    let Ok(message) = Message::from_slice(bytes) else { return Parsed::Ignore };
    if message.header().qr() {
        return Parsed::Ignore;
    }
    if message.header().opcode() != Opcode::QUERY {
        return Parsed::Reject(reject(message, OptRcode::NOTIMP, None));
    }
    let (question, edns) = match read(message) {
        Ok(Some(parts)) if bytes.len() <= MAX_QUERY => parts,
        _ => return Parsed::Reject(reject(message, OptRcode::FORMERR, None)),
    };
    if edns.is_some_and(|edns| edns.version != 0) {
        return Parsed::Reject(reject(message, OptRcode::BADVERS, edns));
    }
    if question.qclass() != Class::IN {
        return Parsed::Reject(reject(message, OptRcode::REFUSED, edns));
    }
    let host = host(question.qname());
    Parsed::Query(Query { host, kind: kind(question.qtype()), message, question, edns })
}

impl Query<'_> {
    /// The whole answer, at most [`MAX_ANSWER`] bytes.
    pub fn answer(&self, answer: Answer<'_>) -> Vec<u8> {
        let rcode = match answer {
            Answer::Address(_) | Answer::NoData => Rcode::NOERROR,
            // Not REFUSED, after which programs ask again: glibc says "temporary failure", musl waits five seconds.
            Answer::Denied(_) => Rcode::NXDOMAIN,
            Answer::NotImplemented => Rcode::NOTIMP,
            Answer::Failed => Rcode::SERVFAIL,
        };
        // Nothing here grows beyond a vector; a bare header says as much as is left to say.
        self.write(answer, rcode).unwrap_or_else(|_| reject(self.message, rcode.into(), None))
    }

    fn write(&self, answer: Answer<'_>, rcode: Rcode) -> Result<Vec<u8>, PushError> {
        let builder = MessageBuilder::from_target(StaticCompressor::new(Vec::with_capacity(MAX_ANSWER)))
            .map_err(|_| PushError::ShortBuf)?;
        let mut builder = builder.start_answer(self.message, rcode)?;
        builder.header_mut().set_ra(true);
        let name = self.question.qname();
        match (answer, self.kind) {
            (Answer::Address(IpAddr::V4(address)), Kind::V4) => {
                builder.push((name, Class::IN, TTL, A::from(address)))?
            }
            (Answer::Address(IpAddr::V6(address)), Kind::V6) => {
                builder.push((name, Class::IN, TTL, Aaaa::from(address)))?;
            }
            _ => {}
        }
        let mut builder = builder.additional();
        if let Some(edns) = self.edns {
            builder.opt(|opt| {
                edns.write(opt);
                let Answer::Denied(text) = answer else { return Ok(()) };
                let text = text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default();
                match ExtendedError::<Vec<u8>>::new_with_str(ExtendedErrorCode::BLOCKED, text) {
                    Ok(error) => opt.push(&error),
                    Err(_) => Ok(()),
                }
            })?;
        }
        Ok(builder.finish().into_target())
    }
}

impl Edns {
    fn write<Target: domain::base::wire::Composer>(self, opt: &mut OptBuilder<'_, Target>) {
        opt.set_udp_payload_size(UDP_SIZE);
        opt.set_dnssec_ok(self.dnssec_ok);
    }
}

/// The one question, and the extension record; `None` when there is anything else.
#[allow(clippy::type_complexity, reason = "the two parts of a query")]
fn read(message: &Message<[u8]>) -> Result<Option<(Question<ParsedName<&[u8]>>, Option<Edns>)>, ParseError> {
    let counts = message.header_counts();
    if counts.qdcount() != 1 || counts.ancount() != 0 || counts.nscount() != 0 || counts.arcount() > 1 {
        return Ok(None);
    }
    let mut questions = message.question();
    let Some(question) = questions.next().transpose()? else { return Ok(None) };
    // There is nothing before it that a pointer could point to.
    if question.qname().is_compressed() {
        return Ok(None);
    }
    let mut records = message.additional()?;
    let edns = match records.next().transpose()? {
        None => None,
        Some(record) if record.rtype() == Rtype::OPT && record.owner().is_root() => {
            let record = record.to_record::<domain::base::opt::Opt<_>>()?;
            let Some(record) = record.map(domain::base::opt::OptRecord::from) else { return Ok(None) };
            // Options are well-formed by now; none is obeyed.
            Some(Edns { version: record.version(), dnssec_ok: record.dnssec_ok() })
        }
        Some(_) => return Ok(None),
    };
    let whole = records.pos() == message.as_slice().len();
    Ok(whole.then_some((question, edns)))
}

fn kind(rtype: Rtype) -> Kind {
    match rtype {
        Rtype::A => Kind::V4,
        Rtype::AAAA => Kind::V6,
        // RFC 6895 section 3.1: 0, OPT, and the range of types that only occur in questions.
        rtype => match rtype.to_int() {
            0 | 41 | 128..=255 => Kind::Meta,
            _ => Kind::Other,
        },
    }
}

/// The name as a host. A dot inside a label would read as the border between two.
fn host(name: &ParsedName<&[u8]>) -> Option<Host> {
    let mut text = Vec::with_capacity(64);
    for label in name.iter().filter(|label| !label.is_root()) {
        if label.as_slice().contains(&b'.') {
            return None;
        }
        if !text.is_empty() {
            text.push(b'.');
        }
        text.extend_from_slice(label.as_slice());
    }
    Host::from_wire(&text).ok().filter(|host| host.name().is_some())
}

/// An answer without a question: there is none, or none that can be repeated.
fn reject(message: &Message<[u8]>, rcode: OptRcode, edns: Option<Edns>) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    let header = builder.header_mut();
    header.set_id(message.header().id());
    header.set_qr(true);
    header.set_opcode(message.header().opcode());
    header.set_rd(message.header().rd());
    header.set_ra(true);
    header.set_rcode(rcode.rcode());
    let mut builder = builder.additional();
    if let Some(edns) = edns {
        // Writing to a vector does not fail.
        let _ = builder.opt(|opt| {
            edns.write(opt);
            opt.set_rcode(rcode);
            Ok(())
        });
    }
    builder.finish()
}
