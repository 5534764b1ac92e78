//! The window over a capture file, and the record loop.
//!
//! The window is one byte buffer; a frame is an index into it and stays valid until [`CaptureReader::refill`],
//! which moves the unread rest to the front and reads more. With [`Preload::Whole`] the window is the file and
//! never moves. Link types that need a made-up Ethernet header (see `link.rs`) are copied, frame by frame, to a
//! second buffer, which is emptied at a refill: only those captures pay for it.
//!
//! Classic pcap is the hot path: a record costs a handful of instructions. Where its framing is lost (a length
//! beyond [`MAX_FRAME`]) the rest of the file means nothing: reading ends there, with a message.

use super::link::{self, ETH_LEN, Link};
use super::pcap::{self, BadHeader, FileHeader, Record};
use super::pcapng::{self, Block, Section};
use super::source::{Source, read_full};
use super::{CaptureError, FrameRef, MAX_BLOCK, MAX_FRAME, Next, Peek, Preload, Skipped};
use crate::wire;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of the moving window. Holds the largest record or block, so that a refill always makes one whole.
const WINDOW: usize = 512 * 1024;
/// Bytes of copied frames between two refills; holds the largest frame.
const SCRATCH: usize = 384 * 1024;
/// How far ahead of a record bytes are fetched.
const AHEAD: usize = 1024;
const _: () = assert!(WINDOW > MAX_BLOCK && MAX_BLOCK > MAX_FRAME + 1024 && SCRATCH > MAX_FRAME + ETH_LEN);

/// Reads the frames of one capture file, in file order.
pub struct CaptureReader {
    path: PathBuf,
    /// Window; shared between readers only when it holds the whole file.
    buf: Arc<Vec<u8>>,
    /// `buf[pos..end]` is unread.
    pos: usize,
    end: usize,
    /// The next frame, parsed but not taken; its offset is in `buf`.
    head: Option<FrameRef>,
    head_start: usize,
    head_link: Link,
    time_offset: u64,
    format: Format,
    /// Frames go through `scratch`.
    copying: bool,
    /// A description asked for copying; begins at the next refill, when no frame of `buf` is in use.
    copy_from_refill: bool,
    scratch: Vec<u8>,
    /// Bytes of an oversized block still to be passed over.
    skip_left: usize,
    stream: Option<Box<dyn Read + Send>>,
    /// Reading ended before the file did.
    stopped: bool,
    preload: Preload,
    consumed: Arc<AtomicU64>,
    file_len: u64,
    skipped: Skipped,
    warning: Option<String>,
}

enum Format {
    Pcap { swapped: bool, ns_per_unit: u64 },
    Pcapng(Section),
}

/// Where the frames go that a reader passes.
pub(in crate::io) trait Sink {
    /// Takes a frame and its bytes; says whether to go on.
    fn take(&mut self, bytes: &[u8], frame: FrameRef) -> bool;
}

impl CaptureReader {
    /// Opens a pcap or pcapng file, plain or gzip.
    ///
    /// # Errors
    /// The file cannot be read, is empty, is no capture, or has a link type that is not supported; the message
    /// names the file and says which.
    pub fn open(path: impl AsRef<Path>, preload: Preload) -> Result<Self, CaptureError> {
        let path = path.as_ref();
        let source = Source::open(path)?;
        let mut stream = source.stream;
        let mut buf = Vec::new();
        let window = match preload {
            // The length is only a hint: a file in growth, a pipe, or compressed.
            Preload::Whole => usize::try_from(source.file_len).unwrap_or(usize::MAX).max(WINDOW),
            Preload::Streaming => WINDOW,
        };
        buf.try_reserve_exact(window).map_err(|_| CaptureError::OutOfMemory(path.to_owned()))?;
        buf.resize(WINDOW, 0);
        let (n, error) = match read_full(&mut stream, &mut buf) {
            Ok(n) => (n, None),
            Err((n, error)) => (n, Some(error)),
        };
        buf.truncate(n);
        if n == 0 {
            return Err(match error {
                Some(error) if source.gzip => CaptureError::Gzip { path: path.to_owned(), error },
                Some(error) => CaptureError::io(path, error),
                None => CaptureError::Empty(path.to_owned()),
            });
        }
        let more = error.is_none() && n == WINDOW;
        let mut reader = Self::at_start(path, Arc::new(buf), preload);
        reader.consumed = source.consumed;
        reader.file_len = source.file_len;
        if let Some(error) = error {
            reader.unreadable(&error);
        }
        // Before the rest is read: a mistaken name must not cost the memory of a disk image.
        reader.file_header()?;
        if more {
            match preload {
                Preload::Whole => reader.load_rest(stream)?,
                Preload::Streaming => reader.stream = Some(stream),
            }
        }
        Ok(reader)
    }

