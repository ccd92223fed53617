//! Who looks all the time sees what comes and goes meanwhile.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cidrift_lab::kubernetes::Deployed;
use cidrift_lab::kubernetes::deployed::id;
use serde_json::Value;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(150);

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Findings that were open at any time, but for information.
    pub(crate) open: BTreeSet<String>,
    /// How often it was answered.
    pub(crate) answers: usize,
    /// The longest time without an answer.
    pub(crate) dark: Duration,
    /// The last word of who could not ask.
    pub(crate) why: String,
}

/// Does `work` while somebody asks all the time; returns what came of it, and what was seen. The last question is
/// asked when the work is done.
pub(crate) fn watching<T>(who: &Deployed, work: impl FnOnce() -> T) -> (T, Seen) {
    let done = AtomicBool::new(false);
    let asked = |seen: &mut Seen, heard: &mut Instant| {
        match who.findings() {
            Ok(findings) => {
                let counts = |one: &&Value| one["state"] == "open" && one["severity"] != "info";
                seen.open
                    .extend(findings.iter().filter(counts).map(|one| id(one).to_owned()));
                seen.answers += 1;
                *heard = Instant::now();
            }
            Err(error) => seen.why = error.to_string(),
        }
        seen.dark = seen.dark.max(heard.elapsed());
    };
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let (mut seen, mut heard) = (Seen::default(), Instant::now());
            while !done.load(Ordering::Relaxed) {
                asked(&mut seen, &mut heard);
                std::thread::sleep(PAUSE);
            }
            asked(&mut seen, &mut heard);
            seen
        });
        // Also where the work fails: the scope waits for the watcher.
        let ended = Ends(&done);
        let result = work();
        drop(ended);
        (result, watcher.join().unwrap())
    })
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
