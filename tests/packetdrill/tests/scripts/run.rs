//! Runs a script against the adapter through its table, as packetdrill would: calls that block on a second thread, time and
//! packets from the table's functions.

use crate::calls::{Done, Table, check_result, check_stored, descriptors, invoke, makes};
use crate::packets::Wire;
use crate::parse::{Call, Moment, Result, Script, Step, What};
use crate::value::Arg;
use libc::c_int;
use mos_packetdrill::table::{Interface, packetdrill_interface_init};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::mpsc;
use std::time::Duration;

/// packetdrill's own default, µs.
const TOLERANCE: i64 = 4000;
pub const LOCAL: [u8; 4] = [192, 168, 0, 1];
pub const REMOTE: [u8; 4] = [192, 0, 2, 1];
pub const PORT: u16 = 8080;

pub struct Run {
    pub table: Table,
    pub origin: i64,
    /// How early or late things may be, µs.
    pub tolerance: i64,
    pub wire: Wire,
    /// A socket has begun to listen: the next SYN is of a new connection.
    pub listens: bool,
    /// Connections made so.
    pub made: u16,
    /// Where the last packet of ours began.
    pub sent: u32,
    /// All that the script writes are zeros.
    pub zeros: bool,
    /// Descriptors, by the script's number.
    fds: BTreeMap<i64, c_int>,
    /// Timestamps we sent, by the script's value.
    pub stamps: BTreeMap<u32, u32>,
    blocked: Option<Blocked>,
}

/// A call in progress on the other thread.
struct Blocked {
    line: usize,
    ends: i64,
    done: mpsc::Receiver<(Done, i64)>,
    call: Call,
}

/// Runs a script; the error begins with its line.
pub fn run(script: Script, flags: &str) -> Result<()> {
    let flags = CString::new(flags).map_err(|_| "flags?")?;
    let mut table = std::mem::MaybeUninit::<Interface>::zeroed();
    // SAFETY: a string, and room for a table.
    let table = unsafe {
        packetdrill_interface_init(flags.as_ptr(), table.as_mut_ptr());
        Table(table.assume_init())
    };
    let option = |name: &str| script.options.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    let tolerance = option("tolerance_usecs").map(|value| value.parse().map_err(|_| "tolerance_usecs?"));
    let text = |arg: &Arg| matches!(arg, Arg::Text(_));
    let writes_text = |step: &Step| matches!(&step.what, What::Call(call) if call.args.iter().any(text));
    let mut run = Run {
        table,
        origin: 0,
        tolerance: tolerance.transpose()?.unwrap_or(TOLERANCE),
        wire: Wire::passive(0),
        listens: false,
        made: 0,
        sent: 0,
        zeros: !script.steps.iter().any(writes_text),
        fds: BTreeMap::new(),
        stamps: BTreeMap::new(),
        blocked: None,
    };
    run.origin = run.now()?;
    let mut outcome = Ok(());
    for step in script.steps {
        let line = step.line;
        outcome = run.step(step).map_err(|why| format!("{line}: {why}"));
        if outcome.is_err() {
            break;
        }
    }
    if outcome.is_ok() {
        outcome = run.finished(true);
        // As packetdrill does with what a script leaves open.
        for fd in run.fds.values() {
            // SAFETY: no memory is involved.
            if unsafe { libc::close(*fd) } != 0 && outcome.is_ok() {
                outcome = Err("end: a descriptor that cannot be closed".into());
            }
        }
    }
    if run.blocked.is_none() {
        // SAFETY: the table's own, for the last time: no call is in progress.
        unsafe { (table.0.free)(table.0.userdata) };
    }
    outcome
}

