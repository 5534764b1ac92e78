//! The packets of one core: where they come from, and the ports they may leave by.

use super::device::{DeviceCounters, PortInfo, Vouch};
use super::live::Live;
use super::output::Output;
use super::queue::Queue;
use super::replay::{Ahead, Fill, Replay, RxFrame};
use super::stamped::Stamped;
use std::collections::VecDeque;
use std::os::fd::RawFd;

/// A port: a place in the configuration's device list, or an egress file behind it.
#[derive(Clone, Debug, Default)]
pub struct Port {
    /// The name in the configuration.
    pub name: String,
    /// The port that takes what comes in here.
    pub mate: Option<u8>,
    /// Where packets that leave by this port go.
    pub output: Option<Output>,
    /// What a live port is, its own addresses as configured (D22), else as the kernel's interface has them.
    pub info: PortInfo,
    /// Received and sent, for the statistics lines.
    pub counters: PortCounters,
}

/// Packets and bytes of a port.
#[derive(Clone, Copy, Debug, Default)]
pub struct PortCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
}

/// Packets that arrive together: the time in ns, and each one's device and frame.
pub type Together = (u64, Vec<(u8, Vec<u8>)>);

/// Packets written by hand, for tests and programs that bring their own.
#[derive(Debug, Default)]
pub struct Script {
    /// Iterations that wait.
    pub waiting: VecDeque<Together>,
    frames: Vec<Vec<u8>>,
}

/// Where packets come from.
enum Input {
    /// Nothing is ever received.
    None,
    /// Capture files; the port of each reader.
    Replay(Box<Replay>, Option<Steer>, Vec<u8>),
    /// One core's packets of capture files; the port of each reader.
    Queue(Box<Queue>, Vec<u8>),
    /// Live devices.
    Live(Box<Live>),
    /// Live devices on their packets' clock.
    Stamped(Box<Stamped>),
    /// Packets by hand.
    Script(Script),
}

/// Decides whether a frame is this core's.
pub type Steer = Box<dyn FnMut(&[u8]) -> bool + Send>;

/// Packet source and outputs of one core.
pub struct Source {
    input: Input,
    /// The input, while frames from elsewhere stand in its place.
    lent: Option<Input>,
    /// Devices in the configuration's order, then egress files.
    pub ports: Vec<Port>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({} ports)", self.ports.len())
    }
}

impl Source {
    /// A source without packets.
    pub fn none(ports: Vec<Port>) -> Self {
        Source { input: Input::None, lent: None, ports }
    }

    /// Capture files, reader `n` being port `devices[n]`; `steer` picks this core's frames when there are several cores.
    pub fn replay(replay: Replay, steer: Option<Steer>, devices: Vec<u8>, ports: Vec<Port>) -> Self {
        Source { input: Input::Replay(Box::new(replay), steer, devices), lent: None, ports }
    }

    /// One core's packets of capture files, reader `n` being port `devices[n]`.
    pub fn queue(queue: Queue, devices: Vec<u8>, ports: Vec<Port>) -> Self {
        Source { input: Input::Queue(Box::new(queue), devices), lent: None, ports }
    }

    /// Live devices; ports whose output is [`Output::Device`] send by them.
    pub fn live(live: Live, ports: Vec<Port>) -> Self {
        Source { input: Input::Live(Box::new(live)), lent: None, ports }
    }

    /// As [`live`](Self::live), on the packets' clock.
    pub fn stamped(stamped: Stamped, ports: Vec<Port>) -> Self {
        Source { input: Input::Stamped(Box::new(stamped)), lent: None, ports }
    }

    /// Packets by hand.
    pub fn script(ports: Vec<Port>) -> Self {
        Source { input: Input::Script(Script::default()), lent: None, ports }
    }

    /// The packets by hand, to add some.
    pub fn script_mut(&mut self) -> Option<&mut Script> {
        match &mut self.input {
            Input::Script(script) => Some(script),
            _ => None,
        }
    }

    /// How far a replay is: bytes done and in total (0: not known), and packets passed.
    pub fn position(&self) -> Option<((u64, u64), u64)> {
        match &self.input {
            Input::Replay(replay, ..) => Some((replay.position(), replay.packets())),
            Input::Queue(queue, _) => Some((queue.position(), queue.packets())),
            _ => None,
        }
    }

    /// Whether packets come from live devices, on the machine's clock.
    pub fn is_live(&self) -> bool {
        matches!(self.input, Input::Live(_))
    }

    /// Appends the descriptors to sleep on until packets come. `false`: some device has none and must be polled.
    pub fn wait_on(&self, fds: &mut Vec<RawFd>) -> bool {
        match &self.input {
            Input::Live(live) => live.wait_on(fds),
            _ => true,
        }
    }

