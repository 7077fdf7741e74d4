//! The built-in table, a file for each kind; `docs/secrets.md` is made from it.

/// The expression of a value without a mark of its own that is assigned to a name which begins with one of the words.
macro_rules! named {
    ($words:literal, $value:literal) => {
        concat!(
            "(?i:",
            $words,
            r#")[A-Za-z0-9_.-]{0,40}(?:["'`\\\]]{0,3}[ \t]{0,8}(?:=>|:=|=|:|,|\()[ \t\r\n]{0,4}(?:(?i:bearer|token|basic) )?[\\"'`(]{0,3}|[ \t]{1,4})("#,
            $value,
            r#")(?:[^A-Za-z0-9_-]|$)"#
        )
    };
}

/// The same, where the name also has to say that it is a secret: its value looks like what is public elsewhere.
macro_rules! secret_named {
    ($words:literal, $value:literal) => {
        concat!(
            "(?i:(?:",
            $words,
            r#")[A-Za-z0-9_.-]{0,30}(?:key|token|secret|auth|pass|pat|cred|bearer)[a-z0-9_.-]{0,12}|"#,
            $words,
            r#")(?:["'`\\\]]{0,3}[ \t]{0,8}(?:=>|:=|=|:|,|\()[ \t\r\n]{0,4}(?:(?i:bearer|token|basic) )?[\\"'`(]{0,3})("#,
            $value,
            r#")(?:[^A-Za-z0-9_-]|$)"#
        )
    };
}

mod assignment;
mod cloud;
mod forge;
mod key;
mod login;
mod message;
mod model;
mod payment;
mod platform;
mod registry;
mod service;

use super::row::{Group, Row};

/// Every row with its group, in the order in which they are asked: of two that find the same the first counts.
pub fn rows() -> impl Iterator<Item = Row> {
    let tables: [(Group, &[Row]); 11] = [
        (Group::Key, key::ROWS),
        (Group::Cloud, cloud::ROWS),
        (Group::Platform, platform::ROWS),
        (Group::Forge, forge::ROWS),
        (Group::Registry, registry::ROWS),
        (Group::Message, message::ROWS),
        (Group::Payment, payment::ROWS),
        (Group::Model, model::ROWS),
        (Group::Service, service::ROWS),
        (Group::Login, login::ROWS),
        (Group::Assignment, assignment::ROWS),
    ];
    tables.into_iter().flat_map(|(group, rows)| rows.iter().map(move |row| Row { group, ..*row }))
}
