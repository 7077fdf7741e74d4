//! The addresses that stand for names inside the jail.
//!
//! A name that the policy allows gets an address of its own in both families, of ranges that are nobody's (RFC 2544,
//! RFC 4193). A connection to it says which name was meant, without any address of the world outside being looked up
//! before the connection is decided on.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::policy::host::Host;

/// How many names may have an address at once.
pub const MAX_NAMES: usize = 16 * 1024;

/// How long an address stays its name's after it was last told or connected to. Programs keep addresses far longer than a
/// TTL says.
pub const REST: Duration = Duration::from_secs(3600);

/// The address before the first: 198.18.0.0/24 is for the services of the jail itself.
const V4: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 0);

/// The last address of 198.18.0.0/15.
const LAST_V4: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 255);

/// fd00:18:1::/64; the address before the first.
const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x18, 1, 0, 0, 0, 0, 0);

/// Which addresses stand for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The answer to A.
    pub v4: Ipv4Addr,
    /// The answer to AAAA.
    pub v6: Ipv6Addr,
}

/// Names and their addresses.
#[derive(Debug)]
pub struct Pool {
    /// In the order of their addresses.
    slots: Vec<Slot>,
    /// The slot of each name.
    names: HashMap<Arc<str>, usize>,
    capacity: usize,
}

#[derive(Debug)]
struct Slot {
    name: Arc<str>,
    /// When the address was last told or connected to.
    used: Instant,
    /// Connections to it that are open.
    open: usize,
}

impl Default for Pool {
    fn default() -> Self {
        Self::new(MAX_NAMES)
    }
}

impl Pool {
    /// A pool for at most so many names at once, and never more than there are addresses.
    pub fn new(capacity: usize) -> Self {
        let addresses = u32::from(LAST_V4).saturating_sub(u32::from(V4));
        let capacity = capacity.min(usize::try_from(addresses).unwrap_or(MAX_NAMES));
        Self { slots: Vec::new(), names: HashMap::new(), capacity }
    }

    /// The addresses of a name: always the same, as long as it is used. A name that has none gets new ones, or those of
    /// the name that was unused for longest. `None` when every name was used within [`REST`] or is connected to.
    pub fn addresses_of(&mut self, name: &str, now: Instant) -> Option<Addresses> {
        let index = match self.names.get(name) {
            Some(index) => *index,
            None => self.give(name, now)?,
        };
        self.slots.get_mut(index)?.used = now;
        addresses(index)
    }

    /// The name that an address stands for.
    pub fn name_of(&self, address: IpAddr) -> Option<Host> {
        let slot = self.slots.get(index(address)?)?;
        Some(Host::Name(slot.name.as_ref().to_owned()))
    }

    /// The name that an address stands for, for a connection to it: the address stays the name's until the connection is
    /// [released](Pool::release).
    pub fn hold(&mut self, address: IpAddr, now: Instant) -> Option<Host> {
        let name = self.name_of(address)?;
        let slot = self.slots.get_mut(index(address)?)?;
        slot.open = slot.open.saturating_add(1);
        slot.used = now;
        Some(name)
    }

    /// A connection that held an address is closed.
    pub fn release(&mut self, address: IpAddr, now: Instant) {
        if let Some(slot) = index(address).and_then(|index| self.slots.get_mut(index)) {
            slot.open = slot.open.saturating_sub(1);
            slot.used = now;
        }
    }

    fn give(&mut self, name: &str, now: Instant) -> Option<usize> {
        let name: Arc<str> = name.into();
        let slot = Slot { name: Arc::clone(&name), used: now, open: 0 };
        let index = if self.slots.len() < self.capacity {
            self.slots.push(slot);
            self.slots.len().checked_sub(1)?
        } else {
            let index = self.unused(now)?;
            let old = std::mem::replace(self.slots.get_mut(index)?, slot);
            self.names.remove(&old.name);
            index
        };
        self.names.insert(name, index);
        Some(index)
    }

    /// The slot that was unused for longest, and long enough.
    fn unused(&self, now: Instant) -> Option<usize> {
        let closed = self.slots.iter().enumerate().filter(|(_, slot)| slot.open == 0);
        let (index, slot) = closed.min_by_key(|(_, slot)| slot.used)?;
        (now.saturating_duration_since(slot.used) >= REST).then_some(index)
    }
}

fn addresses(index: usize) -> Option<Addresses> {
    let number = u32::try_from(index).ok()?.checked_add(1)?;
    let v4 = u32::from(V4).checked_add(number)?;
    let v6 = u128::from(V6).checked_add(number.into())?;
    Some(Addresses { v4: v4.into(), v6: v6.into() })
}

/// The slot that an address belongs to. An IPv4 address reads the same in its IPv6 form (RFC 4291 section 2.5.5.2).
fn index(address: IpAddr) -> Option<usize> {
    let number = match address.to_canonical() {
        IpAddr::V4(address) => u128::from(u32::from(address).checked_sub(u32::from(V4))?),
        IpAddr::V6(address) => u128::from(address).checked_sub(u128::from(V6))?,
    };
    usize::try_from(number).ok()?.checked_sub(1)
}
