//! Every state by every kind of segment by where it lies in the window, and what RFC 9293 3.10.7 (with RFC 5961) says of it: as
//! scripts that are made, not written.

use crate::connection::Connection;
use crate::stack::Stack;
use crate::{none_failed, outcome, parse, root};

/// A state: how a script comes to it, RCV.NXT, SND.NXT, SND.UNA, and whether data is taken.
struct State {
    name: &'static str,
    steps: &'static [&'static str],
    nxt: u32,
    snd: u32,
    una: u32,
    receives: bool,
}

const ACTIVE: &str =
    "config rcvbuf 10000\n+0 connect\n+0 > S 0:0(0)\n+.01 < S. 0:0(0) ack 1 <mss 1000>\n+0 > . 1:1(0) ack 1";
const FIN_SENT: &str = "+0 shutdown write -> 0\n+0 > F. 1:1(0) ack 1";
const FIN_RECEIVED: &str = "+.01 < F. 1:1(0) ack 1\n+0 > . 1:1(0) ack 2";
/// The right edge of the window, offered before anything came.
const EDGE: u32 = 10_001;

const STATES: [State; 7] = [
    State { name: "ESTABLISHED", steps: &[ACTIVE], nxt: 1, snd: 1, una: 1, receives: true },
    State { name: "FIN_WAIT_1", steps: &[ACTIVE, FIN_SENT], nxt: 1, snd: 2, una: 1, receives: true },
    State {
        name: "FIN_WAIT_2",
        steps: &[ACTIVE, FIN_SENT, "+.01 < . 1:1(0) ack 2"],
        nxt: 1,
        snd: 2,
        una: 2,
        receives: true,
    },
    State { name: "CLOSE_WAIT", steps: &[ACTIVE, FIN_RECEIVED], nxt: 2, snd: 1, una: 1, receives: false },
    State {
        name: "CLOSING",
        steps: &[ACTIVE, FIN_SENT, "+.01 < F. 1:1(0) ack 1\n+0 > . 2:2(0) ack 2"],
        nxt: 2,
        snd: 2,
        una: 1,
        receives: false,
    },
    State {
        name: "LAST_ACK",
        steps: &[ACTIVE, FIN_RECEIVED, "+0 shutdown write -> 0\n+0 > F. 1:1(0) ack 2"],
        nxt: 2,
        snd: 2,
        una: 1,
        receives: false,
    },
    State {
        name: "TIME_WAIT",
        steps: &[ACTIVE, FIN_SENT, "+.01 < F. 1:1(0) ack 2\n+0 > . 2:2(0) ack 2"],
        nxt: 2,
        snd: 2,
        una: 2,
        receives: false,
    },
];

/// Where a segment lies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// At RCV.NXT.
    Next,
    /// Further on in the window.
    Ahead,
    /// The last number of the window.
    Last,
    /// Wholly received before.
    Old,
    /// Beyond the window.
    Beyond,
}
use Place::*;

/// What is to be expected: what leaves, and the state afterwards.
type Expected = (Vec<String>, String);

/// For a synchronized state.
fn expected(state: &State, flags: &str, data: u32, future: bool, place: Place) -> Expected {
    let has = |flag: char| flags.contains(flag);
    let (nxt, snd) = (state.nxt, state.snd);
    let ack = |nxt: u32| vec![format!("+0 > . {snd}:{snd}(0) ack {nxt}")];
    let (silence, same) = (Vec::new(), state.name.to_string());
    let inside = matches!(place, Next | Ahead | Last);
    if has('R') {
        // RFC 5961 3.2.
        return match place {
            Next => (silence, "CLOSED".into()),
            Ahead | Last => (ack(nxt), same),
            _ => (silence, same),
        };
    }
    if has('S') || !inside {
        // RFC 5961 4.2; first check.
        return (ack(nxt), same);
    }
    if !has('.') {
        return (silence, same);
    }
    if state.name == "TIME_WAIT" {
        let last_word = flags == "." && data == 0 && place == Next && !future;
        return (if last_word { silence } else { ack(nxt) }, same);
    }
    if future {
        return (ack(nxt), same);
    }
    if !state.receives || (data == 0 && !has('F')) {
        return (silence, same);
    }
    if place != Next {
        // A hole.
        return (ack(nxt), same);
    }
    let after = match state.name {
        _ if !has('F') => state.name,
        "ESTABLISHED" => "CLOSE_WAIT",
        "FIN_WAIT_1" => "CLOSING",
        _ => "TIME_WAIT",
    };
    let end = nxt + data + u32::from(has('F'));
    let delay = if has('F') { "+0" } else { "+.04" };
    (vec![format!("{delay} > . {snd}:{snd}(0) ack {end}")], after.into())
}

