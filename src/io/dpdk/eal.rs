//! EAL, DPDK's runtime environment: begun once a process, ended once.
//!
//! DPDK has one configuration for the whole process and cannot begin again after it ended. EAL pins the thread that begins
//! it and would keep one thread for each of its lcores; it is given one lcore, the calling thread, which gets its cores
//! back. The threads that poll are ours (`thread`).

use super::reason;
use crate::config::split_args;
use parking_lot::Mutex;
use std::ffi::{CStr, CString, c_char};
use std::sync::atomic::{AtomicBool, Ordering};

/// Words of a command line that are looked at.
const MAX_WORDS: usize = 256;

/// What EAL is to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// As in `dpdk { eal = "…" }`. `MOS_EAL_ARGS` in the environment takes its place.
    pub text: String,
    /// Memory channels (`nb_mem_channels`); 0: EAL finds out.
    pub channels: i32,
}

/// Where the process stands.
enum State {
    /// Not begun, or begun in vain.
    Idle,
    /// Up, with these words.
    Up(Vec<String>),
    /// Ended: not to be had again.
    Over,
}

static STATE: Mutex<State> = Mutex::new(State::Idle);

/// Packets and threads may be given back to DPDK.
static ALIVE: AtomicBool = AtomicBool::new(false);

/// Whether DPDK is up.
pub(super) fn alive() -> bool {
    ALIVE.load(Ordering::Acquire)
}

/// Begins EAL, unless it is up.
///
/// # Errors
/// A line that says what EAL was told and why it failed.
pub(super) fn begin(arguments: &Arguments) -> Result<(), String> {
    let text = std::env::var("MOS_EAL_ARGS").unwrap_or_else(|_| arguments.text.clone());
    let words = words_of(&text, arguments.channels, first_core())?;
    let mut state = STATE.lock();
    match &*state {
        State::Up(before) if *before == words => return Ok(()),
        State::Up(before) => {
            log::warn!("EAL is up already, as '{}': '{}' has no effect", before.join(" "), words.join(" "));
            return Ok(());
        }
        State::Over => {
            return Err("DPDK was shut down by mtcp_destroy(): a process can use it once only".to_owned());
        }
        State::Idle => {}
    }
    let pinned = Affinity::of_this_thread();
    let outcome = initialise(&words);
    drop(pinned);
    outcome.map_err(|why| format!("EAL cannot begin with '{}': {why}", words[1..].join(" ")))?;
    ALIVE.store(true, Ordering::Release);
    // SAFETY: a constant C string.
    let version = unsafe { CStr::from_ptr(dpdk_sys::rte_version()) };
    log::info!("{} with '{}'", version.to_string_lossy(), words[1..].join(" "));
    *state = State::Up(words);
    Ok(())
}

/// Closes the ports and ends EAL, if it is up. Nothing may use a port any more.
pub fn shut_down() {
    let mut state = STATE.lock();
    if !matches!(*state, State::Up(_)) {
        return;
    }
    super::port::close_all();
    super::thread::leave();
    ALIVE.store(false, Ordering::Release);
    // SAFETY: EAL is up; no port is open and no thread of ours registered.
    let code = unsafe { dpdk_sys::rte_eal_cleanup() };
    if code < 0 {
        log::warn!("EAL did not end cleanly: {}", reason(code));
    }
    *state = State::Over;
}

fn initialise(words: &[String]) -> Result<(), String> {
    let mut argv = Vec::new();
    for word in words {
        let word = CString::new(word.as_str()).map_err(|_| "a word holds a NUL byte".to_owned())?;
        // EAL keeps pointers into the words and may reorder them: they stay for good.
        argv.push(word.into_raw());
    }
    argv.push(std::ptr::null_mut());
    let argv: &'static mut [*mut c_char] = argv.leak();
    // SAFETY: `argv` holds C strings and a NULL at the end, and is never freed. Nothing else runs EAL (`STATE` is locked).
    let code = unsafe {
        dpdk_sys::shim_log_to_stderr();
        dpdk_sys::shim_eal_init(words.len() as i32, argv.as_mut_ptr())
    };
    if code >= 0 {
        return Ok(());
    }
    // SAFETY: no preconditions.
    let errno = unsafe { dpdk_sys::shim_errno() };
    let hint = match errno {
        libc::EACCES | libc::EPERM => " (root, or access to /dev/hugepages and the devices, is needed)",
        libc::ENOMEM => " (huge pages missing? reserve some, or use --no-huge -m 512)",
        _ => " (EAL's own messages are above)",
    };
    Err(format!("{}{hint}", reason(errno)))
}