/// Scripts that say what is not so fail.
pub fn wrong_scripts_fail() -> Result<()> {
    let open = "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 bind(3, ..., ...) = 0\n+0 listen(3, 1) = 0\n\
        +0 < S 0:0(0) win 1000 <mss 1000>\n";
    let right =
        "+0 > S. 0:0(0) ack 1 <mss 1460>\n+.1 < . 1:1(0) ack 1 win 1000\n+0 accept(3, ..., ...) = 4\n";
    let check = |text: String| crate::parse::script(&text).and_then(|script| run(script, ""));
    check(format!("{open}{right}"))?;
    for wrong in [
        "+0 > S. 0:0(0) ack 2 <mss 1460>",
        "+0 > S. 0:0(0) ack 1 <mss 1000>",
        "+0 > S. 0:0(0) ack 1",
        "+0 > S. 0:0(0) ack 1 win 1 <...>",
        "+.5 > S. 0:0(0) ack 1 <...>",
        "+0 > . 0:0(0) ack 1 <...>",
        "+0 accept(3, ..., ...) = 4",
        "+0 close(3) = -1 EBADF",
        "+0 listen(3, 1) = -1",
        "+0~+.1 > S. 0:0(0) ack 2 <mss 1460>",
        "* > S. 0:0(0) ack 2 <...>",
        "--tolerance_usecs=100\n+.001 > S. 0:0(0) ack 1 <...>",
        "+0 > [ce] S. 0:0(0) ack 1 <...>",
        "+0 getsockopt(3, SOL_SOCKET, SO_TYPE, [2], [4]) = 0",
        "+0 `a command without end",
        "+0...0.1 accept(3, ..., ...) = 4\n+1 close(3) = 0",
    ] {
        if check(format!("{open}{wrong}")).is_ok() {
            return Err(format!("passed: {wrong}"));
        }
    }
    Ok(())
}

impl Run {
    fn now(&self) -> Result<i64> {
        let mut time = libc::timeval { tv_sec: 0, tv_usec: 0 };
        // SAFETY: room for a time.
        let result = unsafe {
            (self.table.0.gettimeofday)(self.table.0.userdata, &raw mut time, std::ptr::null_mut())
        };
        if result == 0 { Ok(time.tv_sec * 1_000_000 + time.tv_usec) } else { Err("gettimeofday".into()) }
    }

