//! What is allowed and likely not meant as it stands.

use crate::policy::egress::{EgressPolicy, Rule, Tunnel};
use crate::policy::{Origin, Sourced};

/// A line for each rule that opens more, or less, than its author will have wanted. Built-in profiles have none.
pub(super) fn about(egress: &EgressPolicy) -> Vec<String> {
    let own = |rule: &&Sourced<Rule>| !matches!(rule.source.origin, Origin::Profile(_));
    egress.allow.iter().filter(own).filter_map(warning).collect()
}

fn warning(rule: &Sourced<Rule>) -> Option<String> {
    let Sourced { value, source } = rule;
    if let Some(domain) = value.host.hosting() {
        return Some(format!(
            "{source}: {:?} covers names below {domain} that anyone can have; allow your own names there instead",
            value.host.as_str()
        ));
    }
    (value.tunnel == Tunnel::No).then(|| {
        format!(
            "{source}: without `tunnel = true` the rule for {:?} covers plain HTTP only, and TLS is refused",
            value.host.as_str()
        )
    })
}