    /// Live devices' own counters, by port.
    pub fn device_counters(&mut self) -> Vec<(u8, DeviceCounters)> {
        match &mut self.input {
            Input::Live(live) => live.counters(),
            Input::Stamped(stamped) => stamped.counters(),
            _ => Vec::new(),
        }
    }

    /// Records that were no packets, and the messages about them.
    pub fn skipped(&self) -> (u64, Vec<String>) {
        match &self.input {
            Input::Replay(replay, ..) => replay.skipped(),
            Input::Queue(queue, _) => queue.skipped(),
            _ => (0, Vec::new()),
        }
    }

    /// Takes the live devices out: nothing is received any more, and what was to leave by them does not.
    pub fn take_live(&mut self) -> Option<Live> {
        match std::mem::replace(&mut self.input, Input::None) {
            Input::Live(live) => Some(*live),
            Input::Stamped(stamped) => Some(stamped.into_live()),
            other => {
                self.input = other;
                None
            }
        }
    }

    /// Closes live devices and outputs; files are complete afterwards.
    pub fn close(&mut self) {
        drop(self.take_live());
        for port in &mut self.ports {
            port.output = None;
        }
    }

    /// When the next iteration that has packets comes (live, nobody knows).
    pub fn ahead(&mut self) -> Ahead {
        let at = |ns: Option<u64>| ns.map_or(Ahead::End, Ahead::At);
        match &mut self.input {
            Input::None | Input::Live(_) => Ahead::End,
            Input::Replay(replay, ..) => at(replay.next_iteration_at()),
            Input::Queue(queue, _) => queue.ahead(),
            Input::Stamped(stamped) => stamped.ahead(),
            Input::Script(script) => at(script.waiting.front().map(|(ns, _)| *ns)),
        }
    }

    /// Whether the input had more packets than the iteration that just ended took (a full burst, D5).
    pub fn more_waits(&mut self) -> bool {
        match &mut self.input {
            Input::Replay(replay, ..) => replay.more_of_tick(),
            Input::Queue(queue, _) => queue.more_of_tick(),
            Input::Live(live) => live.more_waits(),
            Input::Stamped(stamped) => stamped.more_of_tick(),
            Input::None | Input::Script(_) => false,
        }
    }

    /// Puts frames of our own, each with its port, in the place of the input until [`give_back`](Self::give_back): as a batch they
    /// can be looked at as if they had been received. `false`: there is no memory for it, and the frames are where they were.
    pub fn lend(
        &mut self,
        now_ns: u64,
        frames: impl ExactSizeIterator<Item = (u8, Vec<u8>)>,
        out: &mut Vec<RxFrame>,
    ) -> bool {
        out.clear();
        let mut script = Script::default();
        if out.try_reserve(frames.len()).is_err() || script.frames.try_reserve_exact(frames.len()).is_err() {
            return false;
        }
        for (off, (dev, frame)) in frames.enumerate() {
            let (len, vouch) = (frame.len() as u32, Vouch::Good);
            out.push(RxFrame { ts_ns: now_ns, off, cap_len: len, wire_len: len, dev, vouch });
            script.frames.push(frame);
        }
        let input = std::mem::replace(&mut self.input, Input::Script(script));
        self.lent.get_or_insert(input);
        true
    }

    /// The input is back.
    pub fn give_back(&mut self) {
        if let Some(input) = self.lent.take() {
            self.input = input;
        }
    }

    /// Whether port `to` takes no frame of `len` bytes just now, also after it was asked to send what it holds.
    pub fn is_full(&mut self, to: u8, len: usize) -> bool {
        match (self.ports.get(to as usize).and_then(|p| p.output.as_ref()), &mut self.input) {
            (Some(&Output::Device(n)), Input::Live(live)) => live.is_full(n, len),
            _ => false,
        }
    }

    /// Whether live devices hold packets back for the next iteration: not to sleep before it.
    pub fn holds(&self) -> bool {
        matches!(&self.input, Input::Live(live) if live.holds())
    }

