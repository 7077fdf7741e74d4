//! The built-in table, a file for each kind; `docs/secrets.md` is made from it.

mod cloud;
mod forge;

use super::row::{Group, Row};

/// Every row with its group, in the order of the documentation.
pub fn rows() -> impl Iterator<Item = Row> {
    let tables: [(Group, &[Row]); 2] = [(Group::Cloud, cloud::ROWS), (Group::Forge, forge::ROWS)];
    tables.into_iter().flat_map(|(group, rows)| rows.iter().map(move |row| Row { group, ..*row }))
}
