//! The watched directories: each knows its parent and its name, so that a move changes one entry.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;

use nix::sys::inotify::WatchDescriptor;

use crate::secrets::matcher::Fnv;

/// Stands for "no parent".
pub(super) const ROOT: i32 = 0;

#[derive(Debug)]
struct Node {
    parent: i32,
    /// `None` where no watch was left.
    descriptor: Option<WatchDescriptor>,
    revealed: bool,
    /// Not reached by the sweep under way.
    stale: bool,
    name: Box<[u8]>,
}

/// All known directories by the number of their watch; negative numbers stand for directories without one.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    by_id: HashMap<i32, Node, BuildHasherDefault<Fnv>>,
    root: Option<i32>,
    /// Directories without a watch, by their place.
    unwatched: HashMap<(i32, Box<[u8]>), i32>,
    last_unwatched: i32,
}

impl Nodes {
    /// The workspace itself, once it is watched.
    pub(super) fn root(&self) -> Option<i32> {
        self.root
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn contains(&self, id: i32) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(super) fn all(&self) -> Vec<i32> {
        self.by_id.keys().copied().collect()
    }

    pub(super) fn revealed(&self, id: i32) -> bool {
        self.by_id.get(&id).is_some_and(|node| node.revealed)
    }

    /// Adds a directory, or moves a known one to this place. Returns its number.
    pub(super) fn insert(
        &mut self,
        descriptor: Option<WatchDescriptor>,
        parent: i32,
        name: &[u8],
        revealed: bool,
    ) -> i32 {
        let id = match descriptor {
            Some(descriptor) => descriptor.as_raw(),
            // A directory without a watch cannot be followed when it moves; it is known by its place.
            None => *self.unwatched.entry((parent, name.into())).or_insert_with(|| {
                self.last_unwatched -= 1;
                self.last_unwatched
            }),
        };
        if parent == ROOT {
            self.root = Some(id);
        }
        self.by_id.insert(id, Node { parent, descriptor, revealed, stale: false, name: name.into() });
        id
    }

    /// The directory of this name in `parent`.
    pub(super) fn child(&self, parent: i32, name: &[u8]) -> Option<i32> {
        self.by_id.iter().find(|(_, node)| node.parent == parent && *node.name == *name).map(|(id, _)| *id)
    }

    /// The path relative to the workspace.
    pub(super) fn path(&self, id: i32) -> Vec<u8> {
        let mut parts: Vec<&[u8]> = Vec::new();
        let mut at = id;
        while let Some(node) = self.by_id.get(&at) {
            if node.parent == ROOT || parts.len() > self.by_id.len() {
                break;
            }
            parts.push(&node.name);
            at = node.parent;
        }
        parts.reverse();
        parts.join(&b'/')
    }

    /// The directory and all known directories below it.
    pub(super) fn below(&self, top: i32) -> Vec<i32> {
        let mut inside = HashSet::from([top]);
        let mut outside = HashSet::from([ROOT]);
        for &id in self.by_id.keys() {
            let mut way = Vec::new();
            let mut at = id;
            let found = loop {
                if inside.contains(&at) {
                    break true;
                }
                if outside.contains(&at) || way.len() > self.by_id.len() {
                    break false;
                }
                way.push(at);
                at = self.by_id.get(&at).map_or(ROOT, |node| node.parent);
            };
            if found { inside.extend(way) } else { outside.extend(way) }
        }
        inside.into_iter().collect()
    }

    /// Removes a directory; its watch, if it had one.
    pub(super) fn remove(&mut self, id: i32) -> Option<WatchDescriptor> {
        let node = self.by_id.remove(&id)?;
        if node.descriptor.is_none() {
            self.unwatched.remove(&(node.parent, node.name));
        }
        node.descriptor
    }

    /// From now on, directories that are not inserted again count as gone.
    pub(super) fn begin_sweep(&mut self) {
        for node in self.by_id.values_mut() {
            node.stale = true;
        }
    }

    /// What a sweep did not reach.
    pub(super) fn unseen(&self) -> Vec<i32> {
        self.by_id.iter().filter(|(_, node)| node.stale).map(|(id, _)| *id).collect()
    }
}

/// Appends a name to a path.
pub(super) fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() && !name.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}
