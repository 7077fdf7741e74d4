//! Clouds.

use crate::secrets::detect::row::{Row, Verify};

pub(super) const ROWS: &[Row] = &[
    Row::at(
        "aws-access-key",
        "access key id of AWS (IAM identifiers: AKIA, ASIA, ABIA, ACCA)",
        4,
        &["AKIA", "ASIA", "ABIA", "ACCA"],
        "(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}",
    ),
    Row::near(
        "aws-secret-key",
        "secret access key of AWS, 40 characters of base64",
        &["aws", "secret_access_key", "secretaccesskey"],
        r#"(?i-u:aws|secret_?access_?key)[^\n]{0,60}?["'=:\s>]([A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+=]|$)"#,
    )
    .entropy(42),
    Row::near(
        "azure-storage-key",
        "account key in a connection string of Azure Storage, base64 of 64 bytes",
        &["AccountKey"],
        r"(?i-u:accountkey)\s{0,3}[=:]\s{0,3}([A-Za-z0-9/+]{86}==)",
    )
    .verify(Verify::Base64(64))
    .entropy(40),
    Row::at("google-api-key", "API key of Google", 4, &["AIza"], r"AIza[A-Za-z0-9_-]{35}"),
];