    fn step(&mut self, step: Step) -> Result<()> {
        let now = self.now()? - self.origin;
        let base = if step.when.is_some_and(|when| when.relative) { now } else { 0 };
        let moment = |when: Moment| (base + when.at, base + when.latest);
        // What may be at any time is now.
        let at = step.when.map_or(now, |when| moment(when).0);
        match step.what {
            What::Expect(packet) => self.expect(&packet, step.when.map(moment))?,
            What::Inject(packet) => {
                self.wait(at)?;
                self.inject(&packet)?;
            }
            What::Icmp(icmp) => {
                self.wait(at)?;
                self.icmp(&icmp)?;
            }
            What::Skipped => self.wait(at)?,
            What::Call(call) => {
                self.wait(at)?;
                self.finished(false)?;
                match step.ends {
                    Some(ends) => self.block(step.line, base + ends, call)?,
                    None => {
                        let live = self.prepare(&call)?;
                        // SAFETY: made of our own arguments.
                        let done = unsafe { invoke(self.table, &call.name, &live) };
                        self.check(&call, &done)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits like packetdrill: sleeps up to shortly before, and then looks at the clock until it is time.
    fn wait(&self, at: i64) -> Result<()> {
        loop {
            let left = at - (self.now()? - self.origin);
            if left <= 0 {
                return if left >= -self.tolerance { Ok(()) } else { Err(format!("late by {} µs", -left)) };
            }
            if left > 20 {
                // SAFETY: no memory is involved.
                unsafe { (self.table.0.usleep)(self.table.0.userdata, (left - 20) as libc::useconds_t) };
            }
        }
    }

    fn block(&mut self, line: usize, ends: i64, call: Call) -> Result<()> {
        self.finished(true)?;
        let (table, called, live) = (self.table, call.name.clone(), self.prepare(&call)?);
        let (tell, done) = mpsc::channel();
        let (told, tid) = mpsc::channel();
        std::thread::spawn(move || {
            let table = table;
            // SAFETY: no preconditions.
            let _ = told.send(unsafe { libc::gettid() });
            // SAFETY: made of our own arguments.
            let done = unsafe { invoke(table, &called, &live) };
            let mut time = libc::timeval { tv_sec: 0, tv_usec: 0 };
            // SAFETY: room for a time.
            unsafe { (table.0.gettimeofday)(table.0.userdata, &raw mut time, std::ptr::null_mut()) };
            let _ = tell.send((done, time.tv_sec * 1_000_000 + time.tv_usec));
        });
        let tid = tid.recv().map_err(|_| "no thread")?;
        // Until it sleeps or is over.
        while std::fs::read_to_string(format!("/proc/self/task/{tid}/stat"))
            .is_ok_and(|stat| !stat.contains(") S "))
        {
            std::thread::sleep(Duration::from_micros(50));
        }
        self.blocked = Some(Blocked { line, ends, done, call });
        Ok(())
    }

    /// Checks the blocked call, if it is over; `must`: it has to be, soon.
    fn finished(&mut self, must: bool) -> Result<()> {
        let Some(blocked) = &self.blocked else { return Ok(()) };
        let wait = Duration::from_millis(if must { 1000 } else { 0 });
        let Ok((done, at)) = blocked.done.recv_timeout(wait) else {
            return if must {
                Err(format!("the call of line {} still blocks", blocked.line))
            } else {
                Ok(())
            };
        };
        let Some(blocked) = self.blocked.take() else { return Ok(()) };
        let late = at - self.origin - blocked.ends;
        self.check(&blocked.call, &done)
            .map_err(|why| format!("the call of line {}: {why}", blocked.line))?;
        if late.abs() > self.tolerance {
            return Err(format!("the call of line {} ended {late} µs late", blocked.line));
        }
        Ok(())
    }

    /// A descriptor as it really is. A number that names nothing is not one of ours either.
    fn live(&self, fd: i64) -> i64 {
        if fd < 0 { fd } else { self.fds.get(&fd).copied().unwrap_or(10_000 + fd as c_int).into() }
    }

    /// The script's descriptors replaced by live ones.
    fn prepare(&self, call: &Call) -> Result<Vec<Arg>> {
        let live = |arg: &Arg| match arg {
            Arg::Number(fd) => Ok(Arg::Number(self.live(*fd))),
            _ => Err(format!("{arg:?}: descriptor?")),
        };
        let in_fields = |arg: &Arg| match arg {
            Arg::Fields(fields) => {
                let of = |(key, value): &(String, Arg)| {
                    Ok((key.clone(), if key == "fd" { live(value)? } else { value.clone() }))
                };
                Ok(Arg::Fields(fields.iter().map(of).collect::<Result<_>>()?))
            }
            _ => Ok(arg.clone()),
        };
        let mut out = call.args.clone();
        for &place in descriptors(&call.name) {
            let arg = out.get_mut(place).ok_or("a descriptor?")?;
            *arg = live(arg)?;
        }
        for arg in &mut out {
            *arg = match arg {
                Arg::List(list) => Arg::List(list.iter().map(in_fields).collect::<Result<_>>()?),
                _ => in_fields(arg)?,
            };
        }
        Ok(out)
    }

    /// Compares what a call gave with what the script says, and notes what it means.
    fn check(&mut self, call: &Call, done: &Done) -> Result<()> {
        check_result(call, done)?;
        if done.result < 0 {
            return Ok(());
        }
        match (&*call.name, &call.args[..]) {
            ("listen", _) => self.listens = true,
            ("close", [Arg::Number(fd), ..]) => {
                self.fds.remove(fd);
            }
            ("pipe", [Arg::List(ends)]) => {
                for (end, live) in ends.iter().zip(&done.out) {
                    if let Arg::Number(end) = end {
                        self.fds.insert(*end, *live as c_int);
                    }
                }
            }
            _ => {}
        }
        if let Some(fd) = call.result.filter(|fd| *fd >= 0 && makes(&call.name)) {
            self.fds.insert(fd, done.result as c_int);
        }
        check_stored(call, done, |fd| self.live(fd))
    }
}
