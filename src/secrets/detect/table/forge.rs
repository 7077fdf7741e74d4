//! Forges and continuous integration.

use crate::secrets::detect::row::{Row, Verify};

pub(super) const ROWS: &[Row] = &[
    Row::at(
        "github-token",
        "token of GitHub: personal, OAuth, user, server or refresh",
        4,
        &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"],
        "gh[pousr]_[A-Za-z0-9]{36}",
    )
    .verify(Verify::Crc32Base62),
    Row::at(
        "github-fine-grained",
        "fine-grained personal token of GitHub",
        11,
        &["github_pat_"],
        "github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
    ),
    Row::at(
        "gitlab-personal",
        "personal, group or project token of GitLab",
        6,
        &["glpat-"],
        r"glpat-[A-Za-z0-9_-]{20,300}(?:\.[0-9a-z]{2}\.[0-9a-z]{9})?",
    ),
];
