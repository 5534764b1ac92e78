use super::super::core_loop::with_token;
use super::super::live_loop;
use super::super::wait::{Look, Patience, deadline, wait};
use super::*;
use crate::config::{Config, Mos};
use crate::io::live::{Live, LiveDevice};
use crate::io::memory::Cable;
use crate::io::source::Source;
use crate::monitor::state::ForeignCalls;
use crate::monitor::{Errno, Result};
use std::sync::Arc;
use std::thread;

fn context() -> Arc<Context> {
    let config = Arc::new(Config { apps: Vec::new(), mos: Mos::default() });
    let calls = ForeignCalls { callback: |_, _, _, _, _, _| {}, filter: |_, _, _, _, _, _| false };
    let device = LiveDevice::new(0, true, Box::new(Cable::default().device(false)));
    Arc::new(Context::detached(0, config, calls, Source::live(Live::new(vec![device]), Vec::new())))
}

fn pipe(c: &Context) -> [u32; 2] {
    with_token(c, |t| c.endpoint.pipe(&c.monitor, t)).expect("ids")
}

/// A write from another thread, as `enter::locked` makes it.
fn write(c: &Context, id: u32, bytes: &[u8]) {
    with_token(c, |t| {
        assert_eq!(c.endpoint.state(t).write_pipe(id, bytes), Ok(Some(bytes.len())));
        c.waits.deliver(c, t);
    });
    c.sleeper.wake();
}

fn read(c: &Context, id: u32, until: Option<Instant>) -> Result<Option<usize>> {
    let mut out = [0; 1];
    wait(c, id, Patience { until, polls_first: false }, |c, t| {
        Ok(c.endpoint.state(t).read_pipe(id, &mut out, false)?.map_or(Look::Later, Look::Done))
    })
}

#[test]
fn a_thread_that_waits_alone_polls() {
    let c = context();
    let [r, w] = pipe(&c);
    thread::scope(|s| {
        let core = s.spawn(|| live_loop::run(&c));
        assert_eq!(read(&c, r, deadline(50)), Ok(None));
        assert!(c.waits.turns.count.load(Ordering::Relaxed) > 0 && !c.waits.turns.is_taken());
        // It is woken from its rounds by another thread's write, and by the context's end.
        let waiter = s.spawn(|| (read(&c, r, None), read(&c, r, None)));
        while !c.waits.turns.is_taken() {
            thread::yield_now();
        }
        write(&c, w, b"x");
        while with_token(&c, |t| c.endpoint.view(t).readiness(r)) != 0 {
            thread::yield_now();
        }
        c.request_stop();
        assert_eq!(waiter.join().expect("no panic"), (Ok(Some(1)), Err(Errno(libc::EINTR))));
        core.join().expect("no panic");
    });
    assert!(!c.waits.turns.is_taken());
}

#[test]
fn the_core_resumes_when_nobody_polls() {
    let c = context();
    let [r, _w] = pipe(&c);
    thread::scope(|s| {
        s.spawn(|| live_loop::run(&c));
        for _ in 0..5 {
            assert_eq!(read(&c, r, deadline(2)), Ok(None));
            let begin = Instant::now();
            while !c.waits.turns.own.load(Ordering::SeqCst) {
                assert!(begin.elapsed() < Duration::from_secs(5), "the core's thread stays away");
                thread::yield_now();
            }
        }
        c.request_stop();
    });
}

/// Three pairs of threads that play ping-pong: whoever waits polls, sleeps, is woken or hands over, and nobody is forgotten. The
/// core's own thread comes and goes meanwhile.
#[test]
fn turns_are_handed_on() {
    const ROUNDS: u32 = 3000;
    let c = context();
    let begin = Instant::now();
    thread::scope(|s| {
        s.spawn(|| live_loop::run(&c));
        let players: Vec<_> = (0..3)
            .flat_map(|_| {
                let (ping, pong) = (pipe(&c), pipe(&c));
                let c = &c;
                let play = move |from: u32, to: u32, first: bool| {
                    s.spawn(move || {
                        for n in 0..ROUNDS {
                            if first || n > 0 {
                                write(c, to, b"x");
                            }
                            let until = Some(Instant::now() + Duration::from_secs(20));
                            assert_eq!(read(c, from, until), Ok(Some(1)), "forgotten in round {n}");
                            if n % 500 == 0 {
                                // Time for the core's thread to notice that nobody polls.
                                thread::sleep(Duration::from_millis(2));
                            }
                        }
                        if !first {
                            write(c, to, b"x");
                        }
                    })
                };
                [play(pong[0], ping[1], true), play(ping[0], pong[1], false)]
            })
            .collect();
        for player in players {
            player.join().expect("no panic");
        }
        c.request_stop();
    });
    assert!(begin.elapsed() < Duration::from_secs(60));
    assert_eq!(with_token(&c, |t| c.endpoint.view(t).sleepers), 0);
}