/// Runs a script on both drivers, or on the stack alone.
fn run(name: &str, text: &str, alone: bool, failures: &mut Vec<String>) {
    let script = parse::text(text, &root()).unwrap_or_else(|why| panic!("{name}: {why}\n{text}"));
    let mut note = |by: &str, outcome: Result<(), String>| {
        if let Err(why) = outcome {
            failures.push(format!("{name}, {by}:{why}\n{text}"));
        }
    };
    if !alone {
        note("a connection", outcome(&script, false, Connection::new));
    }
    note("the whole stack", outcome(&script, false, Stack::new));
}

#[test]
fn synchronized_states() {
    let (mut failures, mut count) = (Vec::new(), 0);
    for state in &STATES {
        for flags in ["-", ".", "F", "F.", "S", "S.", "SF", "SR", "R", "R."] {
            for place in [Next, Ahead, Last, Old, Beyond] {
                for (data, future) in [(0, false), (1, false), (0, true)] {
                    if future && (!flags.contains('.') || flags.contains(['S', 'R'])) {
                        continue;
                    }
                    // One byte and a FIN take two numbers.
                    let old = 1 + u32::from(data > 0 && flags.contains('F'));
                    let seq = match place {
                        Next => state.nxt,
                        Ahead => state.nxt + 100,
                        Last => EDGE - 1,
                        Old if state.nxt < old => continue,
                        Old => state.nxt - old,
                        Beyond => EDGE + 1000,
                    };
                    if data > 0 && seq == 0 && !flags.contains(['R', 'S']) {
                        // Behind the SYN there is no data.
                        continue;
                    }
                    let ack = if future { state.snd + 1 } else { state.una };
                    let said = if flags.contains('.') { format!(" ack {ack}") } else { String::new() };
                    let (leaves, after) = expected(state, flags, data, future, place);
                    let mut text = state.steps.join("\n");
                    text += &format!("\n+.01 < {flags} {seq}:{}({data}){said}\n", seq.wrapping_add(data));
                    text += &(leaves.join("\n") + &format!("\n+0 state {after}\n"));
                    let name = format!("{} {flags} {place:?} data {data} future {future}", state.name);
                    run(&name, &text, false, &mut failures);
                    count += 1;
                }
            }
        }
    }
    none_failed(&failures, count);
    assert!(count > 500, "only {count}");
}

/// SYN_SENT (3.10.7.3), and LISTEN and CLOSED (3.10.7.2, 3.10.7.1), where the listener's part is the stack's.
#[test]
fn states_without_a_window() {
    let (mut failures, mut count) = (Vec::new(), 0);
    for flags in ["-", ".", "F", "F.", "S", "S.", "SF", "SR", "R", "R."] {
        let has = |flag: char| flags.contains(flag);
        for data in [0, 1] {
            let len = data + u32::from(has('S')) + u32::from(has('F'));
            let end = 5 + data;
            for ack in [0, 1, 2] {
                let said = if has('.') { format!(" ack {ack}") } else { String::new() };
                let reset = if has('.') {
                    format!("+0 > R {ack}:{ack}(0)\n")
                } else {
                    format!("+0 > R. 0:0(0) ack {}\n", 5 + len)
                };
                let mut try_it = |name: &str, before: &str, alone: bool, leaves: &str| {
                    let text = format!("{before}\n+.01 < {flags} 5:{end}({data}){said}\n{leaves}");
                    run(&format!("{name} {flags} data {data} ack {ack}"), &text, alone, &mut failures);
                    count += 1;
                };
                let leaves = if has('R') { "" } else { &reset };
                try_it("CLOSED", "", true, leaves);
                let leaves = match flags {
                    "S" => "+0 > S. 0:0(0) ack 6\n",
                    _ if has('.') && !has('R') => &reset,
                    _ => "",
                };
                try_it("LISTEN", "+0 listen", true, leaves);
                let opens = "+0 connect\n+0 > S 0:0(0)";
                let waits = "+0 state SYN_SENT\n";
                let leaves = match (has('.'), ack == 1) {
                    (true, false) if has('R') => waits.into(),
                    (true, false) => format!("{reset}{waits}"),
                    (true, true) if has('R') => "+0 state CLOSED\n+0 error ECONNREFUSED\n".into(),
                    (true, true) if has('S') => {
                        format!("+0 > . 1:1(0) ack {}\n+0 state ESTABLISHED\n", 6 + data)
                    }
                    (false, _) if has('S') && !has('R') => "+0 > S. 0:0(0) ack 6\n+0 state SYN_RCVD\n".into(),
                    _ => waits.into(),
                };
                try_it("SYN_SENT", opens, false, &leaves);
                if !has('.') {
                    break;
                }
            }
        }
    }
    none_failed(&failures, count);
    assert!(count > 60, "only {count}");
}