/// The whole command line: what the user says, and for the rest what suits us.
fn words_of(text: &str, channels: i32, core: usize) -> Result<Vec<String>, String> {
    let user = split_args(text, MAX_WORDS);
    if user.iter().any(|w| asks_for_help(w)) {
        // EAL would print its options and end the process.
        return Err(format!("EAL arguments '{text}': help is not given here, see DPDK's EAL parameters"));
    }
    let has = |short: &str, long: &[&str]| {
        user.iter().any(|w| {
            let name = w.split('=').next().unwrap_or_default();
            (!short.is_empty() && w.starts_with(short)) || long.contains(&name)
        })
    };
    let mut words = vec!["mos".to_owned()];
    let cores_given = ["-c", "-l", "-s", "-S"].iter().any(|s| has(s, &["--lcores"]));
    if !cores_given {
        words.extend(["-l".to_owned(), core.to_string()]);
    }
    if channels > 0 && !has("-n", &[]) {
        words.extend(["-n".to_owned(), channels.to_string()]);
    }
    if !has("", &["--log-level"]) {
        let level = match log::max_level() {
            log::LevelFilter::Off => Some("critical"),
            log::LevelFilter::Error => Some("error"),
            log::LevelFilter::Warn => Some("warning"),
            log::LevelFilter::Info => Some("notice"),
            _ => None,
        };
        words.extend(level.map(|level| format!("--log-level={level}")));
    }
    words.extend(user);
    Ok(words)
}

/// Whether getopt would read `-h` or `--help` (which may be shortened as far as nothing else begins so) out of the word.
fn asks_for_help(word: &str) -> bool {
    if let Some(long) = word.strip_prefix("--") {
        return long.len() >= 2 && "help".starts_with(long);
    }
    let Some(letters) = word.strip_prefix('-') else { return false };
    // -v takes no value; the value of any other option fills the rest of the word.
    letters.trim_start_matches('v').starts_with('h')
}

/// The first core that this thread may run on.
fn first_core() -> usize {
    let set = affinity();
    // SAFETY: `n` is below the size of the set.
    (0..libc::CPU_SETSIZE as usize).find(|&n| unsafe { libc::CPU_ISSET(n, &set) }).unwrap_or(0)
}

fn affinity() -> libc::cpu_set_t {
    // SAFETY: a set of zeros is a valid one, and lives through the call.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set);
        set
    }
}

/// Gives the thread that made it its cores back.
struct Affinity(libc::cpu_set_t);

impl Affinity {
    fn of_this_thread() -> Self {
        Affinity(affinity())
    }
}

impl Drop for Affinity {
    fn drop(&mut self) {
        // SAFETY: the set is whole and lives through the call.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, channels: i32) -> String {
        let words = words_of(text, channels, 3).expect("accepted");
        words.into_iter().filter(|w| !w.starts_with("--log-level")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn one_lcore_unless_the_user_says_which() {
        assert_eq!(line("", 0), "mos -l 3");
        assert_eq!(line("--no-pci", 4), "mos -l 3 -n 4 --no-pci");
        for own in ["-l 0-1", "-c3", "--lcores=0", "--lcores 0@1", "-S 2"] {
            assert_eq!(line(own, 0), format!("mos {own}"));
        }
        assert_eq!(line("-n 2", 4), "mos -l 3 -n 2");
    }

    #[test]
    fn quotes_keep_a_word_together() {
        let words = words_of("--vdev 'net_pcap0,rx_pcap=/tmp/a b.pcap'", 0, 0).expect("accepted");
        assert_eq!(words.last().map(String::as_str), Some("net_pcap0,rx_pcap=/tmp/a b.pcap"));
    }

    #[test]
    fn nothing_that_makes_eal_exit_gets_there() {
        for word in ["-h", "--help", "--he", "-vh"] {
            assert!(words_of(word, 0, 0).is_err(), "{word}");
        }
        for word in ["-m 64", "--huge-unlink", "-v", "--huge-dir=/h", "-d/usr/lib/h.so"] {
            assert!(words_of(word, 0, 0).is_ok(), "{word}");
        }
    }
}
