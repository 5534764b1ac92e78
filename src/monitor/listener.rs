//! Listeners: the monitor sockets an application makes, and the one id space of a context (K9).
//!
//! They lie behind a leaf lock, so that an application thread may set them up while the core runs. The core works
//! with [`ListenerView`]s, refreshed when the listeners changed.

use super::filter::{RawFilter, StreamFilter};
use super::hookset::HookSet;
use crate::flow::ids::IdSpace;
use crate::flow::record::{CLI, SVR};
use std::sync::Arc;

/// STREAM or RAW.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// MOS_SOCK_MONITOR_STREAM.
    Stream,
    /// MOS_SOCK_MONITOR_RAW.
    Raw,
}

/// One listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its socket id.
    pub id: u32,
    /// STREAM or RAW.
    pub kind: Kind,
    /// Its callbacks; flows opened later start with them.
    pub hooks: Arc<HookSet>,
    /// Which SYNs open a flow; none: all.
    pub syn: Option<Arc<StreamFilter>>,
    /// Which packets without a flow are reported; none: all.
    pub orphan: Option<Arc<StreamFilter>>,
    /// Which packets a RAW socket sees; none: all.
    pub raw: Option<Arc<RawFilter>>,
    /// The application's pointer.
    pub uctx: usize,
    /// Reassembly bytes of each side that later flows start with; 0: none; `None`: the configuration's.
    pub buffer: [Option<usize>; 2],
    /// Sides that later flows report.
    pub follows: [bool; 2],
}

/// Listeners and ids of one context.
#[derive(Debug)]
pub struct Setup {
    /// All socket ids: listeners, flows.
    pub ids: IdSpace,
    /// Listeners in creation order.
    pub listeners: Vec<Listener>,
}

impl Setup {
    /// No listener, `max_ids` ids.
    pub fn new(max_ids: u32) -> Self {
        Setup { ids: IdSpace::new(max_ids), listeners: Vec::new() }
    }

    /// Makes a listener; `None` when no id is free or memory is short.
    pub fn add(&mut self, kind: Kind) -> Option<u32> {
        self.listeners.try_reserve(1).ok()?;
        let id = self.ids.alloc()?;
        self.listeners.push(Listener {
            id,
            kind,
            hooks: Arc::new(HookSet::default()),
            syn: None,
            orphan: None,
            raw: None,
            uctx: 0,
            buffer: [None; 2],
            follows: [true; 2],
        });
        Some(id)
    }

    /// A listener by id.
    pub fn get(&mut self, id: u32) -> Option<&mut Listener> {
        self.listeners.iter_mut().find(|l| l.id == id)
    }

    /// Removes a listener and frees its id.
    pub fn remove(&mut self, id: u32) -> bool {
        let Some(at) = self.listeners.iter().position(|l| l.id == id) else { return false };
        self.listeners.remove(at);
        self.ids.free(id);
        true
    }
}

/// What the core needs of a listener.
#[derive(Debug)]
pub struct ListenerView {
    /// Its socket id.
    pub id: u32,
    /// STREAM or RAW.
    pub kind: Kind,
    /// Number of its callback set.
    pub set: u32,
    /// Built-in events it registered on NULL.
    pub on_null: u16,
    /// See [`Listener::syn`].
    pub syn: Option<Arc<StreamFilter>>,
    /// See [`Listener::orphan`].
    pub orphan: Option<Arc<StreamFilter>>,
    /// See [`Listener::raw`].
    pub raw: Option<Arc<RawFilter>>,
    /// See [`Listener::buffer`].
    pub buffer: [Option<usize>; 2],
    /// See [`Listener::follows`].
    pub follows: [bool; 2],
}

use super::event::{ON_PKT_IN, on_rcv, on_snd};
use super::state::{Monitor, State};
use crate::flow::token::Token;
use std::sync::atomic::Ordering;

impl Monitor {
    /// Changes listeners under their lock and lets the core know.
    pub fn change_setup<R>(&self, change: impl FnOnce(&mut Setup) -> R) -> R {
        let mut setup = self.setup.lock();
        let result = change(&mut setup);
        self.setup_epoch.fetch_add(1, Ordering::Release);
        result
    }

    /// MOS_CLIBUF, MOS_SVRBUF of a listener: for flows opened later.
    pub fn set_listener_buffer(&self, id: u32, side: usize, size: usize) {
        self.change_setup(|setup| {
            if let Some(l) = setup.get(id) {
                l.buffer[side] = Some(size);
            }
        });
    }

    /// Makes a listener although no id is free (D13). `None` when nothing may be evicted.
    pub fn add_by_eviction(&self, kind: Kind, alive: impl Fn() -> bool) -> Option<u32> {
        let mut made = self.change_setup(|setup| setup.add(kind));
        if made.is_some() {
            return made;
        }
        self.evict_until(1, alive, || {
            made = self.change_setup(|setup| setup.add(kind));
            made.is_some()
        });
        made
    }

    /// Has the core evict flows at the end of its next iteration until `wanted` more ids are free (D13). Waits until `done`,
    /// while `alive`; not at all when there are no flows.
    pub fn evict_until(&self, wanted: u32, alive: impl Fn() -> bool, mut done: impl FnMut() -> bool) {
        if self.flow_count.load(Ordering::Relaxed) == 0 {
            return;
        }
        self.wanted_ids.fetch_add(wanted, Ordering::AcqRel);
        // A second of the machine's time: longer than any iteration that makes progress.
        for _ in 0..1000 {
            if done() || !alive() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Brings the core's views up to date; cheap when nothing changed.
    #[inline]
    pub fn refresh_views(&self, t: &mut Token) {
        let epoch = self.setup_epoch.load(Ordering::Acquire);
        let st = self.state(t);
        if st.views_epoch != epoch {
            self.rebuild_views(st);
        }
    }

    #[cold]
    fn rebuild_views(&self, st: &mut State) {
        let setup = self.setup.lock();
        let mut views = Vec::new();
        if views.try_reserve_exact(setup.listeners.len()).is_err() {
            return;
        }
        for l in &setup.listeners {
            let Some(set) = st.sets.intern(&l.hooks) else { return };
            views.push(ListenerView {
                id: l.id,
                kind: l.kind,
                set,
                on_null: l.hooks.on_null,
                syn: l.syn.clone(),
                orphan: l.orphan.clone(),
                raw: l.raw.clone(),
                buffer: l.buffer,
                follows: l.follows,
            });
        }
        for old in std::mem::take(&mut st.views) {
            st.sets.release(old.set);
        }
        st.has_stream = views.iter().any(|v| v.kind == Kind::Stream);
        st.has_raw = views.iter().any(|v| v.kind == Kind::Raw);
        let packets = on_snd(ON_PKT_IN) | on_rcv(ON_PKT_IN);
        st.packets_heard = setup.listeners.iter().any(|l| l.hooks.interest & packets != 0);
        st.views = views;
        st.views_epoch = self.setup_epoch.load(Ordering::Acquire);
    }
}

impl ListenerView {
    /// Whether the flow sockets of this listener report side `side`.
    pub fn follows_mask(&self) -> u8 {
        self.follows[CLI] as u8 | (self.follows[SVR] as u8) << 1
    }
}
