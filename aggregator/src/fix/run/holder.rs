//! Who runs a fix, and whether that is known to be over.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// "user@host", for people.
    pub who: String,
    /// Its number.
    pub pid: u32,
    /// Where that number means it; `None`: nothing of the kind is known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// What makes a process id unique: proc(5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// The PID namespace, `/proc/self/ns/pid`.
    pub namespace: String,
    /// When the process was started, in ticks since boot.
    pub started: u64,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.who, self.pid)
    }
}

impl Holder {
    /// This process.
    pub fn this() -> Self {
        let pid = std::process::id();
        let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
        Self {
            who: format!(
                "{}@{}",
                user.unwrap_or_else(|_| "somebody".to_owned()),
                host.as_deref().map_or("somewhere", str::trim)
            ),
            pid,
            place: here(pid),
        }
    }

    /// Whether it is known to have ended: it ran where this process runs, and is not there any more.
    pub fn gone(&self) -> bool {
        let (Some(place), Some(mine)) = (&self.place, here(std::process::id())) else {
            return false;
        };
        let same = place.boot == mine.boot && place.namespace == mine.namespace;
        same && started(self.pid) != Some(place.started)
    }
}

fn here(pid: u32) -> Option<Place> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(Place {
        boot: boot.trim().to_owned(),
        namespace: namespace.to_string_lossy().into_owned(),
        started: started(pid)?,
    })
}

/// Field 22 of `/proc/PID/stat`; `None`: there is no such process, or only its remains.
fn started(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may have anything in it.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_runs_is_there_and_who_has_ended_is_not() {
        let me = Holder::this();
        assert!(me.place.is_some() && !me.gone(), "{me:?}");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let other = Holder {
            pid: child.id(),
            place: here(child.id()),
            ..me.clone()
        };
        assert!(!other.gone());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(other.gone());
        // Its number may be another's by now.
        let reused = Holder {
            pid: me.pid,
            ..other.clone()
        };
        assert!(reused.gone());
        // Nothing is known of other machines.
        let elsewhere = Holder {
            place: other.place.clone().map(|place| Place {
                boot: "another".to_owned(),
                ..place
            }),
            ..other
        };
        assert!(!elsewhere.gone());
    }
}
