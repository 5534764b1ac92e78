//! The forest of events: twelve built-in roots and the user-defined events below them.
//!
//! Process-wide, shared by all cores, behind a leaf lock that is never held during a call-out. Ids are
//! consecutive from 4096 and never used again (K7).

use super::event::{BUILTINS, EventId, FIRST_USER_EVENT};
use super::hookset::Filter;
use parking_lot::RwLock;

/// A user-defined event.
#[derive(Clone, Debug)]
pub struct Defined {
    /// The event it refines; 0 for the root, below which nothing can be registered.
    pub parent: EventId,
    /// Its filter; `None` for an allocated event, which is raised by hand.
    pub filter: Option<Filter>,
    /// The bytes the filter's argument had when the event was defined; a copy is at `arg`.
    bytes: Vec<u8>,
    /// Address of the `filter_arg_t` that filters and callbacks get.
    pub arg: usize,
}

/// All user-defined events of the process.
#[derive(Debug, Default)]
pub struct Forest {
    defined: Vec<Defined>,
}

/// The one forest.
pub static FOREST: RwLock<Forest> = RwLock::new(Forest { defined: Vec::new() });

fn is_builtin(event: EventId) -> bool {
    event.is_power_of_two() && event < 1 << BUILTINS
}

impl Forest {
    /// The definition of a user event.
    pub fn get(&self, event: EventId) -> Option<&Defined> {
        self.defined.get(usize::try_from(event.checked_sub(FIRST_USER_EVENT)?).ok()?)
    }

    /// Whether something can be defined below `event`: a built-in, a user event, or the root 0.
    pub fn is_parent(&self, event: EventId) -> bool {
        event == 0 || is_builtin(event) || self.get(event).is_some()
    }

    /// The built-in an event descends from, as a bit; `None` for unknown events and those below the root 0.
    pub fn builtin_of(&self, mut event: EventId) -> Option<EventId> {
        while !is_builtin(event) {
            event = self.get(event)?.parent;
        }
        Some(event)
    }

    /// Adds an event below `parent`, or finds the one that has the same filter and argument bytes.
    /// `keep` stores the argument for good and returns its address; it is called only for a new event.
    /// Returns 0 when the parent is unknown or memory is short.
    pub fn define(
        &mut self,
        parent: EventId,
        filter: Option<Filter>,
        bytes: &[u8],
        keep: impl FnOnce(&[u8]) -> Option<usize>,
    ) -> EventId {
        if !self.is_parent(parent) {
            return 0;
        }
        if filter.is_some() {
            let same = self
                .defined
                .iter()
                .position(|d| d.parent == parent && d.filter == filter && d.bytes == bytes);
            if let Some(index) = same {
                return FIRST_USER_EVENT + index as EventId;
            }
        }
        let mut copy = Vec::new();
        if copy.try_reserve_exact(bytes.len()).is_err() || self.defined.try_reserve(1).is_err() {
            return 0;
        }
        copy.extend_from_slice(bytes);
        let Some(arg) = keep(bytes) else { return 0 };
        self.defined.push(Defined { parent, filter, bytes: copy, arg });
        FIRST_USER_EVENT + (self.defined.len() - 1) as EventId
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(n: usize) -> Option<Filter> {
        Some(Filter::Foreign(n))
    }

    #[test]
    fn ids_are_consecutive_and_identical_definitions_share_one() {
        let mut f = Forest::default();
        let mut kept = 0;
        let mut keep = |_: &[u8]| {
            kept += 1;
            Some(kept)
        };
        assert_eq!(f.define(1, filter(10), b"", &mut keep), 4096);
        assert_eq!(f.define(1, filter(10), b"", &mut keep), 4096);
        assert_eq!(f.define(1, filter(10), b"x", &mut keep), 4097);
        assert_eq!(f.define(4097, filter(10), b"x", &mut keep), 4098);
        assert_eq!(f.define(0, filter(10), b"", &mut keep), 4099);
        assert_eq!(f.define(3, filter(10), b"", &mut keep), 0);
        assert_eq!(f.define(99999, filter(10), b"", &mut keep), 0);
        assert_eq!(f.define(1, None, b"", &mut keep), 4100);
        assert_eq!(f.define(1, None, b"", &mut keep), 4101);
        assert_eq!(f.builtin_of(4098), Some(1));
        assert_eq!(f.builtin_of(4099), None);
        assert_eq!(f.builtin_of(3), None);
        assert_eq!(kept, 6);
    }
}
