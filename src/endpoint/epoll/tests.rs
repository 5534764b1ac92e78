use super::super::events::{HUP, IN, OUT};
use super::super::pipe::{ATOMIC, CAPACITY};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Pipes 0-1, 2-3, …, and epoll objects from 100 on.
fn state(pipes: u32, objects: u32) -> State {
    let mut st = State::default();
    for n in 0..pipes {
        st.make_pipe([2 * n, 2 * n + 1]).expect("room");
    }
    for n in 0..objects {
        st.sockets.put(100 + n, Kind::Epoll(Epoll::default())).expect("room");
    }
    st
}

fn close(st: &mut State, id: u32) {
    st.forget_socket(id);
    st.forget_epoll(id);
    if let Some(Kind::Pipe { pipe, writes }) = st.sockets.take(id) {
        st.close_pipe_end(pipe, writes);
    }
}

/// What a wait of at most `most` entries reports, as (data, bit).
fn reported(st: &mut State, epid: u32, most: usize) -> Vec<(u64, u32)> {
    let mut all = Vec::new();
    let count = st.report(epid, most, |n, bit, data| {
        assert_eq!(n, all.len());
        all.push((data, bit));
    });
    assert_eq!(count, all.len());
    all
}

#[test]
fn level_triggered_is_level_triggered() {
    let mut st = state(1, 1);
    st.control(100, 0, Change::Add(IN, 7)).expect("added");
    assert_eq!(reported(&mut st, 100, 8), []);
    st.write_pipe(1, b"abc").expect("room");
    assert_eq!(reported(&mut st, 100, 8), [(7, IN)]);
    assert_eq!(reported(&mut st, 100, 8), [(7, IN)], "unread bytes are reported again");
    st.read_pipe(0, &mut [0; 2], false).expect("there");
    assert_eq!(reported(&mut st, 100, 8), [(7, IN)]);
    st.read_pipe(0, &mut [0; 2], false).expect("there");
    assert_eq!(reported(&mut st, 100, 8), []);
}

#[test]
fn edge_triggered_comes_with_each_change() {
    let mut st = state(1, 1);
    st.write_pipe(1, b"a").expect("room");
    st.control(100, 0, Change::Add(IN | ET, 7)).expect("added");
    assert_eq!(reported(&mut st, 100, 8), [(7, IN)], "what is ready when it is added");
    assert_eq!(reported(&mut st, 100, 8), []);
    st.write_pipe(1, b"b").expect("room");
    assert_eq!(reported(&mut st, 100, 8), [(7, IN)]);
    st.write_pipe(1, b"c").expect("room");
    st.read_pipe(0, &mut [0; 9], false).expect("there");
    assert_eq!(reported(&mut st, 100, 8), [], "nothing is there any more");
    st.write_pipe(1, b"d").expect("room");
    st.control(100, 0, Change::Modify(IN | ET, 8)).expect("changed");
    assert_eq!(reported(&mut st, 100, 8), [(8, IN)]);
    st.control(100, 0, Change::Modify(IN | ET, 8)).expect("changed");
    assert_eq!(reported(&mut st, 100, 8), [(8, IN)], "a change of the entry begins anew");
}

#[test]
fn oneshot_reports_once_until_changed() {
    let mut st = state(1, 1);
    st.control(100, 1, Change::Add(OUT | ONESHOT, 1)).expect("added");
    assert_eq!(reported(&mut st, 100, 8), [(1, OUT)]);
    assert_eq!(reported(&mut st, 100, 8), []);
    close(&mut st, 0);
    assert_eq!(reported(&mut st, 100, 8), [], "not even an error");
    st.control(100, 1, Change::Modify(OUT | ONESHOT, 2)).expect("changed");
    assert_eq!(reported(&mut st, 100, 8), [(2, ERR)]);
}

