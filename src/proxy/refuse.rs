//! Saying no, in the language that the program speaks, at once and so that it arrives.

use nix::sys::socket::{Shutdown, shutdown};
use serde::Serialize;
use std::os::fd::AsRawFd;
use tokio::time::timeout;

use super::bounds;
use super::client::Client;
use super::forward;
use super::gate::Refusal;
use super::hello::{self, description};
use super::http::head::is_token_byte;
use crate::policy::reason::Reason;

/// The first byte of a TLS connection: a handshake record.
pub const TLS: u8 = 22;

/// Refuses in the protocol of the first byte the program sends; resets the connection where that is neither TLS nor HTTP.
pub async fn in_kind(mut client: Client, refusal: &Refusal) {
    match client.first(bounds::DENIED_WORDS).await {
        Some(TLS) => tls(client, refusal).await,
        Some(byte) if is_token_byte(byte) => {
            let is_head = client.bytes.starts_with(b"HEAD ");
            http(&mut client, refusal, None, is_head).await;
        }
        _ => forward::reset(&client.stream),
    }
}

/// Answers a TLS hello with a fatal alert.
pub async fn tls(mut client: Client, refusal: &Refusal) {
    let description = match refusal.reason {
        Reason::SniMismatch | Reason::SniMissing | Reason::EchOuterName | Reason::HostNotAllowed => {
            description::UNRECOGNIZED_NAME
        }
        Reason::BadRequest | Reason::BadHost => description::DECODE_ERROR,
        _ if refusal.reason.is_failure() => description::INTERNAL_ERROR,
        _ => description::ACCESS_DENIED,
    };
    say(&mut client, &hello::alert(description)).await;
}

/// Answers a request of HTTP, with the status of the reason unless another is given; without a body where the request
/// was HEAD.
pub async fn http(client: &mut Client, refusal: &Refusal, status: Option<u16>, is_head: bool) {
    say(client, &response(refusal, status, is_head)).await;
}

/// The body of a refusal: for the model that reads it.
#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    host: String,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    hint: &'a str,
}

fn response(refusal: &Refusal, status: Option<u16>, is_head: bool) -> Vec<u8> {
    let Refusal { wanted, reason, rule, detail } = refusal;
    let status = status.unwrap_or_else(|| self::status(*reason));
    let phrase = phrase(status);
    let body = Body {
        error: reason.sentence(),
        reason: reason.code(),
        rule: rule.as_deref(),
        host: wanted.host.to_string(),
        port: wanted.port,
        detail: detail.as_deref(),
        hint: reason.hint(),
    };
    let mut body = serde_json::to_vec(&body).unwrap_or_default();
    body.push(b'\n');
    let mut response = format!(
        "HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nProxy-Status: jail; error={}\r\nConnection: close\r\n\r\n",
        body.len(),
        proxy_error(*reason)
    )
    .into_bytes();
    if !is_head {
        response.extend_from_slice(&body);
    }
    response
}

fn status(reason: Reason) -> u16 {
    match reason {
        Reason::BadRequest | Reason::BadHost | Reason::HostMismatch => 400,
        Reason::LimitReached => 503,
        Reason::NameNotFound | Reason::Unreachable => 502,
        Reason::TimedOut => 504,
        _ => 403,
    }
}

/// The error type of RFC 9209 section 2.3.
fn proxy_error(reason: Reason) -> &'static str {
    match reason {
        Reason::NameNotFound => "dns_error",
        Reason::Unreachable => "destination_unavailable",
        Reason::TimedOut => "connection_timeout",
        Reason::LimitReached => "connection_limit_reached",
        _ => "http_request_denied",
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        408 => "Request Timeout",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Refused",
    }
}

/// Says something and closes. What the program still sends is read and thrown away for a moment: closing a socket with
/// unread bytes resets the connection, and a reset overtakes what was said.
pub async fn say(client: &mut Client, bytes: &[u8]) {
    let listen = async {
        forward::write_all(&client.stream, bytes, bounds::LISTEN).await?;
        shutdown(client.stream.as_raw_fd(), Shutdown::Write)?;
        let mut ignored = 0_usize;
        while ignored < bounds::IGNORED {
            client.bytes.clear();
            if !client.more().await? {
                break;
            }
            ignored = ignored.saturating_add(client.bytes.len());
        }
        Ok::<(), std::io::Error>(())
    };
    // Who does not listen is not told twice.
    let _ = timeout(bounds::LISTEN, listen).await;
}
