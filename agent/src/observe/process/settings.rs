//! What a process that was found was told: its flags, the files that these name, and what reaches programs inside it.

use super::config::{self, Place};
use super::found::Found;
use super::kubelite;
use super::procfs::{Procfs, is_container, service};
use super::rancher::{self, Rancher};
use super::sources::Sources;
use super::told::{COMMAND_LINE, Told};
use crate::observe::root::HostRoot;
use crate::view::host::{Process, Program};

/// The process and those inside it, and the files that this rests on.
pub(super) fn read(found: &Found, procfs: &Procfs, host: &HostRoot) -> (Vec<Process>, Sources) {
    let container = found.group.as_deref().is_some_and(is_container);
    let seen = procfs.root(found.pid);
    let why = seen.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let place = Place {
        root: match &seen {
            Ok(root) => Ok(root),
            // A program that is not in a container has the host's files.
            Err(_) if !container => Ok(host),
            Err(_) => Err(why.as_str()),
        },
        container,
    };
    let mut shared = Sources::default();
    let mut processes = Vec::new();
    let mut all = Sources::default();
    for mut part in parts(found, &place, &mut shared) {
        let late = |sources: &Sources| {
            sources
                .written_after(found.started_at?)
                .map(|path| path.display().to_string())
        };
        // Only what rules hold against the Node must be in effect; kube-proxy does not hear of a ConfigMap that changed.
        if matches!(part.program, Program::Proxy | Program::ControllerManager)
            && let Some(path) = late(&part.sources).or_else(|| late(&shared))
        {
            part.told.problem(format!(
                "{path} was written after it started: what it says may not be in effect"
            ));
        }
        found.problem.iter().for_each(|why| part.told.problem(why.as_str()));
        processes.push(Process {
            program: part.program,
            embedded_in: (part.program != found.program).then_some(found.program),
            pid: found.pid,
            started_at: found.started_at,
            problem: part.told.problems(),
            settings: part.told.settings,
        });
        all.add(part.sources);
    }
    all.add(shared);
    (processes, all)
}

/// A program of a process: the process's own, or one inside it.
pub(super) struct Part {
    pub program: Program,
    pub told: Told,
    /// The files that it alone was told by.
    pub sources: Sources,
}

impl Part {
    pub(super) fn new(program: Program, told: Told) -> Self {
        Self {
            program,
            told,
            sources: Sources::default(),
        }
    }
}

/// `shared` becomes the files that all parts were told by.
fn parts(found: &Found, place: &Place<'_>, shared: &mut Sources) -> Vec<Part> {
    let mut own = Part::new(found.program, Told::default());
    own.told.words(found.program, &found.words, COMMAND_LINE);
    let mut all = match (found.program, place.root) {
        (Program::K3s | Program::Rke2 | Program::Kubelite, Err(why)) => {
            own.told.problem(why);
            vec![own]
        }
        (Program::K3s | Program::Rke2, Ok(root)) => {
            let rancher = Rancher {
                program: found.program,
                words: &found.words,
                service: found.group.as_deref().and_then(service),
            };
            let read = rancher::read(&rancher, root, shared).into_iter();
            read.map(|(program, told)| Part::new(program, told)).collect()
        }
        (Program::Kubelite, Ok(root)) => {
            let mut all = kubelite::read(&own.told, root);
            all.insert(0, own);
            all
        }
        _ => vec![own],
    };
    for part in &mut all {
        match part.program {
            Program::Kubelet => config::kubelet(&mut part.told, place, &mut part.sources),
            Program::Proxy => config::proxy(&mut part.told, place, &mut part.sources),
            _ => {}
        }
    }
    all
}