#[test]
fn the_reference_s_answers_to_control() {
    let mut st = state(2, 2);
    let errno = |e| Err(Errno(e));
    assert_eq!(st.control(100, 0, Change::Modify(IN, 0)), errno(libc::ENOENT));
    assert_eq!(st.control(100, 0, Change::Delete), errno(libc::ENOENT));
    assert_eq!(st.control(100, 0, Change::Add(IN, 0)), Ok(()));
    assert_eq!(st.control(100, 0, Change::Add(IN, 0)), errno(libc::EEXIST));
    assert_eq!(st.control(100, 0, Change::Delete), Ok(()));
    assert_eq!(st.control(100, 0, Change::Delete), Ok(()), "a second DEL succeeds (K9)");
    assert_eq!(st.control(100, 0, Change::Modify(IN, 0)), Ok(()));
    assert_eq!(st.control(100, 0, Change::Delete), Ok(()));
    assert_eq!(st.control(100, 0, Change::Add(IN, 5)), Ok(()), "ADD after DEL works");
    assert_eq!(st.control(101, 0, Change::Add(IN, 6)), Ok(()), "several objects may watch one socket");
    assert_eq!(st.control(100, 101, Change::Add(IN, 0)), errno(libc::EINVAL));
    st.write_pipe(1, b"x").expect("room");
    assert_eq!(reported(&mut st, 100, 8), [(5, IN)]);
    assert_eq!(reported(&mut st, 101, 8), [(6, IN)]);
    assert_eq!(st.check_epoll(0, false), errno(libc::EINVAL));
    assert_eq!(st.check_epoll(77, false), errno(libc::EBADF));
    assert_eq!(st.check_epoll(77, true), errno(libc::EINVAL));
    close(&mut st, 100);
    assert_eq!(reported(&mut st, 101, 8), [(6, IN)], "closing one object leaves the other");
    close(&mut st, 0);
    assert_eq!(reported(&mut st, 101, 8), []);
}

#[test]
fn each_ready_socket_has_its_turn() {
    let mut st = state(40, 1);
    for n in 0..40 {
        st.control(100, 2 * n, Change::Add(IN, u64::from(n))).expect("added");
        st.write_pipe(2 * n + 1, b"x").expect("room");
    }
    let mut seen = [0; 40];
    for _ in 0..40 {
        for (data, _) in reported(&mut st, 100, 3) {
            seen[data as usize] += 1;
        }
    }
    assert_eq!(seen, [3; 40]);
}

#[test]
fn a_full_array_starves_no_bit() {
    let mut st = state(1, 1);
    close(&mut st, 1);
    st.control(100, 0, Change::Add(IN | HUP, 9)).expect("added");
    let bits: Vec<u32> = (0..4).flat_map(|_| reported(&mut st, 100, 1)).map(|(_, bit)| bit).collect();
    assert_eq!(bits, [IN, HUP, IN, HUP]);
}

#[test]
fn a_pipe_is_a_pipe() {
    let mut st = state(1, 1);
    let errno = |e| Err(Errno(e));
    let mut out = vec![0; 2 * CAPACITY];
    assert_eq!(st.read_pipe(0, &mut out, false), Ok(None));
    assert_eq!(st.read_pipe(1, &mut out, false), errno(libc::EBADF));
    assert_eq!(st.write_pipe(0, b"x"), errno(libc::EBADF));
    assert_eq!(st.write_pipe(1, &vec![1; 2 * CAPACITY]), Ok(Some(CAPACITY)));
    assert_eq!(st.write_pipe(1, b"x"), Ok(None));
    assert_eq!(st.readiness(1), 0);
    assert_eq!(
        st.read_pipe(0, &mut out[..ATOMIC - 1], true),
        Ok(Some(ATOMIC - 1)),
        "a peek leaves the bytes"
    );
    assert_eq!(st.read_pipe(0, &mut out[..ATOMIC - 1], false), Ok(Some(ATOMIC - 1)));
    assert_eq!(st.write_pipe(1, &vec![2; ATOMIC]), Ok(None), "goes whole or not at all");
    assert_eq!(st.write_pipe(1, &vec![2; ATOMIC + 1]), Ok(Some(ATOMIC - 1)));
    close(&mut st, 1);
    assert_eq!(st.read_pipe(0, &mut out, false), Ok(Some(CAPACITY)));
    assert_eq!((out[CAPACITY - ATOMIC], out[CAPACITY - ATOMIC + 1]), (1, 2));
    assert_eq!(st.read_pipe(0, &mut out, false), Ok(Some(0)), "the end");
    let mut st = state(1, 0);
    close(&mut st, 0);
    assert_eq!(st.write_pipe(1, b"x"), errno(libc::EPIPE));
}

