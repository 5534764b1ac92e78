//! TCP connection states (RFC 9293 3.3.2), numbered as `enum tcpstate` of the C ABI (monitor.md §8.3).

/// State of one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// No connection.
    #[default]
    Closed = 0,
    /// Waiting for a SYN.
    Listen = 1,
    /// SYN sent.
    SynSent = 2,
    /// SYN received, its acknowledgement sent.
    SynRcvd = 3,
    /// Data flows.
    Established = 4,
    /// FIN sent.
    FinWait1 = 5,
    /// FIN sent and acknowledged.
    FinWait2 = 6,
    /// FIN received.
    CloseWait = 7,
    /// FIN sent and received, ours not yet acknowledged.
    Closing = 8,
    /// FIN received, then sent.
    LastAck = 9,
    /// Both FINs acknowledged, waiting for stray segments to die.
    TimeWait = 10,
}

impl State {
    /// Whether data that arrives in this state is stored.
    pub fn receives(self) -> bool {
        matches!(self, State::Established | State::FinWait1 | State::FinWait2)
    }

    /// Whether the peer's FIN has been taken.
    pub fn peer_closed(self) -> bool {
        matches!(self, State::CloseWait | State::Closing | State::LastAck | State::TimeWait)
    }

    /// The state after the peer's FIN was taken in order.
    pub fn after_fin(self) -> State {
        match self {
            State::Established | State::SynRcvd => State::CloseWait,
            State::FinWait1 => State::Closing,
            State::FinWait2 => State::TimeWait,
            other => other,
        }
    }
}