    /// Another reader of the same file, at its start, without time offset. A preloaded file's bytes are shared.
    ///
    /// # Errors
    /// As [`CaptureReader::open`].
    pub fn duplicate(&self) -> Result<Self, CaptureError> {
        if self.preload == Preload::Streaming {
            return Self::open(&self.path, Preload::Streaming);
        }
        let mut reader = Self::at_start(&self.path, Arc::clone(&self.buf), Preload::Whole);
        reader.file_len = self.file_len;
        reader.file_header()?;
        Ok(reader)
    }

    fn at_start(path: &Path, buf: Arc<Vec<u8>>, preload: Preload) -> Self {
        Self {
            path: path.to_owned(),
            pos: 0,
            end: buf.len(),
            buf,
            head: None,
            head_start: 0,
            head_link: Link::Ethernet,
            time_offset: 0,
            format: Format::Pcapng(Section::default()),
            copying: false,
            copy_from_refill: false,
            scratch: Vec::new(),
            skip_left: 0,
            stream: None,
            stopped: false,
            preload,
            consumed: Arc::default(),
            file_len: 0,
            skipped: Skipped::default(),
            warning: None,
        }
    }

    fn load_rest(&mut self, mut stream: Box<dyn Read + Send>) -> Result<(), CaptureError> {
        let Some(buf) = Arc::get_mut(&mut self.buf) else { return Ok(()) };
        let read = stream.read_to_end(buf);
        self.end = buf.len();
        match read {
            Err(e) if e.kind() == io::ErrorKind::OutOfMemory => {
                Err(CaptureError::OutOfMemory(self.path.clone()))
            }
            Err(e) => {
                self.unreadable(&e);
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Goes back to the first frame. Frames given out are no longer valid; counters stay.
    ///
    /// # Errors
    /// The file cannot be opened again (never with [`Preload::Whole`]).
    pub fn rewind(&mut self) -> Result<(), CaptureError> {
        if self.preload == Preload::Streaming {
            let mut again = Self::open(&self.path, Preload::Streaming)?;
            again.time_offset = self.time_offset;
            again.skipped = self.skipped;
            again.warning = self.warning.take().or(again.warning);
            *self = again;
            return Ok(());
        }
        self.pos = 0;
        self.head = None;
        self.skip_left = 0;
        self.stopped = false;
        self.copying = false;
        self.copy_from_refill = false;
        self.scratch.clear();
        self.file_header()
    }

    /// Nanoseconds added to every time stamp from here on (the end of the range is kept to).
    pub fn set_time_offset(&mut self, ns: u64) {
        self.untake();
        self.time_offset = ns;
    }

    /// The buffer that [`FrameRef::off`] refers to.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        if self.copying { &self.scratch } else { &self.buf }
    }

    /// The bytes of a frame; empty when it is no longer valid.
    #[inline]
    pub fn frame(&self, frame: &FrameRef) -> &[u8] {
        let end = frame.off.saturating_add(frame.cap_len as usize);
        self.bytes().get(frame.off..end).unwrap_or(&[])
    }

    /// The next frame, in file order. Time stamps are passed on as they are, also when they go backwards.
    #[allow(clippy::should_implement_trait)] // an iterator's items could not be tied to the next refill
    pub fn next(&mut self) -> Next {
        match self.peek() {
            Peek::Frame(_) => self.take().map_or(Next::End, Next::Frame),
            Peek::NeedRefill => Next::NeedRefill,
            Peek::End => Next::End,
        }
    }

    /// The time stamp of the next frame, without taking it.
    #[inline]
    pub fn peek(&mut self) -> Peek {
        match self.head {
            Some(head) if !self.copying => Peek::Frame(head.ts_ns),
            _ => self.peek_slow(),
        }
    }

    #[inline]
    fn peek_slow(&mut self) -> Peek {
        if self.head.is_none() {
            let found = match self.format {
                Format::Pcap { swapped, ns_per_unit } => self.record(swapped, ns_per_unit),
                Format::Pcapng(_) => self.block(),
            };
            if !self.copying || !matches!(found, Peek::Frame(_)) {
                return found;
            }
        }
        let Some(head) = self.head else { return Peek::End };
        if self.scratch.len() + ETH_LEN + head.cap_len as usize > SCRATCH {
            return Peek::NeedRefill;
        }
        Peek::Frame(head.ts_ns)
    }

    /// Takes the frame that [`CaptureReader::peek`] announced; `None` when it did not announce one.
    #[inline]
    pub fn take(&mut self) -> Option<FrameRef> {
        let head = self.head.take()?;
        if self.copying { self.copy(head) } else { Some(head) }
    }

    /// Takes up to `most` frames while their stamps are not above `through` and `sink` says to go on. Gives the number taken;
    /// [`CaptureReader::peek`] then tells why it was not more.
    #[inline(always)]
    pub(in crate::io) fn take_while(&mut self, through: u64, most: u32, sink: &mut impl Sink) -> u32 {
        match self.format {
            Format::Pcap { swapped: false, ns_per_unit } if !self.copying => {
                self.take_records(false, ns_per_unit, through, most, sink)
            }
            Format::Pcap { swapped: true, ns_per_unit } if !self.copying => {
                self.take_swapped(ns_per_unit, through, most, sink)
            }
            _ => self.take_others(through, most, sink),
        }
    }

    /// [`CaptureReader::take_while`] for captures written on a machine of the other byte order.
    #[inline(never)]
    fn take_swapped(&mut self, ns_per_unit: u64, through: u64, most: u32, sink: &mut dyn Sink) -> u32 {
        self.take_records(true, ns_per_unit, through, most, sink)
    }

    /// [`CaptureReader::take_while`] for captures whose records are not frames as they are.
    #[inline(never)]
    fn take_others(&mut self, through: u64, most: u32, sink: &mut dyn Sink) -> u32 {
        let mut taken = 0;
        while taken < most && matches!(self.peek(), Peek::Frame(ts_ns) if ts_ns <= through) {
            let Some(frame) = self.take() else { break };
            taken += 1;
            if !sink.take(self.frame(&frame), frame) {
                break;
            }
        }
        taken
    }

    /// [`CaptureReader::take_while`] for classic Ethernet captures: the hot loop. Whatever is not a plain record
    /// ends it and is left to `peek`.
    #[inline(always)]
    fn take_records<S: Sink + ?Sized>(
        &mut self,
        swapped: bool,
        ns_per_unit: u64,
        through: u64,
        most: u32,
        sink: &mut S,
    ) -> u32 {
        self.untake();
        let data = self.buf.get(..self.end).unwrap_or(&[]);
        let time_offset = self.time_offset;
        let mut pos = self.pos;
        let mut taken = 0;
        while taken < most {
            let Some(record) = Record::parse(data, pos, swapped, ns_per_unit, time_offset) else { break };
            if record.frame.ts_ns > through {
                break;
            }
            // As many bytes as this record has, further on: the processor's own prefetching ends with each page.
            wire::prefetch(record.bytes, AHEAD, record.next - pos);
            pos = record.next;
            taken += 1;
            if !sink.take(record.bytes, record.frame) {
                break;
            }
        }
        self.pos = pos;
        taken
    }

    /// Reads more. Frames given out before are no longer valid.
    pub fn refill(&mut self) {
        self.untake();
        self.scratch.clear();
        if self.copy_from_refill {
            self.copy_from_refill = false;
            self.start_copying();
        }
        let Some(stream) = &mut self.stream else { return };
        // A streaming window is never shared.
        let Some(buf) = Arc::get_mut(&mut self.buf) else { return };
        buf.copy_within(self.pos..self.end, 0);
        self.end -= self.pos;
        self.pos = 0;
        let room = buf.len() - self.end;
        match read_full(stream, &mut buf[self.end..]) {
            Ok(n) => {
                self.end += n;
                if n < room {
                    self.stream = None;
                }
            }
            Err((n, error)) => {
                self.end += n;
                self.stream = None;
                self.unreadable(&error);
            }
        }
    }

    /// What was passed over so far.
    pub fn skipped(&self) -> Skipped {
        self.skipped
    }

    /// The first thing that was wrong with the file, in one line that names it.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes done and in total, for a progress line: of memory when preloaded, else of the file (total 0: not
    /// known).
    pub fn position(&self) -> (u64, u64) {
        match self.preload {
            Preload::Whole => (self.pos as u64, self.end as u64),
            Preload::Streaming => (self.consumed.load(Ordering::Relaxed), self.file_len),
        }
    }

    /// Reads the file's header at `pos` 0.
    fn file_header(&mut self) -> Result<(), CaptureError> {
        let bytes = &self.buf[..self.end];
        let path = || self.path.clone();
        if bytes.starts_with(&pcapng::SECTION.to_le_bytes()) {
            let mut section = Section::default();
            if bytes.len() < pcapng::BLOCK_OVERHEAD {
                return Err(CaptureError::CutHeader(path()));
            }
            section.header(bytes).ok_or_else(|| CaptureError::NotACapture(path()))?;
            self.format = Format::Pcapng(section);
            return Ok(());
        }
        let header = FileHeader::parse(bytes).map_err(|bad| match bad {
            BadHeader::Unknown => CaptureError::NotACapture(path()),
            BadHeader::Cut => CaptureError::CutHeader(path()),
            BadHeader::Unsupported(what) => CaptureError::UnsupportedFormat { path: path(), what },
        })?;
        let linktype = header.linktype;
        let link = Link::from_number(linktype).ok_or_else(|| CaptureError::UnsupportedLink {
            path: path(),
            linktype,
            name: link::name(linktype),
        })?;
        self.format = Format::Pcap { swapped: header.swapped, ns_per_unit: header.ns_per_unit };
        self.pos = pcap::FILE_HEADER;
        self.head_link = link;
        if link != Link::Ethernet {
            self.start_copying();
        }
        Ok(())
    }

    /// Parses classic records up to a usable one.
    #[inline]
    fn record(&mut self, swapped: bool, ns_per_unit: u64) -> Peek {
        loop {
            let Some(data) = self.buf.get(..self.end) else { return Peek::End };
            let Some(record) = Record::parse(data, self.pos, swapped, ns_per_unit, self.time_offset) else {
                return self.no_record(swapped);
            };
            self.head_start = self.pos;
            self.pos = record.next;
            if self.copying && (record.frame.cap_len as usize) < self.head_link.header_len() {
                self.skipped.short_link_header += 1;
                self.warn("a frame shorter than its link header is skipped".into());
                continue;
            }
            self.head = Some(record.frame);
            return Peek::Frame(record.frame.ts_ns);
        }
    }

    /// Why there is no classic record at `pos`.
    #[cold]
    fn no_record(&mut self, swapped: bool) -> Peek {
        let rest = self.buf.get(self.pos..self.end).unwrap_or(&[]);
        match Record::claimed_len(rest, swapped) {
            Some(len) if len > MAX_FRAME => {
                self.skipped.oversized += 1;
                self.stop(format!(
                    "a record claims {len} bytes (limit {MAX_FRAME}): \
                     the file is corrupt from there on and is not read further"
                ));
                Peek::End
            }
            _ => self.dry(),
        }
    }

    /// Parses pcapng blocks up to one with a usable packet.
    fn block(&mut self) -> Peek {
        loop {
            if self.skip_left > 0 {
                let n = self.skip_left.min(self.end - self.pos);
                self.pos += n;
                self.skip_left -= n;
            }
            if self.stopped || self.copy_from_refill {
                return if self.stopped { Peek::End } else { Peek::NeedRefill };
            }
            if self.pos == self.end && self.skip_left > 0 {
                if self.stream.is_none() {
                    self.skip_left = 0;
                    self.skipped.truncated += 1;
                    self.warn("the file ends inside a block".into());
                    return Peek::End;
                }
                return Peek::NeedRefill;
            }
            let Some(rest) = self.buf.get(self.pos..self.end) else { return Peek::End };
            if rest.len() < pcapng::BLOCK_OVERHEAD {
                return self.dry();
            }
            let Format::Pcapng(section) = &mut self.format else { return Peek::End };
            let header = section.header(rest);
            let Some((kind, len)) = header else {
                return self.corrupt("a pcapng section without its byte-order magic".into());
            };
            let len = len as usize;
            if len < pcapng::BLOCK_OVERHEAD || !len.is_multiple_of(4) {
                return self.corrupt(format!("a pcapng block of {len} bytes"));
            }
            if len > MAX_BLOCK {
                if kind == pcapng::SECTION {
                    return self.corrupt(format!("a pcapng section header of {len} bytes"));
                }
                self.skip_left = len;
                if Section::is_packet(kind) {
                    self.skipped.oversized += 1;
                    self.warn(format!("a packet block of {len} bytes (limit {MAX_BLOCK}) is skipped"));
                }
                continue;
            }
            let Some(block) = rest.get(..len) else { return self.dry() };
            let found = section.block(kind, block, &mut self.skipped);
            self.head_start = self.pos;
            self.pos += len;
            match found {
                Block::Packet(p) => {
                    let ts_ns = p.ts_ns.saturating_add(self.time_offset);
                    let off = self.head_start + p.off;
                    self.head = Some(FrameRef { ts_ns, off, cap_len: p.cap_len, wire_len: p.wire_len });
                    self.head_link = p.link;
                    return Peek::Frame(ts_ns);
                }
                Block::Other => {}
                Block::NeedsCopy => self.copy_from_refill = !self.copying,
                Block::Skip(message) => self.warn(message),
                Block::Fatal(message) => return self.corrupt(message),
            }
        }
    }

    /// Writes a frame to `scratch`, behind a made-up header where its link type needs one.
    fn copy(&mut self, raw: FrameRef) -> Option<FrameRef> {
        let frame = self.buf.get(raw.off..raw.off + raw.cap_len as usize)?;
        let off = self.scratch.len();
        let mut gone = 0;
        if let Some(header) = self.head_link.ethernet_header(frame) {
            gone = self.head_link.header_len();
            self.scratch.extend_from_slice(&header);
        }
        // Both fit in what was reserved: `peek` has looked.
        self.scratch.extend_from_slice(&frame[gone..]);
        let cap_len = (self.scratch.len() - off) as u32;
        let wire_len = (raw.wire_len - raw.cap_len).saturating_add(cap_len);
        Some(FrameRef { ts_ns: raw.ts_ns, off, cap_len, wire_len })
    }

    fn start_copying(&mut self) {
        self.copying = true;
        if self.scratch.try_reserve_exact(SCRATCH).is_err() {
            self.skipped.read_error += 1;
            self.stop("no memory to convert link headers".into());
        }
    }

    /// Puts a frame that was parsed but not taken back.
    fn untake(&mut self) {
        if self.head.take().is_some() {
            self.pos = self.head_start;
        }
    }

    /// The window has no whole record.
    #[cold]
    fn dry(&mut self) -> Peek {
        if self.stream.is_some() {
            return Peek::NeedRefill;
        }
        let left = self.end - self.pos;
        if left > 0 && !self.stopped {
            self.skipped.truncated += 1;
            self.stop(format!("the file ends inside a record; its last {left} bytes are skipped"));
        }
        Peek::End
    }

    #[cold]
    fn corrupt(&mut self, what: String) -> Peek {
        self.skipped.corrupt_block += 1;
        self.stop(format!("{what}: the file is corrupt from there on and is not read further"));
        Peek::End
    }

    /// The file gives no more bytes; what precedes is used.
    fn unreadable(&mut self, error: &io::Error) {
        self.skipped.read_error += 1;
        self.warn(format!("the file cannot be read to its end ({error})"));
    }

    fn stop(&mut self, message: String) {
        self.warn(message);
        self.stream = None;
        self.stopped = true;
        self.pos = self.end;
    }

    #[cold]
    fn warn(&mut self, message: String) {
        if self.warning.is_none() {
            self.warning = Some(format!("{}: {message}", self.path.display()));
        }
    }
}