#[derive(Clone, Debug)]
enum Step {
    Write(u32, usize),
    Read(u32, usize),
    Control(u32, u32, u8, u32),
    Close(u32),
    Wait(u32, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let events = prop_oneof![Just(IN), Just(OUT), Just(IN | OUT), Just(IN | HUP)];
    prop_oneof![
        4 => (0u32..4, 1usize..6000).prop_map(|(p, n)| Step::Write(2 * p + 1, n)),
        4 => (0u32..4, 1usize..6000).prop_map(|(p, n)| Step::Read(2 * p, n)),
        4 => (0u32..2, 0u32..8, 0u8..3, events).prop_map(|(e, s, op, events)| Step::Control(100 + e, s, op, events)),
        1 => prop_oneof![0u32..8, 100u32..102].prop_map(Step::Close),
        6 => (0u32..2, 1usize..5).prop_map(|(e, n)| Step::Wait(100 + e, n)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// What level-triggered waits report is what the sockets are ready for, and within as many waits as it takes, all of it.
    #[test]
    fn reports_agree_with_the_sockets(steps in prop::collection::vec(step(), 1..120)) {
        let mut st = state(4, 2);
        let mut model: BTreeMap<(u32, u32), u32> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Write(id, n) => { let _ = st.write_pipe(id, &vec![0; n]); }
                Step::Read(id, n) => { let _ = st.read_pipe(id, &mut vec![0; n], false); }
                Step::Control(epid, sock, op, events) => {
                    if st.check_epoll(epid, false).is_err() || st.sockets.get(sock).is_none() {
                        continue;
                    }
                    let change = [Change::Add(events, u64::from(sock)), Change::Modify(events, u64::from(sock)), Change::Delete];
                    if st.control(epid, sock, change[op as usize]).is_ok() {
                        if op == 2 { model.remove(&(epid, sock)); } else { model.insert((epid, sock), events); }
                    }
                }
                Step::Close(id) => {
                    close(&mut st, id);
                    model.retain(|&(e, s), _| e != id && s != id);
                }
                Step::Wait(epid, most) => {
                    let expected = |st: &State| -> Vec<(u64, u32)> {
                        let mut all = Vec::new();
                        for (&(e, sock), &events) in &model {
                            let ready = st.readiness(sock);
                            let bits = ready & (events | ERR);
                            let bits = if bits & ERR != 0 { ERR } else { bits };
                            if e == epid {
                                all.extend(REPORTED.iter().filter(|&&b| bits & b != 0).map(|&b| (u64::from(sock), b)));
                            }
                        }
                        all.sort_unstable();
                        all
                    };
                    let want = expected(&st);
                    let got = reported(&mut st, epid, most);
                    prop_assert!(got.iter().all(|g| want.contains(g)), "{:?} of {:?}", got, want);
                    prop_assert_eq!(got.is_empty(), want.is_empty());
                    let mut seen = got;
                    for _ in 0..want.len() * 2 {
                        seen.extend(reported(&mut st, epid, most));
                    }
                    seen.sort_unstable();
                    seen.dedup();
                    prop_assert_eq!(seen, want);
                }
            }
        }
    }
}