    /// Replaces `out` by the next packets. `each` is shown the frames of a replay as they are read, in order; none of others.
    #[inline]
    pub fn fill(&mut self, out: &mut Vec<RxFrame>, each: impl FnMut(&[u8], &RxFrame)) -> Fill {
        out.clear();
        let answer = match &mut self.input {
            Input::None => Fill::End,
            Input::Replay(replay, None, _) => replay.fill_steered(out, |_| true, each),
            Input::Replay(replay, Some(steer), _) => replay.fill_steered(out, steer, each),
            Input::Queue(queue, _) => queue.fill(out, each),
            Input::Live(live) => live.fill(out),
            Input::Stamped(stamped) => stamped.fill(out),
            Input::Script(script) => match script.waiting.pop_front() {
                None => Fill::End,
                Some((now_ns, frames)) => {
                    script.frames.clear();
                    for (n, (dev, frame)) in frames.into_iter().enumerate() {
                        let len = frame.len() as u32;
                        let vouch = Vouch::Unknown;
                        out.push(RxFrame { ts_ns: now_ns, off: n, cap_len: len, wire_len: len, dev, vouch });
                        script.frames.push(frame);
                    }
                    Fill::Batch { now_ns, ends_iteration: true }
                }
            },
        };
        // Frames that came by one device in a row are counted together; those of one reader need not be looked at for that.
        let one = matches!(&self.input, Input::Replay(replay, ..) if replay.readers().len() == 1);
        for run in out.chunk_by(|a, b| one || a.dev == b.dev) {
            let port = run.first().map_or(0, |rx| self.port_of(rx.dev));
            if let Some(port) = self.ports.get_mut(port as usize) {
                port.counters.rx_packets += run.len() as u64;
                port.counters.rx_bytes += run.iter().map(|rx| rx.cap_len as u64).sum::<u64>();
            }
        }
        answer
    }

    /// The bytes of a frame of the last batch.
    #[inline]
    pub fn frame(&self, rx: &RxFrame) -> &[u8] {
        match &self.input {
            Input::Replay(replay, ..) => replay.frame_bytes(rx),
            Input::Queue(queue, _) => queue.frame_bytes(rx),
            Input::Live(live) => live.frame(rx),
            Input::Stamped(stamped) => stamped.frame(rx),
            Input::Script(script) => script.frames.get(rx.off).map_or(&[], |f| f.as_slice()),
            Input::None => &[],
        }
    }

    /// The port of a received frame's device number.
    #[inline]
    pub fn port_of(&self, dev: u8) -> u8 {
        match &self.input {
            Input::Replay(_, _, devices) | Input::Queue(_, devices) => {
                devices.get(dev as usize).copied().unwrap_or(dev)
            }
            _ => dev,
        }
    }

    /// The port that takes what came in by device number `dev`.
    #[inline]
    pub fn mate(&self, dev: u8) -> Option<u8> {
        self.ports.get(self.port_of(dev) as usize)?.mate
    }

    /// Sends a frame by port `to`; the number of bytes, or `None` when it could not be sent.
    pub fn send(&mut self, to: u8, now_ns: u64, frame: &[u8]) -> Option<usize> {
        let port = self.ports.get_mut(to as usize)?;
        let sent = match (port.output.as_ref()?, &mut self.input) {
            (Output::Device(n), Input::Live(live)) => live.send(*n, frame),
            (Output::Device(n), Input::Stamped(stamped)) => stamped.live().send(*n, frame),
            (output, _) => output.send(now_ns, frame),
        };
        if !sent {
            return None;
        }
        port.counters.tx_packets += 1;
        port.counters.tx_bytes += frame.len() as u64;
        Some(frame.len())
    }

    /// Sends a received frame on as it is, at most its first `end` bytes.
    #[inline(always)]
    pub fn send_frame(&mut self, to: u8, rx: &RxFrame, end: usize) -> Option<usize> {
        let output = self.ports.get(to as usize)?.output.clone()?;
        let len = match (output, &mut self.input) {
            (Output::Device(n), Input::Live(live)) => live.send_on(n, rx, end)?,
            (Output::Device(n), Input::Stamped(stamped)) => stamped.send_on(n, rx, end)?,
            (output, _) => {
                let frame = self.frame(rx);
                let frame = &frame[..end.min(frame.len())];
                output.send(rx.ts_ns, frame).then_some(frame.len())?
            }
        };
        let counters = &mut self.ports.get_mut(to as usize)?.counters;
        counters.tx_packets += 1;
        counters.tx_bytes += len as u64;
        Some(len)
    }

    /// Sends what live devices have queued. The packets and bytes that were taken before, since the last flush, and are lost
    /// now; and whether some still wait for their device.
    pub fn flush(&mut self) -> (u64, u64, bool) {
        match &mut self.input {
            Input::Live(live) => live.flush(),
            Input::Stamped(stamped) => stamped.live().flush(),
            _ => (0, 0, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_no_memory_for_is_not_lent() {
        let (mut source, mut batch) = (Source::script(Vec::new()), Vec::new());
        let too_many = (0..usize::MAX / 2).map(|_| -> (u8, Vec<u8>) { unreachable!("nothing is taken") });
        assert!(!source.lend(0, too_many, &mut batch));
        assert!(batch.is_empty() && source.script_mut().is_some_and(|script| script.frames.is_empty()));
        assert!(source.lend(5, [(1, vec![0; 60]), (0, vec![0; 70])].into_iter(), &mut batch));
        assert_eq!(batch.iter().map(|rx| (rx.dev, rx.cap_len)).collect::<Vec<_>>(), [(1, 60), (0, 70)]);
        source.give_back();
        assert!(source.script_mut().is_some_and(|script| script.frames.is_empty()));
    }
}
