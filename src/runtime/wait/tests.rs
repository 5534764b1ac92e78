use super::*;
use crate::config::{Config, Mos};
use crate::endpoint::epoll::Change;
use crate::endpoint::events::IN;
use crate::endpoint::socket::Wishes;
use crate::io::source::Source;
use crate::monitor::state::ForeignCalls;
use crate::net::output::Path;
use crate::net::route::Hop;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Barrier;
use std::sync::atomic::AtomicU32;
use std::thread;

fn context() -> Arc<Context> {
    let config = Arc::new(Config { apps: Vec::new(), mos: Mos::default() });
    let calls = ForeignCalls { callback: |_, _, _, _, _, _| {}, filter: |_, _, _, _, _, _| false };
    Arc::new(Context::detached(0, config, calls, Source::none(Vec::new())))
}

/// A call from another thread, as `enter::locked` makes it.
fn call<R>(c: &Context, work: impl FnOnce(&Context, &mut Token) -> R) -> R {
    with_token(c, |t| {
        let result = work(c, t);
        c.waits.deliver(c, t);
        result
    })
}

fn pipe(c: &Context) -> [u32; 2] {
    call(c, |c, t| c.endpoint.pipe(&c.monitor, t)).expect("ids")
}

fn write(c: &Context, id: u32, bytes: &[u8]) -> Result<Option<usize>> {
    call(c, |c, t| c.endpoint.state(t).write_pipe(id, bytes))
}

fn until(until: Option<Instant>) -> Patience {
    Patience { until, polls_first: true }
}

fn read(c: &Context, id: u32, out: &mut [u8], end: Option<Instant>) -> Result<Option<usize>> {
    wait(c, id, until(end), |c, t| {
        Ok(c.endpoint.state(t).read_pipe(id, out, false)?.map_or(Look::Later, Look::Done))
    })
}

fn epoll(c: &Context, id: u32, end: Option<Instant>) -> Result<Option<u64>> {
    wait(c, id, until(end), |c, t| {
        let mut seen = 0;
        let count = c.endpoint.state(t).report(id, 1, |_, _, data| seen = data);
        Ok(if count > 0 { Look::Done(seen) } else { Look::Later })
    })
}

/// Waits until so many threads sleep.
fn asleep(c: &Context, count: u32) {
    while call(c, |c, t| c.endpoint.view(t).sleepers) != count {
        thread::sleep(Duration::from_millis(1));
    }
}

fn nobody_is_left(c: &Context) {
    assert_eq!(call(c, |c, t| c.endpoint.view(t).sleepers), 0);
    assert!(c.waits.sleepers.lock().is_empty());
}

#[test]
fn a_reader_wakes_when_bytes_come() {
    let c = context();
    let [r, w] = pipe(&c);
    thread::scope(|s| {
        let reader = s.spawn(|| {
            let mut out = [0; 8];
            read(&c, r, &mut out, None).map(|n| out[..n.expect("no time-out")].to_vec())
        });
        asleep(&c, 1);
        assert_eq!(write(&c, w, b"hello"), Ok(Some(5)));
        assert_eq!(reader.join().expect("no panic"), Ok(b"hello".to_vec()));
    });
    nobody_is_left(&c);
}

#[test]
fn time_runs_out() {
    let c = context();
    let [r, _w] = pipe(&c);
    let begin = Instant::now();
    assert_eq!(read(&c, r, &mut [0; 8], deadline(30)), Ok(None));
    assert!(begin.elapsed() >= Duration::from_millis(30));
    assert_eq!(read(&c, r, &mut [0; 8], deadline(0)), Ok(None));
    assert_eq!(deadline(-1), None);
    nobody_is_left(&c);
}

#[test]
fn what_ends_a_wait_early() {
    let c = context();
    fn errno<R>(e: i32) -> Result<R> {
        Err(Errno(e))
    }
    // SIGINT reaches all that wait.
    let ends = [pipe(&c)[0], pipe(&c)[0]];
    thread::scope(|s| {
        let waiting = ends.map(|id| {
            let c = &c;
            s.spawn(move || read(c, id, &mut [0; 8], None))
        });
        asleep(&c, 2);
        c.waits.interrupt();
        for w in waiting {
            assert_eq!(w.join().expect("no panic"), errno(libc::EINTR));
        }
    });
    // Another thread closes the socket, whose id is then used again.
    let object = call(&c, |c, t| c.endpoint.epoll_create(&c.monitor, t)).expect("id");
    thread::scope(|s| {
        let waiter = s.spawn(|| epoll(&c, object, None));
        asleep(&c, 1);
        call(&c, |c, t| {
            assert_eq!(c.endpoint.close(&c.monitor, t, object), Some(Ok(())));
            c.endpoint.state(t).sockets.put(object, crate::endpoint::socket::Kind::Epoll(Default::default()))
        })
        .expect("room");
        assert_eq!(waiter.join().expect("no panic"), errno(libc::EBADF));
    });
    // The context ends.
    thread::scope(|s| {
        let waiter = s.spawn(|| epoll(&c, object, None));
        asleep(&c, 1);
        c.request_stop();
        assert_eq!(waiter.join().expect("no panic"), errno(libc::EINTR));
    });
    assert_eq!(epoll(&c, object, None), errno(libc::EINTR), "nor does a wait begin");
    nobody_is_left(&c);
}

