//! Threads that sleep in a call are woken when there is something to look at.

use crate::lab::Lab;
use mos::config::Mos;
use mos::endpoint::socket::Wishes;

/// Somebody sleeps, and hears of nothing that was before.
fn sleep(lab: &Lab) {
    lab.nodes[0].on(|st| {
        st.sleepers = 1;
        st.clear_woken();
    });
}

/// A connection that is closed at host 0, with some seconds to linger.
fn lingering(lab: &mut Lab, server_closes: bool) -> u32 {
    let listener = lab.nodes[1].listen(80, 10);
    let [c, s] = lab.connected(listener);
    lab.run(100_000);
    let wishes = Wishes { linger: Some(5), ..Wishes::default() };
    lab.nodes[0].on(|st| st.set_wishes(c, wishes)).expect("a stream");
    sleep(lab);
    if server_closes {
        assert_eq!(lab.nodes[1].close(s), Ok(()));
    }
    assert_eq!(lab.nodes[0].on(|st| st.begin_to_linger(c)), Some(5));
    c
}

/// A read of another thread ends when the socket is closed, however long the close itself takes.
#[test]
fn a_close_that_lingers_ends_other_calls() {
    let mut lab = Lab::with_buffers(8192);
    let c = lingering(&mut lab, false);
    assert!(!lab.nodes[0].on(|st| st.has_lingered(c)));
    assert!(lab.nodes[0].on(|st| st.is_woken(c)));
    assert_eq!(lab.nodes[0].read(c, &mut [0; 4]), Ok(Some(0)));
}

/// All is acknowledged, whichever way the states go: the close that waits for it hears.
#[test]
fn a_close_that_lingers_hears_of_the_last_acknowledgment() {
    for server_closes in [false, true] {
        // Without TIME_WAIT the end of the connection would tell.
        let mut lab = Lab::new(Mos { tcp_tw_interval: 10, tcp_timeout: 0, ..Mos::default() }, |_| {});
        let c = lingering(&mut lab, server_closes);
        while !lab.nodes[0].on(|st| st.has_lingered(c)) {
            sleep(&lab);
            assert!(lab.step(), "both closed: {server_closes}");
        }
        assert!(lab.nodes[0].on(|st| st.is_woken(c)), "both closed: {server_closes}");
    }
}