#[test]
fn two_wait_for_one_object() {
    let c = context();
    let [r, w] = pipe(&c);
    let object = call(&c, |c, t| c.endpoint.epoll_create(&c.monitor, t)).expect("id");
    call(&c, |c, t| c.endpoint.state(t).control(object, r, Change::Add(IN, 42))).expect("added");
    thread::scope(|s| {
        let waiting = [0, 1].map(|_| s.spawn(|| epoll(&c, object, None)));
        asleep(&c, 2);
        assert_eq!(write(&c, w, b"x"), Ok(Some(1)));
        // Level-triggered, and nobody reads: both hear of it.
        for w in waiting {
            assert_eq!(w.join().expect("no panic"), Ok(Some(42)));
        }
    });
    nobody_is_left(&c);
}

/// Many writers and readers over few pipes, readers through their own epoll objects or straight, with interrupts throughout:
/// every byte arrives, and nobody sleeps for ever.
#[test]
fn no_wake_up_is_lost() {
    const PAIRS: usize = 4;
    const BYTES: u32 = 60_000;
    let c = context();
    let barrier = Barrier::new(3 * PAIRS);
    let over = AtomicU32::new(0);
    thread::scope(|s| {
        for pair in 0..PAIRS {
            let [r, w] = pipe(&c);
            let left = Arc::new(AtomicU32::new(2 * BYTES));
            for writer in 0..2 {
                let (c, barrier, over) = (&c, &barrier, &over);
                s.spawn(move || {
                    barrier.wait();
                    let mut rest = BYTES as usize;
                    while rest > 0 {
                        let chunk = [writer; 777];
                        let part = &chunk[..rest.min(777)];
                        let put = wait(c, w, Patience::ENDLESS, |c, t| {
                            Ok(c.endpoint.state(t).write_pipe(w, part)?.map_or(Look::Later, Look::Done))
                        });
                        match put {
                            Ok(n) => rest -= n.expect("no time-out"),
                            Err(e) => assert_eq!(e, Errno(libc::EINTR)),
                        }
                    }
                    over.fetch_add(1, Ordering::AcqRel);
                });
            }
            let (c, barrier, over) = (&c, &barrier, &over);
            s.spawn(move || {
                let object = call(c, |c, t| c.endpoint.epoll_create(&c.monitor, t)).expect("id");
                call(c, |c, t| c.endpoint.state(t).control(object, r, Change::Add(IN, 1))).expect("added");
                barrier.wait();
                while left.load(Ordering::Acquire) > 0 {
                    if pair % 2 == 0
                        && let Err(e) = epoll(c, object, None)
                    {
                        assert_eq!(e, Errno(libc::EINTR));
                    }
                    let mut out = [0; 1000];
                    match read(c, r, &mut out, if pair % 2 == 0 { deadline(0) } else { None }) {
                        Ok(n) => {
                            left.fetch_sub(n.unwrap_or(0) as u32, Ordering::AcqRel);
                        }
                        Err(e) => assert_eq!(e, Errno(libc::EINTR)),
                    }
                }
                over.fetch_add(1, Ordering::AcqRel);
            });
        }
        let begin = Instant::now();
        while over.load(Ordering::Acquire) < 3 * PAIRS as u32 {
            thread::sleep(Duration::from_millis(1));
            // Half of the time without, so that a lost wake-up is not helped along.
            if (begin.elapsed().as_millis() / 20).is_multiple_of(2) {
                c.waits.interrupt();
            }
            if begin.elapsed() > Duration::from_secs(30) {
                c.request_stop();
                panic!("somebody sleeps for ever");
            }
        }
    });
    nobody_is_left(&c);
}

/// Whoever polls sleeps until there is something to do: a call that leaves a segment to be sent wakes it, whether it returns or
/// goes on to wait.
#[test]
fn what_a_call_leaves_to_be_sent_wakes_who_polls() {
    let c = context();
    let sock = call(&c, |c, t| c.endpoint.socket(&c.monitor, t)).expect("an id");
    let end = |n: u8| SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, n), 4000);
    let path = Path { hop: Hop { port: 0, addr: *end(2).ip() }, source: None, mtu: 1500 };
    let slept = || {
        let begin = Instant::now();
        c.sleeper.sleep(&mut Vec::new(), &[], Duration::from_millis(300));
        begin.elapsed() >= Duration::from_millis(300)
    };
    let connect = |t: &mut Token, n| {
        let stack = c.endpoint.state(t).stack_mut().expect("made with the socket");
        stack.connect(sock, end(n), end(2), &path, &Wishes::default()).expect("memory");
    };
    c.sleeper.note();
    assert_eq!(wait(&c, sock, Patience::ENDLESS, |_, _| Ok(Look::Done(()))), Ok(Some(())));
    assert!(slept(), "there is nothing to do");
    let done = wait(&c, sock, Patience::ENDLESS, |_, t| {
        connect(t, 3);
        Ok(Look::Done(()))
    });
    assert_eq!(done, Ok(Some(())));
    assert!(!slept());
    c.sleeper.note();
    let mut begun = false;
    let late = wait(&c, sock, Patience { until: deadline(10), polls_first: false }, |_, t| {
        if !std::mem::replace(&mut begun, true) {
            connect(t, 4);
        }
        Ok(Look::<()>::Later)
    });
    assert_eq!(late, Ok(None));
    assert!(!slept());
}
